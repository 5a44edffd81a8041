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

use super::{OpenError, Seams, StoreUrl, make_folder_of};

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
pub async fn status_of(store: &StoreUrl) -> Result<StoreStatus, OpenError> {
    let home = home_of(store).await?;
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
pub async fn migrate(store: &StoreUrl) -> Result<LedgerId, OpenError> {
    if let StoreUrl::Postgres(url) = store {
        return Ok(postgres::migrate(url.expose(), &SystemClock, &SystemIds).await?);
    }
    let home = open(store, Arc::new(SystemIds)).await?;
    home.store.close().await;
    Ok(home.ledger_id)
}

/// The ledger that a store holds, which must be there.
pub async fn home_of(store: &StoreUrl) -> Result<Home, OpenError> {
    let is_there = match store {
        StoreUrl::Sqlite(path) => path.exists(),
        StoreUrl::Postgres(url) => postgres::holds_ledger(url.expose()).await?,
        StoreUrl::Memory => return Err(OpenError::NotKept),
    };
    if is_there {
        open(store, Arc::new(SystemIds)).await
    } else {
        Err(OpenError::NoLedger { store: store.to_string() })
    }
}

/// A store to copy the ledger of this id into: one that holds no ledger yet becomes its home.
pub async fn home_for(ledger: LedgerId, store: &StoreUrl) -> Result<Home, OpenError> {
    open(store, Arc::new(Named(ledger))).await
}

/// Gives a new store the id of a ledger that is there already.
struct Named(LedgerId);

impl Ids for Named {
    fn fresh(&self) -> Uuid {
        self.0.0
    }
}

async fn open(store: &StoreUrl, ids: Arc<dyn Ids>) -> Result<Home, OpenError> {
    match store {
        StoreUrl::Sqlite(path) => sqlite(path, ids).await,
        StoreUrl::Postgres(url) => {
            let options = PostgresOptions {
                url: url.expose().to_owned(),
                owner: Seams::real().owner,
                timings: OwnerTimings::default(),
                clock: Arc::new(SystemClock),
                ids,
                hook: None,
            };
            let store = PostgresStore::open(options).await?;
            Ok(Home { ledger_id: store.ledger_id(), sealed: Arc::new(PostgresSealed::new(store.clone())), store })
        }
        StoreUrl::Memory => Err(OpenError::NotKept),
    }
}

async fn sqlite(path: &Path, ids: Arc<dyn Ids>) -> Result<Home, OpenError> {
    make_folder_of(path)?;
    let options = SqliteOptions { path: path.to_owned(), clock: Arc::new(SystemClock), ids, hook: None };
    let store = SqliteStore::open(options).await?;
    Ok(Home { ledger_id: store.ledger_id(), sealed: Arc::new(SqliteSealed::new(store.clone())), store })
}
