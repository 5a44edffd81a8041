//! The history of one lease: its recorded events, as they are stored.

use futures_util::TryStreamExt as _;
use lease_events::id::{CompanyId, LeaseId};
use lease_events::record::{RecordedEvent, StreamId};

use crate::commands::Context;
use crate::commands::error::CommandError;
use crate::commands::replay::events_of;

/// Every event of a lease's stream, oldest first. A lease of another company is not there.
pub async fn lease_history(
    context: &Context,
    lease_id: LeaseId,
    company_id: Option<CompanyId>,
) -> Result<Vec<RecordedEvent>, CommandError> {
    let stream = StreamId::lease(lease_id);
    let events: Vec<RecordedEvent> = events_of(context.store.as_ref(), &stream, 0).try_collect().await?;
    let is_there = events.first().is_some_and(|first| company_id.is_none_or(|company| company == first.company_id));
    if is_there { Ok(events) } else { Err(CommandError::UnknownLease { lease_id, company_id }) }
}
