//! The SQLite store: one file, one writer a process, many readers; several processes may use one file.
//!
//! **Invariants:** what is acknowledged was synced to the disk (WAL, `synchronous=FULL`); positions are gap-free and in
//! commit order; readers cannot write. The suite in `contract` and the tests beside it hold these.
//!
//! Limits: 256 appends or 8 MiB a transaction, 1,024 appends waiting, 4 reads at once.

mod failure;
mod faults;
pub(crate) mod import;
mod open;
mod place;
mod reader;
mod rows;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::seam::{Clock, Ids};
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, ReadError, Subscription, check_limits,
};
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot, watch};

use self::writer::{Memory, Writer};
use crate::append_hook::{AppendHook, WriterJob};
use crate::sql::mirror::is_mirror;
use crate::sql::queue::{Request, WAITING_MAX};
use crate::sql::subscribe::subscribe;
use crate::sql::{self, QueuedJob, SqlReader, SqlStore, WRITER_GONE, WriterJobError};

pub use self::faults::{CommitFault, CommitFaults};
pub use self::open::OpenError;

/// What a closed store answers.
const CLOSED: &str = "it is closed";

/// How often a waiting subscriber looks for what another process appended: half of it is the mean delay, and a look
/// at an unchanged log costs some 20 microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How to open a SQLite store.
pub struct SqliteOptions {
    /// The ledger file; made where it is not there. Its folder must be.
    pub path: PathBuf,
    /// Stamps the events.
    pub clock: Arc<dyn Clock>,
    /// Makes the ledger's id where the file is new.
    pub ids: Arc<dyn Ids>,
    /// Called inside the transaction of each append.
    pub hook: Option<Arc<dyn AppendHook>>,
}

/// Events in a SQLite file.
pub struct SqliteStore {
    ledger: LedgerId,
    readers: SqlitePool,
    requests: mpsc::Sender<Request>,
    head: watch::Receiver<Position>,
    commits: Arc<AtomicU64>,
}

impl SqliteStore {
    /// Opens the ledger file, and makes it where there is none. A mirror is refused.
    pub async fn open(options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        let path = options.path.clone();
        let store = Self::open_any(options).await?;
        match is_mirror(&SqlReader::Sqlite(store.readers.clone())).await {
            Ok(false) => Ok(store),
            is_mirror => {
                store.close().await;
                Err(match is_mirror {
                    Ok(_) => OpenError::Mirror { path },
                    Err(error) => OpenError::Unavailable { path, cause: error.to_string() },
                })
            }
        }
    }

    /// As [`Self::open`], and the file may be the mirror of a log elsewhere (see [`crate::kurrentdb`]).
    pub async fn open_any(options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        Self::start(options, None).await
    }

    /// Opens it with commits that fail as `faults` says, to see what follows.
    pub async fn open_with_faults(
        options: SqliteOptions,
        faults: Arc<dyn CommitFaults>,
    ) -> Result<Arc<Self>, OpenError> {
        Self::start(options, Some(faults)).await
    }

    async fn start(options: SqliteOptions, faults: Option<Arc<dyn CommitFaults>>) -> Result<Arc<Self>, OpenError> {
        let SqliteOptions { path, clock, ids, hook } = options;
        let opened = open::open(&path, &*clock, &*ids).await?;
        let head = reader::head(&opened.readers).await;
        let head = head.map_err(|error| OpenError::Unavailable { path, cause: error.to_string() })?;
        let (published, head) = watch::channel(head);
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            connect: opened.connect,
            place: opened.place,
            connection: Some(opened.connection),
            readers: opened.readers.clone(),
            clock,
            hook,
            faults,
            published,
            commits: Arc::clone(&commits),
            memory: Memory::new(),
        };
        tokio::spawn(writer.run(waiting));
        Ok(Arc::new(Self { ledger: opened.ledger, readers: opened.readers, requests, head, commits }))
    }

    /// The id that the file got when it was made: what this ledger's labels bear.
    #[must_use]
    pub fn ledger_id(&self) -> LedgerId {
        self.ledger
    }

    /// The read-only connections. Keep reads short: a long one keeps the WAL from being started anew.
    #[must_use]
    pub fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Runs a job on the writer's connection, between two appends, in a `BEGIN IMMEDIATE` transaction of its own, and
    /// gives it back with what it learnt.
    pub async fn run_on_writer<J: WriterJob + 'static>(&self, job: J) -> Result<J, WriterJobError> {
        sql::run_on_writer(self, job).await
    }

    /// The position of the last event that this process committed, or found when it opened the file; it wakes on each
    /// commit of this process.
    #[must_use]
    pub fn head_changes(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    /// Commits of this store so far. Each is one fsync of the WAL; checkpoints come on top.
    #[must_use]
    pub fn fsyncs(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    async fn ask(&self, request: Request) -> Result<(), AppendError> {
        let asked = self.requests.send(request).await;
        asked.map_err(|_| AppendError::Unavailable { cause: CLOSED.to_owned() })
    }
}

#[async_trait]
impl SqlStore for SqliteStore {
    fn reader(&self) -> SqlReader {
        SqlReader::Sqlite(self.readers.clone())
    }

    fn head_changes(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    async fn enqueue(&self, job: QueuedJob) -> Result<(), AppendError> {
        self.ask(Request::Job(job)).await
    }
}

#[async_trait]
impl EventStore for SqliteStore {
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
        reader::stream(&self.readers, stream, from, direction, limit).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        reader::all(&self.readers, from, direction, limit).await
    }

    async fn head(&self) -> Result<Position, ReadError> {
        reader::head(&self.readers).await
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        Ok(subscribe(self.readers.clone(), self.head.clone(), POLL_INTERVAL, after))
    }

    async fn close(&self) {
        // Where the writer has ended already, there is nobody to tell.
        let _ended = self.requests.send(Request::Close).await;
        // The writer owns the other end of this channel: when it is gone, so is the writer.
        let mut head = self.head.clone();
        while head.changed().await.is_ok() {}
    }
}
