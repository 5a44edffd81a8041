//! The one writer of a process: a task that commits what waits in one transaction, under the lock of the row `head`, which
//! all writers of all processes take first.
//!
//! **Invariants**
//! - Nobody is answered before the COMMIT of their transaction, or before it was found out whether it happened.
//! - Positions and revisions are decided under the lock, by statements that began after it was taken, so that they see
//!   whatever was committed before. What is remembered from earlier is dropped when `head` shows that somebody else has
//!   written.
//! - Under the lock, and before anything is decided, the writer looks whether its process is fenced (see
//!   [`super::owners`]); if so, nothing is written, now or later.
//! - What failed before COMMIT was sent is not in the log, and is tried again as it is where that may help. What failed at
//!   COMMIT is decided again: either its events are there, at exactly their places, or they are written now. So nothing is
//!   lost or doubled. A job that has run is tried again only where it says that it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::SubsecRound;
use lease_events::record::{Position, RecordedEvent};
use lease_events::seam::Clock;
use lease_events::store::AppendError;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, watch};

use super::failure::{Fault, Stage, answer};
use super::listener::publish;
use super::owners::Known;
use super::rows;
use super::session::Sessions;
use super::turns::{self, Around};
use crate::append_hook::AppendHook;
use crate::sql::SqlConnection;
use crate::sql::batch::{Answer, Batch, KnownRevisions, decide};
use crate::sql::queue::{Queue, Request, Turn};

/// How long a turn that failed is tried again: a restart takes less, a failover of Patroni about as long. Callers wait
/// meanwhile, so it is not longer.
const RETRY_WITHIN: Duration = Duration::from_secs(10);
/// How long the outcome of a COMMIT without an answer is looked for: the answer decides between what is known and what
/// must be recovered.
const FIND_OUT_WITHIN: Duration = Duration::from_secs(30);
/// The pause before the first further try; it doubles, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// The longest that one try at appends may take: the server ends each statement after 10 seconds, unless it cannot be
/// reached.
const APPENDS_PATIENCE: Duration = Duration::from_secs(15);
/// The longest that a job may take, with the longer statements that it is given.
const JOB_PATIENCE: Duration = Duration::from_secs(90);

/// A job may make an index, or drop a table: it is given more time than an append.
const LET_JOBS_TAKE_LONGER: &str = "SET LOCAL statement_timeout = '60s'";

/// The writer's state.
pub(super) struct Writer {
    pub(super) sessions: Sessions,
    /// `None` after a failure, until the next try.
    pub(super) connection: Option<PgConnection>,
    pub(super) owner: String,
    pub(super) known: Arc<Known>,
    pub(super) channel: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hook: Option<Arc<dyn AppendHook>>,
    pub(super) published: watch::Sender<Position>,
    pub(super) commits: Arc<AtomicU64>,
    pub(super) memory: Memory,
}

/// What the writer remembers from one transaction to the next.
pub(super) struct Memory {
    /// The head's counter as this writer left it; `None` when nothing here is to be trusted.
    changes: Option<i64>,
    head: Position,
    revisions: KnownRevisions,
    /// The last turn used up its tries: until one succeeds, each is tried once, so that callers hear of it soon.
    outage: bool,
}

impl Memory {
    /// Remembers nothing.
    pub(super) fn new() -> Self {
        Self { changes: None, head: Position::START, revisions: KnownRevisions::new(), outage: false }
    }

    fn forget(&mut self) {
        self.changes = None;
        self.revisions.forget();
    }
}

/// How far a turn has come; it outlives a try that was broken off.
#[derive(Default)]
struct Progress {
    stage: Stage,
    /// The hook was called in the transaction, and must hear how it ended.
    hook_called: bool,
    /// The turn's job has run, with whatever that changed in it.
    job_ran: bool,
    /// An earlier COMMIT of the turn's job was not answered.
    job_unanswered: bool,
    /// What is being committed.
    batch: Batch,
    /// What earlier tries sent to be committed, without an answer.
    unanswered: Vec<RecordedEvent>,
}

