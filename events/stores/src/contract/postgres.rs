//! A database of its own for each test: on the server that `LEASE_LEDGER_TEST_POSTGRES_URL` names (the address of a
//! superuser's database on it), or else on one that this process starts. It is gone with its value.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use lease_events::seam::{Ids, SystemClock, SystemIds};
use lease_events::store::EventStore;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Place;
use super::postgres_server::{Durability, PostgresServer};
use crate::postgres::{OwnerTimings, PostgresOptions, PostgresStore};

/// The variable that names a server to use.
pub const SERVER_URL: &str = "LEASE_LEDGER_TEST_POSTGRES_URL";

/// The server of this process, for as long as a test uses it.
static OWN: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());

/// A database of a test.
pub struct PostgresPlace {
    admin: String,
    database: String,
    _server: Option<Arc<PostgresServer>>,
}

impl Default for PostgresPlace {
    fn default() -> Self {
        Self::new()
    }
}

impl PostgresPlace {
    /// A new, empty database.
    #[must_use]
    pub fn new() -> Self {
        if let Ok(admin) = std::env::var(SERVER_URL) {
            return Self::make(admin, None);
        }
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        let server = own.upgrade().unwrap_or_else(|| {
            let started = PostgresServer::start(Durability::Fast);
            let server = Arc::new(started.expect("a PostgreSQL server can be started"));
            *own = Arc::downgrade(&server);
            server
        });
        Self::make(server.url("postgres"), Some(server))
    }

    /// A new, empty database on the server of this address of a superuser's database.
    #[must_use]
    pub fn on(admin: String) -> Self {
        Self::make(admin, None)
    }

    fn make(admin: String, server: Option<Arc<PostgresServer>>) -> Self {
        let database = format!("lease_ledger_test_{}", SystemIds.fresh().simple());
        let place = Self { admin, database, _server: server };
        place.administer(format!("CREATE DATABASE {}", place.database)).expect("a database can be made");
        place
    }

    /// The address of the database, as a superuser.
    #[must_use]
    pub fn url(&self) -> String {
        let (address, parameters) = self.admin.split_once('?').unwrap_or((&self.admin, ""));
        let server = address.rsplit_once('/').map_or(address, |(server, _)| server);
        let parameters = if parameters.is_empty() { String::new() } else { format!("?{parameters}") };
        format!("{server}/{}{parameters}", self.database)
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How to open its store, as another owner each time.
    #[must_use]
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions {
            url: self.url(),
            owner: SystemIds.fresh().to_string(),
            timings: OwnerTimings::default(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            hook: None,
        }
    }

    /// Its store, opened.
    pub async fn store(&self) -> Arc<PostgresStore> {
        PostgresStore::open(self.options()).await.expect("it opens")
    }

    /// A connection to the database, past the store.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("the database can be reached")
    }

    fn administer(&self, sql: String) -> Result<(), sqlx::Error> {
        let admin = self.admin.clone();
        apart(async move {
            let mut connection = PgConnection::connect(&admin).await?;
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        })
    }
}

impl Drop for PostgresPlace {
    fn drop(&mut self) {
        // A server that the test has stopped keeps it, and goes with it.
        let _dropped = self.administer(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database));
    }
}

#[async_trait]
impl Place for PostgresPlace {
    async fn open(&self) -> Arc<dyn EventStore> {
        self.store().await
    }
}

/// Runs what a test needs done wherever it stands, inside a runtime or not.
fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(work)
    });
    thread.join().expect("it does not panic")
}
