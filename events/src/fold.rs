//! Folding a stream: what its events make of it, one after the other.
//!
//! **Invariant:** the command handler, the projections, replay and time travel all fold through [`StreamState::apply`].

use crate::codec::DecodeError;
use crate::environment::EnvironmentStatus;
use crate::lease::transition::IllegalTransition;
use crate::record::{RecordedEvent, StreamId};
use crate::run::RunStatus;
use crate::secret::SecretStatus;

/// What the events of one stream fold into.
pub trait StreamState: Sized + Send {
    /// The state after one more recorded event of the stream; `None` before the first.
    fn apply(state: Option<Self>, recorded: &RecordedEvent) -> Result<Self, FoldError>;

    /// The stream that it is the state of, by the id that its first event says.
    fn stream_id(&self) -> StreamId;

    /// The revision of the last event folded.
    fn revision(&self) -> u64;

    /// The state after all of `events`; `None` where there is none.
    fn fold<'a>(events: impl IntoIterator<Item = &'a RecordedEvent>) -> Result<Option<Self>, FoldError> {
        events.into_iter().try_fold(None, |state, recorded| Self::apply(state, recorded).map(Some))
    }
}

/// Why a recorded event could not be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// It cannot be decoded.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// It may not follow: the stream is corrupt.
    #[error("stream {stream} is corrupt at revision {revision}: {illegal}")]
    Illegal {
        /// The stream.
        stream: String,
        /// The revision of the event that may not follow.
        revision: u64,
        /// Why.
        illegal: IllegalTransition,
    },
    /// It may not follow in an environment's stream: that stream is corrupt.
    #[error(
        "stream {stream} is corrupt at revision {revision}: an {event_type} may not follow in an environment that is {}",
        .status.map_or("not there", EnvironmentStatus::as_str)
    )]
    IllegalInEnvironment {
        /// The stream.
        stream: String,
        /// The revision of the event that may not follow.
        revision: u64,
        /// Where the environment stands; `None` where it is not there.
        status: Option<EnvironmentStatus>,
        /// What was to follow.
        event_type: &'static str,
    },
    /// It may not follow in a run's stream: that stream is corrupt.
    #[error(
        "stream {stream} is corrupt at revision {revision}: this {event_type} may not follow in a run that is {}",
        .status.map_or("not there", RunStatus::as_str)
    )]
    IllegalInRun {
        /// The stream.
        stream: String,
        /// The revision of the event that may not follow.
        revision: u64,
        /// Where the run stands; `None` where it is not there.
        status: Option<RunStatus>,
        /// What was to follow.
        event_type: &'static str,
    },
    /// It may not follow in a secret's stream: that stream is corrupt.
    #[error(
        "stream {stream} is corrupt at revision {revision}: this {event_type} may not follow in a secret that is {}",
        .status.map_or("not there", SecretStatus::as_str)
    )]
    IllegalInSecret {
        /// The stream.
        stream: String,
        /// The revision of the event that may not follow.
        revision: u64,
        /// Where the secret stands; `None` where it is not there.
        status: Option<SecretStatus>,
        /// What was to follow.
        event_type: &'static str,
    },
}
