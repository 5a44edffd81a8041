//! Decides what waits: which appends are taken, which are repetitions, which are refused. One fails only itself.
//!
//! **Invariants:** it runs inside the writer's transaction, so what it reads is the end of the log; each append is
//! decided against the ones before it in the same batch. After a rollback the known revisions must be forgotten.

use std::future::Future;
use std::num::NonZeroUsize;

use chrono::{DateTime, Utc};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{Append, AppendError, ReadError, recorded};
use lru::LruCache;

use crate::standing::{Standing, is_repetition, standing, wrong_revision};

/// Streams whose last revision is kept in memory, some 150 bytes each. More than a batch can name, so that what was
/// looked up for a batch is there while it is decided.
const STREAMS_KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// The log as a batch is decided on: the writer's connection, inside its transaction.
pub(crate) trait Log: Send {
    /// The last revision of each of `streams`, in their order; `None` where a stream has no event.
    fn last_revisions(
        &mut self,
        streams: &[StreamId],
    ) -> impl Future<Output = Result<Vec<Option<u64>>, sqlx::Error>> + Send;

    /// Up to `count` events of `stream`, from revision `first` on.
    fn stored(
        &mut self,
        stream: &StreamId,
        first: u64,
        count: usize,
    ) -> impl Future<Output = Result<Vec<RecordedEvent>, ReadError>> + Send;
}

/// The last revisions of the streams that were written of late; `None` is a stream that has no event.
pub(crate) struct KnownRevisions(LruCache<StreamId, Option<u64>>);

impl KnownRevisions {
    /// Knows none.
    pub(crate) fn new() -> Self {
        Self(LruCache::new(STREAMS_KNOWN_MAX))
    }

    /// After a rollback, or when another connection has written.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// Looks up the streams of `appends` that are not known, all in one statement.
    async fn learn(&mut self, log: &mut impl Log, appends: &[Append]) -> Result<(), sqlx::Error> {
        let mut unknown = Vec::new();
        for append in appends {
            if self.0.get(&append.stream).is_none() {
                self.0.put(append.stream.clone(), None);
                unknown.push(append.stream.clone());
            }
        }
        let revisions = log.last_revisions(&unknown).await?;
        for (stream, revision) in unknown.into_iter().zip(revisions) {
            self.0.put(stream, revision);
        }
        Ok(())
    }
}

/// What a batch comes to.
#[derive(Default)]
pub(crate) struct Batch {
    /// What is to be written, in the order of its positions.
    pub(crate) events: Vec<RecordedEvent>,
    /// One for each append, in their order.
    pub(crate) answers: Vec<Answer>,
}

/// What one append of a batch comes to.
pub(crate) enum Answer {
    /// The next so many of the batch's events are its own.
    Written(usize),
    /// It was there before.
    Repeated(Vec<RecordedEvent>),
    /// An earlier try at this very turn wrote it, which was not known until now.
    Confirmed(Vec<RecordedEvent>),
    /// It is not taken.
    Refused(AppendError),
}

/// Decides `appends` in their order, on a log that ends at `head`; what is taken is stamped with `at`.
pub(crate) async fn decide(
    log: &mut impl Log,
    known: &mut KnownRevisions,
    head: Position,
    appends: Vec<Append>,
    at: DateTime<Utc>,
) -> Result<Batch, sqlx::Error> {
    known.learn(log, &appends).await?;
    let mut batch = Batch::default();
    for append in appends {
        let last = known.0.get(&append.stream).copied().flatten();
        let answer = match standing(&append, last) {
            Standing::Next(first) => batch.take(known, head, append, first, at),
            Standing::Behind(first) => match batch.stored(log, &append, first).await {
                Ok(events) if is_repetition(&append, &events) => Answer::Repeated(events),
                Ok(_) => Answer::Refused(wrong_revision(&append, last)),
                Err(error) => Answer::Refused(AppendError::Unavailable { cause: error.to_string() }),
            },
            Standing::Apart => Answer::Refused(wrong_revision(&append, last)),
        };
        batch.answers.push(answer);
    }
    Ok(batch)
}

impl Batch {
    fn take(
        &mut self,
        known: &mut KnownRevisions,
        head: Position,
        append: Append,
        first: u64,
        at: DateTime<Utc>,
    ) -> Answer {
        let count = append.events.len();
        for (event, revision) in append.events.into_iter().zip(first..) {
            let position = Position(head.0 + self.events.len() as u64 + 1);
            self.events.push(recorded(event, &append.stream, revision, position, at));
        }
        known.0.put(append.stream, Some(first + count as u64 - 1));
        Answer::Written(count)
    }

    /// The events at the revisions that `append` asks for: from the log, and from what this batch is about to write.
    async fn stored(&self, log: &mut impl Log, append: &Append, first: u64) -> Result<Vec<RecordedEvent>, ReadError> {
        let count = append.events.len();
        let mut events = log.stored(&append.stream, first, count).await?;
        let revisions = first..first + count as u64;
        let pending = self.events.iter();
        let pending =
            pending.filter(|event| event.stream_id == append.stream && revisions.contains(&event.stream_revision));
        events.extend(pending.cloned());
        Ok(events)
    }
}
