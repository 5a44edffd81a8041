//! What is asked: history and replay from the streams, lists from the projections. Changes nothing.
//!
//! A single lease or environment is always folded from its own stream, so that a reader sees what it wrote; lists
//! come from the projections, which a reader may ask to be at least at a position.

pub mod history;
pub mod why;

use chrono::{DateTime, Utc};
use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::record::{Position, RecordedEvent, StreamId};

use crate::commands::Context;
use crate::commands::error::CommandError;
use crate::commands::replay::state_until;

/// A point in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Now.
    Now,
    /// Behind the event at this position.
    Position(Position),
    /// Behind the last event recorded at or before this moment.
    Time(DateTime<Utc>),
}

impl AsOf {
    fn includes(self, recorded: &RecordedEvent) -> bool {
        match self {
            Self::Now => true,
            Self::Position(position) => recorded.position <= position,
            Self::Time(time) => recorded.recorded_at <= time,
        }
    }
}

/// A lease as it was then.
pub async fn lease(
    context: &Context,
    lease_id: LeaseId,
    company_id: Option<CompanyId>,
    as_of: AsOf,
) -> Result<LeaseState, CommandError> {
    state_until(context.store.as_ref(), &StreamId::lease(lease_id), |recorded| as_of.includes(recorded))
        .await?
        .filter(|state: &LeaseState| company_id.is_none_or(|company| company == state.company_id))
        .ok_or(CommandError::UnknownLease { lease_id, company_id })
}
