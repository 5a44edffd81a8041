//! What the stores in SQL databases have in common: one writer task a store, whose transactions take as many appends as
//! wait, and lend their connection to the [append hook](crate::append_hook) and to writer jobs.
//!
//! - `queue`: what waits for the writer, cut into turns.
//! - `batch`: which of the appends of a turn are taken.
//! - `subscribe`: the log as it grows.
//! - `import`: events of another store, written as they are.
//! - `mirror`: whether the events are those of a log elsewhere.
//!
//! **Invariant:** nothing here speaks SQL; what differs between databases is in their own folders.

pub(crate) mod batch;
pub(crate) mod import;
pub(crate) mod mirror;
pub(crate) mod queue;
pub(crate) mod subscribe;

use async_trait::async_trait;
use lease_events::record::Position;
use lease_events::store::{AppendError, EventStore};
use sqlx::{PgConnection, PgPool, SqliteConnection, SqlitePool};
use tokio::sync::{oneshot, watch};

use crate::append_hook::WriterJob;

pub use self::queue::{QueuedJob, WriterJobError};

/// What is known when the writer went away under a request: the runtime ended, or a hook panicked.
pub(crate) const WRITER_GONE: &str = "the writer ended before it answered";

/// The writer's connection, lent inside one of its transactions.
pub enum SqlConnection<'c> {
    /// Inside `BEGIN IMMEDIATE`.
    Sqlite(&'c mut SqliteConnection),
    /// Inside a transaction that holds the lock on the row `head`.
    Postgres(&'c mut PgConnection),
}

impl SqlConnection<'_> {
    /// The connection of a SQLite store.
    ///
    /// # Errors
    /// It is one of another database.
    pub fn sqlite(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => Ok(connection),
            Self::Postgres(_) => Err(sqlx::Error::Configuration("this is for SQLite, and the store is not".into())),
        }
    }

    /// The connection of a PostgreSQL store.
    ///
    /// # Errors
    /// It is one of another database.
    pub fn postgres(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match self {
            Self::Postgres(connection) => Ok(connection),
            Self::Sqlite(_) => Err(sqlx::Error::Configuration("this is for PostgreSQL, and the store is not".into())),
        }
    }
}

/// Connections of a SQL store that only read.
#[derive(Debug, Clone)]
pub enum SqlReader {
    /// Keep reads short: a long one keeps the WAL from being started anew.
    Sqlite(SqlitePool),
    /// Each statement is a snapshot of its own.
    Postgres(PgPool),
}

/// A store in a SQL database, which keeps projections beside the events. Object-safe; it travels as `Arc<dyn SqlStore>`.
#[async_trait]
pub trait SqlStore: EventStore {
    /// The connections that read.
    fn reader(&self) -> SqlReader;

    /// The position of the last event that this process committed or saw; it wakes on each commit of this process, and
    /// may be late with those of others.
    fn head_changes(&self) -> watch::Receiver<Position>;

    /// Refuses where another process has taken over for this one, or may have.
    fn check_owner(&self) -> Result<(), AppendError> {
        Ok(())
    }

    /// Queues a job behind what waits for the writer; see `run_on_writer`.
    async fn enqueue(&self, job: QueuedJob) -> Result<(), AppendError>;
}

impl dyn SqlStore {
    /// Runs a job on the writer's connection, between two appends, in a transaction of its own, and gives it back with
    /// what it learnt.
    ///
    /// # Errors
    /// It failed, and all of it was rolled back; or the store could not run it.
    pub async fn run_on_writer<J: WriterJob + 'static>(&self, job: J) -> Result<J, WriterJobError> {
        run_on_writer(self, job).await
    }
}

/// Runs a job on the writer's connection of any SQL store.
pub(crate) async fn run_on_writer<J: WriterJob + 'static>(
    store: &(impl SqlStore + ?Sized),
    job: J,
) -> Result<J, WriterJobError> {
    let (reply, answer) = oneshot::channel();
    store.enqueue(QueuedJob::new(job, reply)).await?;
    answer.await.map_err(|_| AppendError::OutcomeUnknown { cause: WRITER_GONE.to_owned() })?
}
