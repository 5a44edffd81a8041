//! The event-store port: what every store does, in the words of those who append and read.
//!
//! **Invariants** that every store keeps and the contract suite tests:
//! - An append is all or nothing, and durable before it is answered.
//! - An append names the revision it expects; a store never overwrites and never guesses.
//! - A repeated append (same event ids, same expected revision) is the same append, without limit in time.
//! - Positions are in commit order: a reader that has seen N never later finds something below N.

use std::pin::Pin;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_core::Stream;

use crate::failure::FailureClass;
use crate::record::{NewEvent, Position, RecordedEvent, StreamId};

/// Most events in one append.
pub const EVENTS_PER_APPEND_MAX: usize = 64;
/// Longest `data` or `metadata` of one event, in bytes.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Most events that one read answers; ask again from behind the last.
pub const READ_EVENTS_MAX: usize = 4_096;

/// What an append expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The stream has no event yet.
    NoStream,
    /// The stream's last event has this revision.
    Exact(u64),
}

impl Expected {
    /// The revision that the first appended event gets.
    #[must_use]
    pub fn first_revision(self) -> u64 {
        match self {
            Self::NoStream => 0,
            Self::Exact(revision) => revision + 1,
        }
    }

    /// What a stream whose last revision is `last` is expected to be.
    #[must_use]
    pub fn after(last: Option<u64>) -> Self {
        last.map_or(Self::NoStream, Self::Exact)
    }
}

/// Events for one stream, to be appended together or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What it is expected to hold.
    pub expected: Expected,
    /// From 1 to [`EVENTS_PER_APPEND_MAX`] events.
    pub events: Vec<NewEvent>,
}

/// The answer to an append: it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The events as they are stored now.
    pub events: Vec<RecordedEvent>,
    /// Whether they were there before: this append was a repetition.
    pub repeated: bool,
}

impl Appended {
    /// The position of the last event, which a reader waits for to see them all.
    #[must_use]
    pub fn position(&self) -> Position {
        self.events.last().map_or(Position::START, |event| event.position)
    }
}

/// Why an append did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another append came first.
    #[error("stream {stream} is at {}, not at {}", revision_text(*.actual), revision_text(expected_revision(*.expected)))]
    WrongExpectedRevision {
        /// The stream.
        stream: StreamId,
        /// What the append expected.
        expected: Expected,
        /// Its last revision now; `None` where it has no event.
        actual: Option<u64>,
    },
    /// The append breaks a limit of the port; it can never succeed.
    #[error("{sentence}")]
    Invalid {
        /// What was wrong and what would be right.
        sentence: String,
    },
    /// Nothing was written, and it may be tried again.
    #[error("the event store is not available: {cause}")]
    Unavailable {
        /// What the store said.
        cause: String,
    },
    /// It is not known whether an earlier write is on the disk; the store takes no more until it is opened again.
    #[error(
        "the event store takes no more writes until it is opened again (look at its disk, then restart lease-ledger): {cause}"
    )]
    Poisoned {
        /// What failed.
        cause: String,
    },
    /// Nothing was written, and nothing of this process ever will be again: it gave no sign of life for too long, and
    /// others act on what it left.
    #[error(
        "another process has taken over for this one ({owner}), which was not heard of for too long; restart lease-ledger"
    )]
    Fenced {
        /// This process, as the store knows it.
        owner: String,
    },
    /// The reply was lost: the events may be there. The same append may be sent again.
    #[error("the event store did not answer; the events may or may not be stored: {cause}")]
    OutcomeUnknown {
        /// What was seen.
        cause: String,
    },
}

impl AppendError {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::WrongExpectedRevision { .. } => FailureClass::Conflict,
            Self::Invalid { .. } => FailureClass::Invalid,
            Self::Unavailable { .. } | Self::Poisoned { .. } | Self::Fenced { .. } => FailureClass::Unavailable,
            Self::OutcomeUnknown { .. } => FailureClass::OutcomeUnknown,
        }
    }
}

