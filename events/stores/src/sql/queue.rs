//! What waits for the writer, and how it is cut into turns: as many appends as fit one transaction, or one job.
//!
//! **Invariant:** first come, first served; nothing that was queued is dropped without an answer.

use std::collections::VecDeque;

use async_trait::async_trait;
use lease_events::record::RecordedEvent;
use lease_events::store::{Append, AppendError, Appended};
use tokio::sync::{mpsc, oneshot};

use super::SqlConnection;
use super::batch::{Answer, Batch};
use crate::append_hook::WriterJob;

/// Most requests that wait in the channel; further callers wait to be let in.
pub(crate) const WAITING_MAX: usize = 1_024;
/// Most appends in one transaction. The cost of an fsync is spread thinly enough, and nobody waits for long.
const BATCH_APPENDS_MAX: usize = 256;
/// Most bytes of data and metadata in one transaction, so that memory and the WAL stay small; a larger append goes alone.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often others get to run, and queue what they have, before a batch is closed: those who were just answered
/// come back at once, and would otherwise each miss the next transaction.
const GATHER_TURNS_MAX: usize = 4;

pub(crate) type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// Something asked of the writer.
pub(crate) enum Request {
    /// Append, and answer when it is durable.
    Append(Append, Reply),
    /// Run between two appends.
    Job(QueuedJob),
    /// Finish what waits, then end.
    Close,
}

/// Why a job on the writer's connection did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriterJobError {
    /// The job itself failed, and all of it was rolled back.
    #[error("the job failed and was rolled back: {cause}")]
    Failed {
        /// What the database said.
        cause: String,
    },
    /// The store could not run it.
    #[error(transparent)]
    Store(#[from] AppendError),
}

/// A job with the way back to who asked for it.
pub struct QueuedJob(Box<dyn Answered>);

impl QueuedJob {
    /// A job that is given back through `reply`.
    pub(crate) fn new<J: WriterJob + 'static>(job: J, reply: oneshot::Sender<Result<J, WriterJobError>>) -> Self {
        Self(Box::new(Queued { job, reply }))
    }

    /// Runs the job inside the writer's transaction.
    pub(crate) async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        self.0.run(connection).await
    }

    /// Whether it may be run again.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.0.is_repeatable()
    }

    /// What it comes to: the events that its last run wrote, which answer no append.
    pub(crate) fn batch(&self) -> Batch {
        Batch { events: self.0.written().to_vec(), answers: Vec::new() }
    }

    /// Gives it back.
    fn answer(self, outcome: Result<(), WriterJobError>) {
        self.0.answer(outcome);
    }
}

#[async_trait]
trait Answered: Send {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error>;
    fn is_repeatable(&self) -> bool;
    fn written(&self) -> &[RecordedEvent];
    fn answer(self: Box<Self>, outcome: Result<(), WriterJobError>);
}

/// A job of a known type.
struct Queued<J> {
    job: J,
    reply: oneshot::Sender<Result<J, WriterJobError>>,
}

#[async_trait]
impl<J: WriterJob> Answered for Queued<J> {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        self.job.run(connection).await
    }

    fn is_repeatable(&self) -> bool {
        self.job.is_repeatable()
    }

    fn written(&self) -> &[RecordedEvent] {
        self.job.written()
    }

    fn answer(self: Box<Self>, outcome: Result<(), WriterJobError>) {
        let Self { job, reply } = *self;
        // Who asked may have gone away; the job is done all the same.
        let _gone = reply.send(outcome.map(|()| job));
    }
}

/// What the writer does in one transaction.
pub(crate) enum Turn {
    /// Decides and writes these.
    Appends {
        /// Taken out when they are decided.
        appends: Vec<Append>,
        /// In their order.
        replies: Vec<Reply>,
    },
    /// Runs this.
    Job(QueuedJob),
}

impl Turn {
    /// Answers everybody with what was committed.
    pub(crate) fn answer(self, batch: Batch) {
        match self {
            Self::Job(job) => job.answer(Ok(())),
            Self::Appends { replies, .. } => {
                let mut events = batch.events.into_iter();
                for (reply, answer) in replies.into_iter().zip(batch.answers) {
                    let _gone = reply.send(match answer {
                        Answer::Written(count) => {
                            Ok(Appended { events: events.by_ref().take(count).collect(), repeated: false })
                        }
                        Answer::Repeated(events) => Ok(Appended { events, repeated: true }),
                        Answer::Confirmed(events) => Ok(Appended { events, repeated: false }),
                        Answer::Refused(error) => Err(error),
                    });
                }
            }
        }
    }

    /// Answers everybody that the transaction failed. A job that left nothing is told so: its own statement may be why.
    pub(crate) fn fail(self, error: &AppendError) {
        match (self, error) {
            (Self::Job(job), AppendError::Unavailable { cause }) => {
                job.answer(Err(WriterJobError::Failed { cause: cause.clone() }));
            }
            (turn, error) => turn.refuse(error),
        }
    }

    /// Answers everybody that it did not happen.
    pub(crate) fn refuse(self, error: &AppendError) {
        match self {
            Self::Job(job) => job.answer(Err(WriterJobError::Store(error.clone()))),
            Self::Appends { replies, .. } => {
                for reply in replies {
                    let _gone = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// The requests that wait.
pub(crate) struct Queue {
    requests: mpsc::Receiver<Request>,
    waiting: VecDeque<Request>,
}

impl Queue {
    /// A queue behind a channel.
    pub(crate) fn new(requests: mpsc::Receiver<Request>) -> Self {
        Self { requests, waiting: VecDeque::with_capacity(BATCH_APPENDS_MAX) }
    }

    /// The next turn; `None` when the store is closed, or dropped, and everything is answered.
    pub(crate) async fn next(&mut self) -> Option<Turn> {
        loop {
            if self.waiting.is_empty() {
                let first = self.requests.recv().await?;
                self.waiting.push_back(first);
            }
            self.gather().await;
            match self.waiting.front()? {
                Request::Append(..) => return Some(self.appends()),
                Request::Job(_) => {}
                Request::Close => self.requests.close(),
            }
            if let Some(Request::Job(job)) = self.waiting.pop_front() {
                return Some(Turn::Job(job));
            }
        }
    }

    async fn gather(&mut self) {
        for _ in 0..GATHER_TURNS_MAX {
            tokio::task::yield_now().await;
            let before = self.waiting.len();
            while self.waiting.len() < BATCH_APPENDS_MAX {
                let Ok(request) = self.requests.try_recv() else { break };
                self.waiting.push_back(request);
            }
            if self.waiting.len() == before {
                return;
            }
        }
    }

    /// The appends at the front of the queue that fit one transaction.
    fn appends(&mut self) -> Turn {
        let (mut appends, mut replies) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while let Some(Request::Append(append, _)) = self.waiting.front() {
            bytes += append.events.iter().map(|event| event.data.len() + event.metadata.len()).sum::<usize>();
            if !appends.is_empty() && bytes > BATCH_BYTES_MAX {
                break;
            }
            if let Some(Request::Append(append, reply)) = self.waiting.pop_front() {
                appends.push(append);
                replies.push(reply);
            }
        }
        Turn::Appends { appends, replies }
    }
}
