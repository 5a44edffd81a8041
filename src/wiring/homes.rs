//! Ledgers opened to be copied: their events and sealed secrets, and nothing that runs.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use lease_events::id::LedgerId;
use lease_events::record::Position;
use lease_events::seam::{Ids, SystemClock, SystemIds};
use lease_stores::copy::Home;
use lease_stores::postgres::{self, OwnerTimings, PostgresOptions, Process, processes};
use lease_stores::sealed::{PostgresSealed, SqliteSealed};
use lease_stores::sql::SqlReader;
use lease_stores::sqlite::SqliteOptions;
use uuid::Uuid;

#[cfg(not(feature = "kurrentdb"))]
use super::KurrentUrl;
#[cfg(feature = "kurrentdb")]
use super::kurrent::mirror_of;
use super::sql::Role;
use super::{OpenError, PostgresUrl, Seams, Settings, StoreUrl, make_folder_of};

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
    let home = match &settings.store {
        StoreUrl::Postgres(url) => return Ok(postgres::migrate(url.expose(), &SystemClock, &SystemIds).await?),
        StoreUrl::Kurrent(url) => mirror_of(url, settings, Attach::IfNone).await?,
        store => sql_home(store, Role::Log, Arc::new(SystemIds)).await?,
    };
    home.store.close().await;
    Ok(home.ledger_id)
}

/// Makes the projections that are set those of the ledger on a KurrentDB server, in the place of the ones that it had, and
/// answers which ledger it is. Whoever uses the earlier ones appends nothing any more.
pub async fn attach(settings: &Settings) -> Result<LedgerId, OpenError> {
    let StoreUrl::Kurrent(url) = &settings.store else { return Err(OpenError::NothingToAttach) };
    let home = mirror_of(url, settings, Attach::Always).await?;
    home.store.close().await;
    Ok(home.ledger_id)
}

/// The ledger that a store holds, which must be there.
pub async fn home_of(settings: &Settings) -> Result<Home, OpenError> {
    let is_there = match &settings.store {
        StoreUrl::Sqlite(path) => path.exists(),
        StoreUrl::Postgres(url) => postgres::holds_ledger(url.expose()).await?,
        StoreUrl::Kurrent(url) => return mirror_of(url, settings, Attach::Never).await,
        StoreUrl::Memory => return Err(OpenError::NotKept),
    };
    if is_there {
        sql_home(&settings.store, Role::Log, Arc::new(SystemIds)).await
    } else {
        Err(OpenError::NoLedger { store: settings.store.to_string() })
    }
}

/// A store to copy the ledger of this id into: one that holds no ledger yet becomes its home.
pub async fn home_for(ledger: LedgerId, store: &StoreUrl) -> Result<Home, OpenError> {
    match store {
        StoreUrl::Kurrent(_) => Err(OpenError::NotCopiedTo),
        store => sql_home(store, Role::Log, Arc::new(Named(ledger))).await,
    }
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
pub(super) enum Attach {
    Never,
    IfNone,
    Always,
}

/// A SQL store.
pub(super) async fn sql_home(store: &StoreUrl, role: Role, ids: Arc<dyn Ids>) -> Result<Home, OpenError> {
    match store {
        StoreUrl::Sqlite(path) => sqlite(path, role, ids).await,
        StoreUrl::Postgres(url) => postgres(url, role, ids).await,
        StoreUrl::Kurrent(_) | StoreUrl::Memory => Err(match role {
            Role::Log => OpenError::NotKept,
            Role::Mirror => OpenError::NoProjections,
        }),
    }
}

#[cfg(not(feature = "kurrentdb"))]
fn mirror_of(_: &KurrentUrl, _: &Settings, _: Attach) -> std::future::Ready<Result<Home, OpenError>> {
    std::future::ready(Err(OpenError::NotBuilt))
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
    let store = role.postgres(options).await?;
    Ok(Home { ledger_id: store.ledger_id(), sealed: Arc::new(PostgresSealed::new(store.clone())), store })
}

async fn sqlite(path: &Path, role: Role, ids: Arc<dyn Ids>) -> Result<Home, OpenError> {
    make_folder_of(path)?;
    let options = SqliteOptions { path: path.to_owned(), clock: Arc::new(SystemClock), ids, hook: None };
    let store = role.sqlite(options).await?;
    Ok(Home { ledger_id: store.ledger_id(), sealed: Arc::new(SqliteSealed::new(store.clone())), store })
}
