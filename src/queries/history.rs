//! The history of one lease: its recorded events, as they are stored.

use lease_events::id::{CompanyId, LeaseId};
use lease_events::record::{RecordedEvent, StreamId};

use super::read_all_of;
use crate::commands::Context;
use crate::commands::error::CommandError;

/// Every event of a lease's stream, oldest first. A lease of another company is not there.
pub async fn lease_history(
    context: &Context,
    lease_id: LeaseId,
    company_id: Option<CompanyId>,
) -> Result<Vec<RecordedEvent>, CommandError> {
    let events = read_all_of(context, &StreamId::lease(lease_id)).await?;
    let is_there = events.first().is_some_and(|first| company_id.is_none_or(|company| company == first.company_id));
    if is_there { Ok(events) } else { Err(CommandError::UnknownLease { lease_id, company_id }) }
}
