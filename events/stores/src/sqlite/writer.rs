//! The one writer: a task that owns the one connection that writes, and commits what waits in one transaction.
//!
//! **Invariants**
//! - Nobody is answered before the COMMIT of their transaction.
//! - Positions and revisions are decided inside `BEGIN IMMEDIATE`; what is remembered from before is dropped when
//!   `PRAGMA data_version` shows that another connection has written.
//! - Nothing is committed to a file that is not where it was opened any more (see [`super::place`]).
//! - After any failure the connection is closed, which rolls back, and what was remembered is forgotten. After one
//!   that leaves the outcome open (see [`super::failure`]), nothing more is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::SubsecRound;
use lease_events::record::Position;
use lease_events::seam::Clock;
use lease_events::store::AppendError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{mpsc, watch};

use super::failure::{Fault, Stage, judge};
use super::faults::CommitFaults;
use super::place::Place;
use super::{reader, rows};
use crate::append_hook::AppendHook;
use crate::sql::SqlConnection;
use crate::sql::batch::{Batch, KnownRevisions, decide};
use crate::sql::queue::{Queue, Request, Turn};

/// Further tries to begin when another process holds the lock; each waits out the connection's busy timeout first.
const BUSY_RETRIES_MAX: u32 = 2;
/// The pause before the first of them; it doubles.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How long closing waits for reads under way. A reader that never ends would otherwise keep the process from ending.
const READERS_PATIENCE: Duration = Duration::from_secs(5);

/// The writer's state.
pub(super) struct Writer {
    pub(super) connect: SqliteConnectOptions,
    pub(super) place: Place,
    /// `None` after a failure, until the next turn.
    pub(super) connection: Option<SqliteConnection>,
    pub(super) readers: SqlitePool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hook: Option<Arc<dyn AppendHook>>,
    pub(super) faults: Option<Arc<dyn CommitFaults>>,
    pub(super) published: watch::Sender<Position>,
    pub(super) commits: Arc<AtomicU64>,
    pub(super) memory: Memory,
}

/// What the writer remembers from one transaction to the next.
pub(super) struct Memory {
    /// SQLite's counter of other connections' commits, as last seen; `None` when nothing here is to be trusted.
    data_version: Option<i64>,
    head: Position,
    revisions: KnownRevisions,
    /// Why nothing more is written.
    poisoned: Option<String>,
}

impl Memory {
    /// Remembers nothing.
    pub(super) fn new() -> Self {
        Self { data_version: None, head: Position::START, revisions: KnownRevisions::new(), poisoned: None }
    }

    fn forget(&mut self) {
        self.data_version = None;
        self.revisions.forget();
    }
}

/// A turn that did not come to its end.
struct Failed {
    stage: Stage,
    fault: Fault,
    /// The hook was called in the transaction, and must hear that it was rolled back.
    hook_called: bool,
}

impl Failed {
    fn before_commit(error: sqlx::Error) -> Self {
        Self { stage: Stage::BeforeCommit, fault: error.into(), hook_called: false }
    }
}

impl Writer {
    /// Serves requests until the store is closed or dropped.
    pub(super) async fn run(mut self, requests: mpsc::Receiver<Request>) {
        let mut queue = Queue::new(requests);
        while let Some(turn) = queue.next().await {
            self.take(turn).await;
        }
        self.finish().await;
    }

