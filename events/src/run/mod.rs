//! The run: whether it is kept alive, and its release, so that a release which arrives before the acquire wins. Its
//! events and their fold. Pure.
//!
//! **Invariant:** nothing follows a release: a run that was released, by whomever, never lives again.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::{DomainEvent, decode};
use crate::events_of_category;
use crate::fold::{FoldError, StreamState};
use crate::id::{CompanyId, RunId};
use crate::lease::vocabulary::{Reason, ReleaseStatus};
use crate::record::{Position, RecordedEvent, StreamId};

events_of_category! {
    /// A transition of a run, as far as leases need it.
    RunEvent, upcasters: &[];
    KeptAlive(RunKeptAlive) = "run-kept-alive" v 1;
    Released(RunReleased) = "run-released" v 1;
}

/// The run was heard of: until then it counts as alive. Not every heartbeat is one: those that this covers are not
/// recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunKeptAlive {
    /// The run.
    pub run_id: RunId,
    /// For how long each heartbeat keeps it alive, in milliseconds.
    pub time_to_live_ms: u64,
    /// Until when it counts as alive, should nothing more be heard.
    pub alive_until: DateTime<Utc>,
}

/// The run holds no lease from here on; every later acquire of it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReleased {
    /// The run.
    pub run_id: RunId,
    /// How its leases shall end.
    pub status: ReleaseStatus,
    /// Why.
    pub reason: Reason,
}

/// Whether a run may hold leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It may, and is kept alive by heartbeats.
    Alive,
    /// It may not, for good.
    Released,
}

impl RunStatus {
    /// As it is spelled in events, tables and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Released => "released",
        }
    }
}

/// A run, folded from its stream. One that never sent a heartbeat has no stream until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// The run.
    pub run_id: RunId,
    /// The tenant.
    pub company_id: CompanyId,
    /// Whether it may hold leases.
    pub status: RunStatus,
    /// For how long each heartbeat keeps it alive, in milliseconds; absent where there never was one.
    pub time_to_live_ms: Option<u64>,
    /// When the last heartbeat was recorded.
    pub kept_alive_at: Option<DateTime<Utc>>,
    /// Until when it counts as alive.
    pub alive_until: Option<DateTime<Utc>>,
    /// When it was released.
    pub released_at: Option<DateTime<Utc>>,
    /// How its leases shall end.
    pub release_status: Option<ReleaseStatus>,
    /// Why it was released.
    pub release_reason: Option<Reason>,
    /// The revision of the last event folded.
    pub revision: u64,
    /// The position of its first event.
    pub created_position: Position,
    /// The position of the last event folded.
    pub position: Position,
    /// When the last event folded was recorded.
    pub updated_at: DateTime<Utc>,
}

impl StreamState for RunState {
    fn apply(state: Option<Self>, recorded: &RecordedEvent) -> Result<Self, FoldError> {
        let event: RunEvent = decode(recorded)?;
        let run_id = match &event {
            RunEvent::KeptAlive(kept) => kept.run_id,
            RunEvent::Released(released) => released.run_id,
        };
        let status = state.as_ref().map(|state| state.status);
        let mut next = state.unwrap_or_else(|| Self::begin(run_id, recorded));
        if status == Some(RunStatus::Released) || next.run_id != run_id {
            return Err(FoldError::IllegalInRun {
                stream: recorded.stream_id.to_string(),
                revision: recorded.stream_revision,
                status,
                event_type: event.event_type(),
            });
        }
        match event {
            RunEvent::KeptAlive(kept) => {
                next.time_to_live_ms = Some(kept.time_to_live_ms);
                next.kept_alive_at = Some(recorded.recorded_at);
                next.alive_until = Some(kept.alive_until);
            }
            RunEvent::Released(released) => {
                next.status = RunStatus::Released;
                next.released_at = Some(recorded.recorded_at);
                next.release_status = Some(released.status);
                next.release_reason = Some(released.reason);
            }
        }
        next.revision = recorded.stream_revision;
        next.position = recorded.position;
        next.updated_at = recorded.recorded_at;
        Ok(next)
    }

    fn stream_id(&self) -> StreamId {
        StreamId::run(self.run_id)
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl RunState {
    /// Whether its time is over at `now`: it is kept alive by heartbeats, and none came in time.
    #[must_use]
    pub fn is_silent(&self, now: DateTime<Utc>) -> bool {
        self.status == RunStatus::Alive && self.alive_until.is_some_and(|until| until <= now)
    }

    fn begin(run_id: RunId, recorded: &RecordedEvent) -> Self {
        Self {
            run_id,
            company_id: recorded.company_id,
            status: RunStatus::Alive,
            time_to_live_ms: None,
            kept_alive_at: None,
            alive_until: None,
            released_at: None,
            release_status: None,
            release_reason: None,
            revision: 0,
            created_position: recorded.position,
            position: recorded.position,
            updated_at: recorded.recorded_at,
        }
    }
}