impl Progress {
    fn is_open(&self) -> bool {
        self.stage == Stage::Commit || !self.unanswered.is_empty() || self.job_unanswered
    }

    /// Gets ready for another try.
    fn begin_again(&mut self) {
        if self.stage == Stage::Commit {
            let sent = std::mem::take(&mut self.batch).events;
            // A job finds out by itself what of it is there.
            self.unanswered = if self.job_ran { Vec::new() } else { sent };
            self.job_unanswered = self.job_ran;
        }
        self.stage = Stage::BeforeCommit;
        self.hook_called = false;
    }

    /// What is found to be there, and was sent by an earlier try, is no repetition. Where none of it is there, that try
    /// has written nothing, since the lock that it held is ours now.
    fn recognise(&mut self, batch: &mut Batch) {
        let unanswered = &self.unanswered;
        let was_sent = |event: &RecordedEvent| {
            let at = unanswered.binary_search_by_key(&event.position, |sent| sent.position);
            at.is_ok_and(|at| unanswered[at] == *event)
        };
        let mut there = false;
        for answer in &mut batch.answers {
            if let Answer::Repeated(events) = answer
                && events.iter().all(was_sent)
            {
                *answer = Answer::Confirmed(std::mem::take(events));
                there = true;
            }
        }
        if !there {
            self.unanswered.clear();
        }
    }
}

