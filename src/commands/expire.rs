//! Expire: the ledger itself releases a lease whose time is over.
//!
//! **Invariants:** never early, by the ledger's own clock, and decided on the loaded stream: a renewal that was stored
//! first moves the deadline, and the append behind it finds that out. What ends a lease is the earlier of the wanted end
//! and the one that its provider confirmed; nothing that a sandbox says of itself moves either.

use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{LeaseStatus, Reason, ReleaseStatus, Teardown};

use super::Context;
use super::authority::Authority;
use super::caller::Command;
use super::error::{CommandError, moment};
use super::release::{Ended, Ending, ReleaseRequest, Wanted, end};
use super::upkeep::{Did, Upkeep};

/// Releases a lease as `expired` if its time is over; `None` where there is nothing to do.
pub async fn expire(context: &Context, command: &Command, lease_id: LeaseId) -> Result<Option<Upkeep>, CommandError> {
    let ending = Ending {
        request: ReleaseRequest {
            company_id: None,
            lease_id,
            authority: Some(Authority::Ledger),
            if_revision: None,
            status: ReleaseStatus::Expired,
        },
        wanted: Wanted {
            status: ReleaseStatus::Expired,
            teardown: Teardown::ByPolicy,
            reason: Reason::DeadlineReached,
        },
        only_if: Some(is_over),
    };
    let Ended { state, asked } = end(context, command, &ending).await?;
    let at = state.expires_at.map(moment).unwrap_or_default();
    Ok(asked.then(|| Upkeep::new(Did::Expired, format!("its time was over at {at}"))))
}

/// Whether the lease is active beyond its end.
fn is_over(state: &LeaseState, now: chrono::DateTime<chrono::Utc>) -> bool {
    state.status == LeaseStatus::Active && state.expires_at.is_some_and(|at| at <= now)
}
