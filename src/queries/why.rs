//! Why a lease got the sandbox that it got: the reuse decisions on its stream, and what it was decided on.

use chrono::{DateTime, Utc};
use lease_events::codec::decode;
use lease_events::fold::{FoldError, StreamState};
use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::event::LeaseReuseDecided;
use lease_events::lease::{LeaseEvent, LeaseState};

use super::history::lease_history;
use crate::commands::Context;
use crate::commands::error::CommandError;

/// Why a lease has what it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// The lease as it is now.
    pub lease: LeaseState,
    /// Its reuse decisions, oldest first; none where its policy has no reuse.
    pub decisions: Vec<(DateTime<Utc>, LeaseReuseDecided)>,
}

/// The reuse decisions of a lease.
pub async fn why(context: &Context, lease_id: LeaseId, company_id: Option<CompanyId>) -> Result<Why, CommandError> {
    let events = lease_history(context, lease_id, company_id).await?;
    let mut decisions = Vec::new();
    for recorded in events.iter().filter(|recorded| &*recorded.event_type == "lease-reuse-decided") {
        if let LeaseEvent::ReuseDecided(decided) = decode(recorded).map_err(FoldError::from)? {
            decisions.push((recorded.recorded_at, decided));
        }
    }
    let lease = LeaseState::fold(&events)?.ok_or(CommandError::UnknownLease { lease_id, company_id })?;
    Ok(Why { lease, decisions })
}
