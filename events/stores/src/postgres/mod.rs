//! The PostgreSQL store: one database, one writer a process, any number of processes, on any number of machines.
//!
//! **Invariants:** positions are gap-free and in commit order, since every writer takes the lock of the row `head` first;
//! what is acknowledged was committed with `synchronous_commit` on; a process that was taken for dead writes nothing any
//! more (`owners`); what a lost connection left open is found out, not guessed (`writer`). The suite in `contract` and the
//! tests beside it hold these.
//!
//! Limits: 256 appends or 8 MiB a transaction, 1,024 appends waiting, 8 reads at once, 11 connections a process.
//!
//! # What is tried again
//! | what failed | what happens |
//! | --- | --- |
//! | an append, before COMMIT was sent: the connection, the server (restart, failover), too many connections, a time limit, a deadlock | nothing was written: the same is tried again for 10 seconds, then [`AppendError::Unavailable`] |
//! | COMMIT without an answer | the same is decided again for 30 seconds: it is there, or is written now; then [`AppendError::OutcomeUnknown`] |
//! | an append, in another way: a missing table or right, a full disk | [`AppendError::Unavailable`] at once |
//! | a job that has run | as an append where it says that it may run again; else it is rolled back, and who asked for it decides |
//! | a read, with its connection | it is read again, five times in some 3 seconds, then [`ReadError::Unavailable`] |

mod duties;
mod failure;
pub(crate) mod import;
mod listener;
mod open;
mod owners;
mod processes;
mod reader;
mod rows;
mod session;
mod turns;
mod writer;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::seam::{Clock, Ids};
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, ReadError, Subscription, check_limits,
};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot, watch};

use self::open::Opened;
use self::owners::{Keeper, Known};
use self::reader::Reader;
use self::writer::{Memory, Writer};
use crate::append_hook::{AppendHook, WriterJob};
use crate::sql::mirror::is_mirror;
use crate::sql::queue::{Request, WAITING_MAX};
use crate::sql::subscribe::subscribe;
use crate::sql::{self, QueuedJob, SqlReader, SqlStore, WRITER_GONE, WriterJobError};

pub use self::duties::{PostgresDuties, Work};
pub use self::open::{OpenError, holds_ledger, migrate};
pub use self::owners::OwnerTimings;
pub use self::processes::{Process, processes};
pub use self::session::{InvalidPostgresUrl, place_of};

/// What a closed store answers.
const CLOSED: &str = "it is closed";
/// How often a waiting subscriber looks for appends that it was not woken for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long closing waits for reads under way. A reader that never ends would otherwise keep the process from ending.
const READERS_PATIENCE: Duration = Duration::from_secs(5);

/// How to open a PostgreSQL store.
pub struct PostgresOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with `sslmode` and the other parameters of libpq's URLs. A
    /// password that it lacks is taken from `PGPASSWORD` or the password file.
    pub url: String,
    /// This process, as its in-flight effects name it: unique to this process and start. It is never used again.
    pub owner: String,
    /// How this process shows that it lives.
    pub timings: OwnerTimings,
    /// Stamps the events.
    pub clock: Arc<dyn Clock>,
    /// Makes the ledger's id where the database is new.
    pub ids: Arc<dyn Ids>,
    /// Called inside the transaction of each append.
    pub hook: Option<Arc<dyn AppendHook>>,
}

/// Events in a PostgreSQL database.
pub struct PostgresStore {
    ledger: LedgerId,
    owner: String,
    reader: Reader,
    requests: mpsc::Sender<Request>,
    head: watch::Receiver<Position>,
    commits: Arc<AtomicU64>,
    known: Arc<Known>,
    duties: PostgresDuties,
    /// Closed when the writer and what goes with it have ended.
    ended: watch::Receiver<()>,
}

impl PostgresStore {
    /// Opens the ledger in a database: makes its tables where there are none, brings older ones to the newest format, and
    /// registers this process. A mirror is refused.
    pub async fn open(options: PostgresOptions) -> Result<Arc<Self>, OpenError> {
        let place = place_of(&options.url)?;
        let store = Self::open_any(options).await?;
        let reader = SqlReader::Postgres(store.reader.pool.clone());
        match store.read(|| is_mirror(&reader)).await {
            Ok(false) => Ok(store),
            is_mirror => {
                store.close().await;
                Err(match is_mirror {
                    Ok(_) => OpenError::Mirror { place },
                    Err(error) => OpenError::Unavailable { place, cause: error.to_string() },
                })
            }
        }
    }

