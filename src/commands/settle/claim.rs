//! Settling a stray claim: one by a lease that will never take over what it claimed. It is made by a process that stalls
//! beyond its intent's deadline right before its claim, wakes when its lease is settled, and dies before it notices.
//!
//! **Invariant:** nobody has touched what such a claim is on: a sandbox is resumed only behind the decision on the
//! claimant's stream, which came to stand before the claim did. So it is kept as it was, and may be claimed again under a
//! higher token.

use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseEvent, LeaseReleased};
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, Reason};
use lease_events::seam::crash::Step;

use crate::commands::Context;
use crate::commands::caller::Command;
use crate::commands::error::CommandError;
use crate::commands::session::LeaseSession;
use crate::commands::upkeep::{Did, Upkeep};

/// Gives back what `claimed` kept where its claimant will never take it over; `None` where it may, or has.
pub async fn settle_claim(
    context: &Context,
    command: &Command,
    claimed: LeaseId,
) -> Result<Option<Upkeep>, CommandError> {
    let mut session = LeaseSession::load_existing(context, command, claimed, None).await?;
    let state = session.state()?;
    let Some(by) = state.claimed_by.filter(|_| state.is_claimed_away()) else { return Ok(None) };
    let claimant = LeaseSession::load_existing(context, command, by, None).await?;
    let claimant = claimant.state()?;
    if !is_stray(claimant, claimed) {
        return Ok(None);
    }
    let give_back = session.decide(|state| Ok(given_back(state, by)));
    context.step(Step::SettleStrayClaim, give_back).await?;
    let because = format!("lease {by}, which claimed it, is {} and does not hold it", claimant.status);
    Ok((session.written() > 0).then(|| Upkeep::new(Did::ClaimReturned, because)))
}

/// Whether a lease that claimed what `claimed` kept will never take it over: it is over, or holds something else.
pub(in crate::commands) fn is_stray(claimant: &LeaseState, claimed: LeaseId) -> bool {
    let is_settled = !claimant.status.is_open() || claimant.provider_lease.is_some();
    is_settled && claimant.resumed_from != Some(claimed)
}

/// What is recorded of a sandbox that `by` claimed and will never touch; nothing where it went back before. Pure.
pub(in crate::commands) fn given_back(state: &LeaseState, by: LeaseId) -> Vec<LeaseEvent> {
    if !state.is_claimed_away() || state.claimed_by != Some(by) {
        return Vec::new();
    }
    let released = LeaseReleased {
        status: LeaseStatus::Released,
        reason: Reason::TakeOverFailed,
        cleanup_status: Some(CleanupStatus::Pending),
        failure_reason: None,
        receipt: None,
    };
    vec![released.into()]
}