fn expected_revision(expected: Expected) -> Option<u64> {
    match expected {
        Expected::NoStream => None,
        Expected::Exact(revision) => Some(revision),
    }
}

fn revision_text(revision: Option<u64>) -> String {
    revision.map_or_else(|| "no event".to_owned(), |revision| format!("revision {revision}"))
}

/// Why a read gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It may be tried again.
    #[error("the event store is not available: {cause}")]
    Unavailable {
        /// What the store said.
        cause: String,
    },
    /// A stored row makes no sense.
    #[error("the event at position {position} cannot be read: column {column}: {cause}")]
    Corrupt {
        /// Where it stands.
        position: Position,
        /// The column that makes no sense.
        column: &'static str,
        /// Why.
        cause: String,
    },
}

/// Which way a read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forwards,
    /// Newest first.
    Backwards,
}

/// What a store can and cannot; the contract suite tests what is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent yes-or-no facts, not a state")]
pub struct Capabilities {
    /// Several processes may append to one store at once.
    pub several_processes: bool,
    /// Positions have no gap.
    pub gap_free_positions: bool,
    /// Projections are written in the transaction of the append.
    pub inline_projections: bool,
    /// What was acknowledged survives the end of the process.
    pub durable: bool,
}

/// A live subscription: every event behind the position it was opened at, once each, in order, without end. An
/// error is its last item; the reader subscribes again from the last position it saw.
pub type Subscription = Pin<Box<dyn Stream<Item = Result<RecordedEvent, ReadError>> + Send>>;

/// Where events are kept. Object-safe; it travels as `Arc<dyn EventStore>`.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// What this store can.
    fn capabilities(&self) -> Capabilities;

    /// Appends events to one stream; they are durable when this answers.
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// Up to `limit` (at most [`READ_EVENTS_MAX`]) events of one stream. Forwards from revision `from` on;
    /// backwards from revision `from` down (`u64::MAX`: from its end). A stream that is not there has no events.
    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError>;

    /// Up to `limit` (at most [`READ_EVENTS_MAX`]) events of the whole log. Forwards: those behind `from`, not
    /// including it; backwards: from `from` (inclusive) down.
    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError>;

    /// The position of the last event.
    async fn head(&self) -> Result<Position, ReadError>;

    /// Every event behind `after`, those stored and those to come.
    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError>;

    /// Finishes what is waiting and closes the store; later appends are refused as unavailable.
    async fn close(&self);
}

/// Refuses an append that breaks a limit of the port. Every store calls it first.
pub fn check_limits(append: &Append) -> Result<(), AppendError> {
    let sentence = if append.events.is_empty() {
        format!("An append to {} holds no event; give at least one.", append.stream)
    } else if append.events.len() > EVENTS_PER_APPEND_MAX {
        format!("An append holds {} events; {EVENTS_PER_APPEND_MAX} is the most.", append.events.len())
    } else if let Some(event) =
        append.events.iter().find(|event| event.data.len().max(event.metadata.len()) > EVENT_BYTES_MAX)
    {
        format!("A {} of more than {EVENT_BYTES_MAX} bytes cannot be stored; make it smaller.", event.event_type)
    } else if let Some(event) =
        append.events.iter().find(|event| event.data.contains('\0') || event.metadata.contains('\0'))
    {
        format!("A {} holds a raw NUL, which no JSON text does; write it as \\u0000.", event.event_type)
    } else {
        return Ok(());
    };
    Err(AppendError::Invalid { sentence })
}

/// Stores stamp events with this when they take them.
#[must_use]
pub fn recorded(
    event: NewEvent,
    stream: &StreamId,
    revision: u64,
    position: Position,
    at: DateTime<Utc>,
) -> RecordedEvent {
    RecordedEvent {
        event_id: event.event_id,
        stream_id: stream.clone(),
        stream_revision: revision,
        position,
        event_type: event.event_type.into(),
        schema_version: event.schema_version,
        company_id: event.company_id,
        recorded_at: at,
        data: event.data,
        metadata: event.metadata,
    }
}