    /// As [`Self::open`], and the database may be the mirror of a log elsewhere (see [`crate::kurrentdb`]).
    pub async fn open_any(options: PostgresOptions) -> Result<Arc<Self>, OpenError> {
        let asked_at = Instant::now();
        let Opened { sessions, connection, ledger, head } = open::open(&options).await?;
        let PostgresOptions { owner, timings, clock, hook, .. } = options;
        let reader = Reader { pool: sessions.readers(), sessions: sessions.clone() };
        let (published, head) = watch::channel(head);
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let commits = Arc::new(AtomicU64::new(0));
        let known = Arc::new(Known::new());
        let duties = PostgresDuties::default();
        duties.set_lives_until(Some(asked_at + timings.time_to_live));
        let channel = format!("lease_ledger_{}", ledger.0.simple());
        let listener = tokio::spawn(listener::listen(sessions.clone(), channel.clone(), published.clone()));
        let keeper = Keeper {
            sessions: sessions.clone(),
            owner: owner.clone(),
            timings,
            known: Arc::clone(&known),
            duties: duties.clone(),
            connection: Some(connection),
            unbroken: None,
        };
        let writer = Writer {
            sessions,
            connection: None,
            owner: owner.clone(),
            known: Arc::clone(&known),
            channel,
            clock,
            hook,
            published,
            commits: Arc::clone(&commits),
            memory: Memory::new(),
        };
        let (ending, ended) = watch::channel(());
        let (stop, stopping) = watch::channel(false);
        let keeping = tokio::spawn(keeper.run(stopping));
        let readers = reader.pool.clone();
        tokio::spawn(async move {
            writer.run(waiting).await;
            // The last append is answered: only now may this process say that it has ended.
            stop.send_replace(true);
            listener.abort();
            let _kept = keeping.await;
            if tokio::time::timeout(READERS_PATIENCE, readers.close()).await.is_err() {
                tracing::warn!("a read is still under way; the store is closed without it");
            }
            drop(ending);
        });
        Ok(Arc::new(Self { ledger, owner, reader, requests, head, commits, known, duties, ended }))
    }

    /// The id that the database got when the ledger was made: what this ledger's labels bear.
    #[must_use]
    pub fn ledger_id(&self) -> LedgerId {
        self.ledger
    }

    /// The read-only connections.
    #[must_use]
    pub fn reader(&self) -> &PgPool {
        &self.reader.pool
    }

    /// Runs a job on the writer's connection, between two appends of any process, in a transaction of its own, and gives
    /// it back with what it learnt.
    pub async fn run_on_writer<J: WriterJob + 'static>(&self, job: J) -> Result<J, WriterJobError> {
        sql::run_on_writer(self, job).await
    }

    /// The position of the last event that this process committed or heard of.
    #[must_use]
    pub fn head_changes(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    /// Commits of this store so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Turns true when another process has taken over for this one; from then on every append is refused
    /// ([`AppendError::Fenced`]), and this process should end.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<bool> {
        self.known.fenced()
    }

    /// Whether the process that goes by `owner` is known to be dead: none of its appends succeeds any more, so that what it
    /// left may be taken over. It answers from what [`Self::look_up`] has found.
    #[must_use]
    pub fn is_dead(&self, owner: &str) -> bool {
        self.known.is_dead(owner)
    }

    /// Finds out whether the process that goes by `owner` is dead.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn look_up(&self, owner: &str) -> Result<(), ReadError> {
        self.known.look_up(&self.reader, owner).await
    }

    /// Reads through [`Self::reader`], again where a connection was lost.
    pub(crate) async fn read<T, F>(&self, read: impl Fn() -> F) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        self.reader.again(read).await
    }

    /// The duties that the processes of this database share.
    #[must_use]
    pub fn duties(&self) -> PostgresDuties {
        self.duties.clone()
    }

    async fn ask(&self, request: Request) -> Result<(), AppendError> {
        let asked = self.requests.send(request).await;
        asked.map_err(|_| AppendError::Unavailable { cause: CLOSED.to_owned() })
    }
}

#[async_trait]
impl SqlStore for PostgresStore {
    fn reader(&self) -> SqlReader {
        SqlReader::Postgres(self.reader.pool.clone())
    }

    fn head_changes(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn check_owner(&self) -> Result<(), AppendError> {
        if *self.known.fenced().borrow() {
            return Err(AppendError::Fenced { owner: self.owner.clone() });
        }
        if self.duties.lives() {
            return Ok(());
        }
        let cause = "this process could not say for its time to live that it lives; others may act on what it left";
        Err(AppendError::Unavailable { cause: cause.to_owned() })
    }

    async fn enqueue(&self, job: QueuedJob) -> Result<(), AppendError> {
        self.ask(Request::Job(job)).await
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { several_processes: true, gap_free_positions: true, inline_projections: true, durable: true }
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Append(append, reply)).await?;
        answer.await.map_err(|_| AppendError::OutcomeUnknown { cause: WRITER_GONE.to_owned() })?
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.reader.stream(stream, from, direction, limit).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.reader.all(from, direction, limit).await
    }

    async fn head(&self) -> Result<Position, ReadError> {
        self.reader.head().await
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        Ok(subscribe(self.reader.clone(), self.head.clone(), POLL_INTERVAL, after))
    }

    async fn close(&self) {
        // Where the writer has ended already, there is nobody to tell.
        let _ended = self.requests.send(Request::Close).await;
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}