    async fn take(&mut self, mut turn: Turn) {
        if let Some(cause) = &self.memory.poisoned {
            return turn.refuse(&AppendError::Poisoned { cause: cause.clone() });
        }
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            Err(fault) => return turn.refuse(&AppendError::Unavailable { cause: fault.cause }),
        };
        match self.transact(&mut connection, &mut turn).await {
            Ok(batch) => {
                self.connection = Some(connection);
                turn.answer(batch);
            }
            Err(failed) => {
                // Waits for the end of the connection's thread, so that its locks are gone before the next one begins.
                if let Err(error) = connection.close().await {
                    tracing::warn!(%error, "a failed connection did not close cleanly");
                }
                self.fail(turn, &failed);
            }
        }
    }

    async fn connection(&mut self) -> Result<SqliteConnection, Fault> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.place.check()?;
        Ok(self.connect.connect().await?)
    }

    async fn transact(&mut self, connection: &mut SqliteConnection, turn: &mut Turn) -> Result<Batch, Failed> {
        let mut retries = 0;
        let mut transaction = loop {
            match connection.begin_with("BEGIN IMMEDIATE").await.map_err(Failed::before_commit) {
                Ok(transaction) => break transaction,
                Err(failed) if failed.fault.is_busy() && retries < BUSY_RETRIES_MAX => {
                    tokio::time::sleep(BUSY_PAUSE * 2u32.pow(retries)).await;
                    retries += 1;
                }
                Err(failed) => return Err(failed),
            }
        };
        self.look_around(&mut transaction).await.map_err(Failed::before_commit)?;
        let batch = match turn {
            Turn::Appends { appends, .. } => {
                let at = self.clock.now().trunc_subsecs(6);
                let Memory { revisions, head, .. } = &mut self.memory;
                let appends = std::mem::take(appends);
                let batch = decide(&mut *transaction, revisions, *head, appends, at);
                let batch = batch.await.map_err(Failed::before_commit)?;
                if batch.events.is_empty() {
                    transaction.rollback().await.map_err(Failed::before_commit)?;
                    return Ok(batch);
                }
                self.write(&mut transaction, &batch).await?;
                batch
            }
            Turn::Job(job) => {
                job.run(&mut SqlConnection::Sqlite(&mut transaction)).await.map_err(Failed::before_commit)?;
                let batch = job.batch();
                if !batch.events.is_empty() {
                    self.memory.revisions.forget();
                    self.hook.iter().for_each(|hook| hook.prepare(&batch.events));
                    self.follow(&mut transaction, &batch).await?;
                }
                batch
            }
        };
        self.commit(transaction, &batch).await?;
        Ok(batch)
    }

    /// Finds out whether another connection has written since the last transaction, and where the log ends then.
    async fn look_around(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let data_version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *connection).await?;
        if self.memory.data_version == Some(data_version) {
            return Ok(());
        }
        self.memory.forget();
        if let Some(hook) = &self.hook {
            hook.changed_elsewhere();
        }
        let head: i64 = sqlx::query_scalar(reader::HEAD).fetch_one(&mut *connection).await?;
        self.memory.head = Position(head.unsigned_abs());
        self.memory.data_version = Some(data_version);
        Ok(())
    }

    async fn write(&self, connection: &mut SqliteConnection, batch: &Batch) -> Result<(), Failed> {
        // SQLite works on a thread of its own: once the insert is on its way there, the hook prepares meanwhile.
        let prepare = async { self.hook.iter().for_each(|hook| hook.prepare(&batch.events)) };
        let (inserted, ()) = futures_util::future::join(rows::insert(connection, &batch.events), prepare).await;
        inserted.map_err(Failed::before_commit)?;
        self.follow(connection, batch).await
    }

    /// Has the hook follow what was written.
    async fn follow(&self, connection: &mut SqliteConnection, batch: &Batch) -> Result<(), Failed> {
        if let Some(hook) = &self.hook {
            let called = hook.on_append(&mut SqlConnection::Sqlite(connection), &batch.events).await;
            called.map_err(|error| Failed { hook_called: true, ..Failed::before_commit(error) })?;
        }
        Ok(())
    }

    async fn commit(&mut self, transaction: Transaction<'_, Sqlite>, batch: &Batch) -> Result<(), Failed> {
        // As late as can be: what is committed to a file that nobody finds again would be acknowledged and lost.
        let hook_called = self.hook.is_some() && !batch.events.is_empty();
        self.place.check().map_err(|fault| Failed { stage: Stage::BeforeCommit, fault, hook_called })?;
        let injected = self.faults.as_ref().and_then(|faults| faults.at_commit());
        let committed = match injected {
            None => transaction.commit().await.map_err(Fault::from),
            Some(fault) => fault.strike(transaction).await,
        };
        committed.map_err(|fault| Failed { stage: Stage::Commit, fault, hook_called })?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(last) = batch.events.last() {
            self.memory.head = last.position;
            if let Some(hook) = &self.hook {
                hook.committed();
            }
            self.published.send_replace(last.position);
        }
        Ok(())
    }

    fn fail(&mut self, turn: Turn, failed: &Failed) {
        let Failed { stage, fault, hook_called } = failed;
        self.memory.forget();
        if *hook_called && let Some(hook) = &self.hook {
            hook.rolled_back();
        }
        let verdict = judge(*stage, fault);
        if verdict.poisons() {
            tracing::error!(cause = fault.cause, "the event store takes no more writes until it is opened again");
            self.memory.poisoned = Some(fault.cause.clone());
        }
        turn.fail(&verdict.answer(&fault.cause));
    }

    /// Readers end first: the last connection to close is then one that may move the WAL into the database.
    async fn finish(mut self) {
        if tokio::time::timeout(READERS_PATIENCE, self.readers.close()).await.is_err() {
            tracing::warn!("a read is still under way; the store is closed without it");
        }
        let Some(mut connection) = self.connection.take() else { return };
        if let Err(error) = sqlx::query("PRAGMA optimize").execute(&mut connection).await {
            tracing::debug!(%error, "the query planner's statistics were not refreshed");
        }
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "the writer's connection did not close cleanly");
        }
    }
}
