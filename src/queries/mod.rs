//! What is asked: history and replay from the streams, lists from the projections. Changes nothing.
//!
//! A single lease or environment is always folded from its own stream, so that a reader sees what it wrote; lists
//! come from the projections, which a reader may ask to be at least at a position.

pub mod history;
pub mod why;

use chrono::{DateTime, Utc};
use lease_events::environment::EnvironmentState;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, SecretId};
use lease_events::lease::LeaseState;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::secret::SecretState;
use lease_events::store::{Direction, READ_EVENTS_MAX};

use crate::commands::Context;
use crate::commands::error::CommandError;

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
    lease_until(context, lease_id, |recorded| as_of.includes(recorded))
        .await?
        .filter(|state| company_id.is_none_or(|company| company == state.company_id))
        .ok_or(CommandError::UnknownLease { lease_id, company_id })
}

/// A lease folded from its first events, as long as `includes` says so.
pub(crate) async fn lease_until(
    context: &Context,
    lease_id: LeaseId,
    includes: impl Fn(&RecordedEvent) -> bool + Send,
) -> Result<Option<LeaseState>, CommandError> {
    let mut state = None;
    for recorded in read_all_of(context, &StreamId::lease(lease_id)).await?.iter().take_while(|event| includes(event)) {
        state = Some(LeaseState::apply(state, recorded)?);
    }
    Ok(state)
}

/// An environment folded from its first events, as long as `includes` says so.
pub(crate) async fn environment_until(
    context: &Context,
    environment_id: EnvironmentId,
    includes: impl Fn(&RecordedEvent) -> bool + Send,
) -> Result<Option<EnvironmentState>, CommandError> {
    let stream = StreamId::environment(environment_id);
    let mut state = None;
    for recorded in read_all_of(context, &stream).await?.iter().take_while(|event| includes(event)) {
        state = Some(EnvironmentState::apply(state, recorded)?);
    }
    Ok(state)
}

/// A secret folded from its first events, as long as `includes` says so.
pub(crate) async fn secret_until(
    context: &Context,
    secret_id: SecretId,
    includes: impl Fn(&RecordedEvent) -> bool + Send,
) -> Result<Option<SecretState>, CommandError> {
    let mut state = None;
    let events = read_all_of(context, &StreamId::secret(secret_id)).await?;
    for recorded in events.iter().take_while(|event| includes(event)) {
        state = Some(SecretState::apply(state, recorded)?);
    }
    Ok(state)
}

/// Every event of one stream, oldest first.
async fn read_all_of(context: &Context, stream: &StreamId) -> Result<Vec<RecordedEvent>, CommandError> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let page = context.store.read_stream(stream, events.len() as u64, Direction::Forwards, READ_EVENTS_MAX).await?;
        let is_last = page.len() < READ_EVENTS_MAX;
        events.extend(page);
        if is_last {
            return Ok(events);
        }
    }
}