/// Why a try came to no end.
enum Stop {
    Fenced,
    Fault(Fault),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Writer {
    /// Serves requests until the store is closed or dropped.
    pub(super) async fn run(mut self, requests: mpsc::Receiver<Request>) {
        let mut queue = Queue::new(requests);
        while let Some(turn) = queue.next().await {
            self.take(turn).await;
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the writer's connection did not close cleanly");
        }
    }

    fn fenced(&self) -> AppendError {
        AppendError::Fenced { owner: self.owner.clone() }
    }

    async fn take(&mut self, mut turn: Turn) {
        if *self.known.fenced().borrow() {
            return turn.refuse(&self.fenced());
        }
        let patience = if matches!(turn, Turn::Job(_)) { JOB_PATIENCE } else { APPENDS_PATIENCE };
        let mut progress = Progress::default();
        let mut first_failure: Option<Instant> = None;
        let mut pause = PAUSE;
        loop {
            let tried = tokio::time::timeout(patience, self.transact(&mut turn, &mut progress)).await;
            let fault = match tried {
                Ok(Ok(batch)) => {
                    self.memory.outage = false;
                    return turn.answer(batch);
                }
                Ok(Err(Stop::Fenced)) => {
                    self.known.set_fenced();
                    return turn.refuse(&self.fenced());
                }
                Ok(Err(Stop::Fault(fault))) => fault,
                Err(_) => Fault::silence(),
            };
            self.forget_try(&progress, &fault);
            let since = first_failure.get_or_insert_with(Instant::now).elapsed();
            let bound = match progress.is_open() {
                true => FIND_OUT_WITHIN,
                false if self.memory.outage => Duration::ZERO,
                false => RETRY_WITHIN,
            };
            let is_last = progress.job_ran && !matches!(&turn, Turn::Job(job) if job.is_repeatable());
            if is_last || !fault.is_transient() || since + pause > bound {
                self.memory.outage = fault.is_transient() && !is_last;
                let error = answer(progress.is_open(), &fault.cause);
                return if progress.job_ran { turn.fail(&error) } else { turn.refuse(&error) };
            }
            progress.begin_again();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A try failed: what was learnt in it is not so, and its connection is dropped with what it holds.
    fn forget_try(&mut self, progress: &Progress, fault: &Fault) {
        tracing::debug!(cause = fault.cause, stage = ?progress.stage, "a transaction of the event store failed");
        self.connection = None;
        self.memory.forget();
        self.sessions.distrust();
        if progress.hook_called
            && let Some(hook) = &self.hook
        {
            hook.rolled_back();
        }
    }

    async fn transact(&mut self, turn: &mut Turn, progress: &mut Progress) -> Result<Batch, Stop> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.sessions.connect().await?,
        };
        let around = turns::begin(&mut connection, &self.owner).await?;
        let fenced = around.fenced;
        self.look_around(&around);
        if fenced && progress.unanswered.is_empty() {
            return Err(Stop::Fenced);
        }
        let mut batch = match turn {
            Turn::Appends { appends, .. } => {
                let at = self.clock.now().trunc_subsecs(6);
                let Memory { revisions, head, .. } = &mut self.memory;
                let mut batch = decide(&mut connection, revisions, *head, appends.clone(), at).await?;
                progress.recognise(&mut batch);
                batch
            }
            Turn::Job(job) => {
                sqlx::query(LET_JOBS_TAKE_LONGER).execute(&mut connection).await?;
                progress.job_ran = true;
                job.run(&mut SqlConnection::Postgres(&mut connection)).await?;
                job.batch()
            }
        };
        if fenced {
            self.known.set_fenced();
            refuse_others(&mut batch, &self.fenced());
        }
        if batch.events.is_empty() && !progress.job_ran {
            turns::give_up(&mut connection).await?;
            self.connection = Some(connection);
            return Ok(batch);
        }
        progress.batch = batch;
        let end = progress.batch.events.last().map(|event| event.position);
        if end.is_some() {
            if progress.job_ran {
                self.memory.revisions.forget();
                self.hook.iter().for_each(|hook| hook.prepare(&progress.batch.events));
            } else {
                self.insert(&mut connection, progress).await?;
            }
            self.follow(&mut connection, progress).await?;
        }
        progress.stage = Stage::Commit;
        if let Err(error) = turns::commit(&mut connection, end, &self.channel).await {
            if turns::was_refused(&error) {
                progress.stage = Stage::BeforeCommit;
            }
            return Err(error.into());
        }
        self.connection = Some(connection);
        self.committed(progress);
        Ok(std::mem::take(&mut progress.batch))
    }

    /// Takes note of whether somebody else has written since the last transaction, and of where the log ends then.
    fn look_around(&mut self, around: &Around) {
        if self.memory.changes == Some(around.changes) {
            return;
        }
        self.memory.forget();
        if let Some(hook) = &self.hook {
            hook.changed_elsewhere();
        }
        self.memory.head = around.head;
        self.memory.changes = Some(around.changes);
        publish(&self.published, self.memory.head);
    }

    async fn insert(&self, connection: &mut PgConnection, progress: &Progress) -> Result<(), sqlx::Error> {
        let events = &progress.batch.events;
        // While the server inserts, the hook prepares.
        let insert = rows::insert(connection, events);
        let prepare = async { self.hook.iter().for_each(|hook| hook.prepare(events)) };
        futures_util::future::join(insert, prepare).await.0
    }

    /// Has the hook follow what was written.
    async fn follow(&self, connection: &mut PgConnection, progress: &mut Progress) -> Result<(), sqlx::Error> {
        if let Some(hook) = &self.hook {
            progress.hook_called = true;
            hook.on_append(&mut SqlConnection::Postgres(connection), &progress.batch.events).await?;
        }
        Ok(())
    }

    /// The COMMIT was answered.
    fn committed(&mut self, progress: &Progress) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.memory.changes = self.memory.changes.map(|changes| changes + 1);
        if let Some(last) = progress.batch.events.last() {
            self.memory.head = last.position;
            if let Some(hook) = &self.hook {
                hook.committed();
            }
            publish(&self.published, last.position);
        }
    }
}

/// Leaves of a batch only what is there already.
fn refuse_others(batch: &mut Batch, error: &AppendError) {
    batch.events.clear();
    for answer in &mut batch.answers {
        if matches!(answer, Answer::Written(_) | Answer::Refused(_)) {
            *answer = Answer::Refused(error.clone());
        }
    }
}
