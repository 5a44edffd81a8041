//! Ledgers opened to be copied: their events and sealed secrets, and nothing that runs.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use lease_events::id::LedgerId;
use lease_events::record::Position;
use lease_events::seam::{Ids, SystemClock, SystemIds};
use lease_stores::copy::Home;
use lease_stores::postgres::{self, OwnerTimings, PostgresOptions, PostgresStore, Process, processes};
use lease_stores::sealed::{PostgresSealed, SqliteSealed};
use lease_stores::sql::SqlReader;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use uuid::Uuid;

#[cfg(feature = "kurrentdb")]
use super::kurrent::Server;
use super::sql::Role;
use super::{KurrentUrl, OpenError, PostgresUrl, Seams, Settings, StoreUrl, make_folder_of};

/// The SQL that makes the roles of docs/postgres.md.
pub const ROLES: &str = include_str!("../../migrations/postgres/roles.sql");

/// What a store holds, and who uses it.
pub struct StoreStatus {
    /// Which ledger it is.
    pub ledger_id: LedgerId,
    /// Its last position, which is the number of its events.
    pub head: Position,
    /// Sealed secret values.
    pub sealed: usize,
    /// The processes that use a database; a file does not say.
    pub processes: Vec<Process>,
}

/// What a store holds.
pub async fn status_of(settings: &Settings) -> Result<StoreStatus, OpenError> {
    let home = home_of(settings).await?;
    let unreadable = |cause: &dyn Display| OpenError::Unreadable { cause: cause.to_string() };
    let head = home.store.head().await.map_err(|error| unreadable(&error))?;
    let sealed = home.sealed.all().await.map_err(|error| unreadable(&error))?.len();
    let processes = match home.store.reader() {
        SqlReader::Postgres(pool) => processes(&pool).await.map_err(|error| unreadable(&error))?,
        SqlReader::Sqlite(_) => Vec::new(),
    };
    home.store.close().await;
    Ok(StoreStatus { ledger_id: home.ledger_id, head, sealed, processes })
}

/// Makes the tables of a store, or brings them to the newest format, and answers which ledger it is. Of a database only the
/// events' and the secrets' tables: those of the projections are made by whoever writes them.
pub async fn migrate(settings: &Settings) -> Result<LedgerId, OpenError> {
    if let StoreUrl::Postgres(url) = &settings.store {
        return Ok(postgres::migrate(url.expose(), &SystemClock, &SystemIds).await?);
    }
    let home = open(settings, Arc::new(SystemIds), Attach::IfNone).await?;
    home.store.close().await;
    Ok(home.ledger_id)
}

/// Makes the projections that are set those of the ledger on a KurrentDB server, in the place of the ones that it had, and
/// answers which ledger it is. Whoever uses the earlier ones appends nothing any more.
pub async fn attach(settings: &Settings) -> Result<LedgerId, OpenError> {
    let StoreUrl::Kurrent(_) = &settings.store else { return Err(OpenError::NothingToAttach) };
    let home = open(settings, Arc::new(SystemIds), Attach::Always).await?;
    home.store.close().await;
    Ok(home.ledger_id)
}

/// The ledger that a store holds, which must be there.
pub async fn home_of(settings: &Settings) -> Result<Home, OpenError> {
    let is_there = match &settings.store {
        StoreUrl::Sqlite(path) => path.exists(),
        StoreUrl::Postgres(url) => postgres::holds_ledger(url.expose()).await?,
        // The server is asked when it is opened.
        StoreUrl::Kurrent(_) => true,
        StoreUrl::Memory => return Err(OpenError::NotKept),
    };
    if is_there {
        open(settings, Arc::new(SystemIds), Attach::Never).await
    } else {
        Err(OpenError::NoLedger { store: settings.store.to_string() })
    }
}

/// A store to copy the ledger of this id into: one that holds no ledger yet becomes its home.
pub async fn home_for(ledger: LedgerId, settings: &Settings) -> Result<Home, OpenError> {
    if let StoreUrl::Kurrent(_) = &settings.store {
        return Err(OpenError::NotCopiedTo);
    }
    open(settings, Arc::new(Named(ledger)), Attach::Never).await
}

/// Gives a new store the id of a ledger that is there already.
pub(super) struct Named(pub(super) LedgerId);

impl Ids for Named {
    fn fresh(&self) -> Uuid {
        self.0.0
    }
}

/// Whether the projections that are set become those of a ledger on a KurrentDB server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attach {
    Never,
    IfNone,
    Always,
}

async fn open(settings: &Settings, ids: Arc<dyn Ids>, attach: Attach) -> Result<Home, OpenError> {
    match &settings.store {
        StoreUrl::Sqlite(path) => sqlite(path, Role::Log, ids).await,
        StoreUrl::Postgres(url) => postgres(url, Role::Log, ids).await,
        StoreUrl::Memory => Err(OpenError::NotKept),
        #[cfg(feature = "kurrentdb")]
        StoreUrl::Kurrent(url) => kurrent(url, settings, attach).await,
        #[cfg(not(feature = "kurrentdb"))]
        StoreUrl::Kurrent(_) => Err(OpenError::NotBuilt),
    }
}

/// The mirror of a server, which has all that the server has.
#[cfg(feature = "kurrentdb")]
async fn kurrent(url: &KurrentUrl, settings: &Settings, attach: Attach) -> Result<Home, OpenError> {
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let server = Server::reach(url, Arc::new(SystemClock), Arc::clone(&ids)).await?;
    if attach == Attach::Never && !server.holds_ledger() {
        return Err(OpenError::NoLedger { store: url.to_string() });
    }
    let ids = server.naming(&ids);
    let home = match &settings.projections {
        StoreUrl::Sqlite(path) => sqlite(path, Role::Mirror, ids).await?,
        StoreUrl::Postgres(url) => postgres(url, Role::Mirror, ids).await?,
        StoreUrl::Kurrent(_) | StoreUrl::Memory => return Err(OpenError::NoProjections),
    };
    // What comes later is not followed any more once this is dropped.
    server.follow(home.ledger_id, Arc::clone(&home.store), attach == Attach::Always).await?;
    Ok(home)
}

async fn postgres(url: &PostgresUrl, role: Role, ids: Arc<dyn Ids>) -> Result<Home, OpenError> {
    let options = PostgresOptions {
        url: url.expose().to_owned(),
        owner: Seams::real().owner,
        timings: OwnerTimings::default(),
        clock: Arc::new(SystemClock),
        ids,
        hook: None,
    };
    let store = match role {
        Role::Log => PostgresStore::open(options).await?,
        Role::Mirror => PostgresStore::open_any(options).await?,
    };
    Ok(Home { ledger_id: store.ledger_id(), sealed: Arc::new(PostgresSealed::new(store.clone())), store })
}

async fn sqlite(path: &Path, role: Role, ids: Arc<dyn Ids>) -> Result<Home, OpenError> {
    make_folder_of(path)?;
    let options = SqliteOptions { path: path.to_owned(), clock: Arc::new(SystemClock), ids, hook: None };
    let store = match role {
        Role::Log => SqliteStore::open(options).await?,
        Role::Mirror => SqliteStore::open_any(options).await?,
    };
    Ok(Home { ledger_id: store.ledger_id(), sealed: Arc::new(SqliteSealed::new(store.clone())), store })
}
