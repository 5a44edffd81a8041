//! Where a world keeps its events: a file, or a database that several servers share.

use std::path::Path;
use std::sync::Arc;

use lease_events::record::{Position, RecordedEvent};
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::{Direction, EventStore, READ_EVENTS_MAX};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};

#[cfg(feature = "kurrentdb")]
use super::event_server::EventServer;

/// How long an owner's sign of life counts in a world of the tests: a killed one's work is taken over after that.
const TIME_TO_LIVE: &str = "600ms";

/// What a world keeps its events in.
#[derive(Debug, Clone)]
pub(super) enum Keeping {
    /// A SQLite file in the data folder.
    Sqlite,
    /// A database of its own on the PostgreSQL server of the tests.
    Postgres,
    /// A database of its own on the server of this address, which a test stops and starts.
    PostgresAt(String),
    /// A server of `KurrentDB`'s protocol, and its mirror in a SQLite file in the data folder.
    #[cfg(feature = "kurrentdb")]
    Kurrent,
    /// A server of `KurrentDB`'s protocol, and its mirror in a database that several ledgers share.
    #[cfg(feature = "kurrentdb")]
    KurrentShared,
    /// This one, with a network that a test disturbs.
    #[cfg(feature = "kurrentdb")]
    KurrentAt(Arc<EventServer>),
}

/// The place of one world's events.
pub(super) enum Kept {
    File(std::path::PathBuf),
    Database(PostgresPlace),
    /// On a server that a test stops and starts.
    StoppedAtTimes(PostgresPlace),
    #[cfg(feature = "kurrentdb")]
    Streams(Arc<EventServer>, Option<PostgresPlace>),
}

impl Keeping {
    /// A new, empty place for the world with this data folder.
    pub(super) fn begin(self, data: &Path) -> Kept {
        match self {
            Self::Sqlite => Kept::File(data.join("ledger.db")),
            Self::Postgres => Kept::Database(PostgresPlace::new()),
            Self::PostgresAt(url) => Kept::StoppedAtTimes(PostgresPlace::on(url)),
            #[cfg(feature = "kurrentdb")]
            Self::Kurrent => Kept::Streams(Arc::new(EventServer::start()), None),
            #[cfg(feature = "kurrentdb")]
            Self::KurrentShared => Kept::Streams(Arc::new(EventServer::start()), Some(PostgresPlace::new())),
            #[cfg(feature = "kurrentdb")]
            Self::KurrentAt(server) => Kept::Streams(server, None),
        }
    }
}

impl Kept {
    /// The variables that a program finds it by.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::File(path) => vec![("LEASE_LEDGER_STORE", format!("sqlite:{}", path.display()))],
            Self::Database(place) | Self::StoppedAtTimes(place) => {
                vec![("LEASE_LEDGER_STORE", place.url()), ("LEASE_LEDGER_OWNER_TIME_TO_LIVE", TIME_TO_LIVE.to_owned())]
            }
            #[cfg(feature = "kurrentdb")]
            Self::Streams(server, mirror) => {
                let mut variables = vec![("LEASE_LEDGER_STORE", server.url())];
                if let Some(place) = mirror {
                    variables.push(("LEASE_LEDGER_PROJECTIONS", place.url()));
                    variables.push(("LEASE_LEDGER_OWNER_TIME_TO_LIVE", TIME_TO_LIVE.to_owned()));
                }
                variables
            }
        }
    }

    /// The whole log, read beside whoever serves it.
    pub(super) fn log(&self) -> Vec<RecordedEvent> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store: Arc<dyn EventStore> = match self {
                Self::File(path) => {
                    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
                    let options = SqliteOptions { path: path.clone(), clock, ids, hook: None };
                    SqliteStore::open(options).await.expect("the store opens")
                }
                Self::Database(place) | Self::StoppedAtTimes(place) => place.store().await,
                #[cfg(feature = "kurrentdb")]
                Self::Streams(server, _) => return server.log().await,
            };
            let mut log: Vec<RecordedEvent> = Vec::new();
            loop {
                let after = log.last().map_or(Position::START, |last| last.position);
                let page = store.read_all(after, Direction::Forwards, READ_EVENTS_MAX).await.expect("the log");
                if page.is_empty() {
                    store.close().await;
                    return log;
                }
                log.extend(page);
            }
        })
    }
}
