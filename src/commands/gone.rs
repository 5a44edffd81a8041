//! Gone: what a lease holds is not at its provider any more, and that is recorded. `recovery` says so only where the
//! provider can confirm it and did so twice.
//!
//! **Invariants:** decided on the loaded stream. A lease that is over gets its receipt; one that is active is released
//! as `failed`, through its driver, so that the provider has the last word.

use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseCleanupSucceeded, Receipt};
use lease_events::lease::vocabulary::{LeaseStatus, Reason, ReceiptState, ReleaseStatus, Teardown};
use lease_events::seam::crash::Step;

use super::Context;
use super::authority::Authority;
use super::caller::Command;
use super::error::CommandError;
use super::release::{Ending, ReleaseRequest, Wanted, end};
use super::session::LeaseSession;
use super::upkeep::{Did, Upkeep};

/// Records that `provider_lease_id`, which the lease is said to hold, is gone; `None` where the lease does not hold it.
pub async fn record_gone(
    context: &Context,
    command: &Command,
    lease_id: LeaseId,
    provider_lease_id: &str,
) -> Result<Option<Upkeep>, CommandError> {
    let mut session = LeaseSession::load_existing(context, command, lease_id, None).await?;
    let state = session.state()?;
    if state.provider_lease_id() != Some(provider_lease_id) {
        return Ok(None);
    }
    let because = format!("{provider_lease_id} is not at its provider any more, which was confirmed twice");
    if state.status == LeaseStatus::Active {
        let ended = end(context, command, &ending(lease_id)).await?;
        return Ok(ended.asked.then(|| Upkeep::new(Did::RecordedGone, because)));
    }
    let keeps = |state: &LeaseState| !state.status.is_open() && state.keeps_something();
    let receipt = Receipt { state: ReceiptState::Gone, provider_lease_id: Some(provider_lease_id.to_owned()) };
    let record = session.decide(|state| {
        let gone = LeaseCleanupSucceeded { receipt: receipt.clone() };
        Ok(if keeps(state) { vec![gone.into()] } else { Vec::new() })
    });
    context.step(Step::GoneOutcome, record).await?;
    Ok((session.written() > 0).then(|| Upkeep::new(Did::RecordedGone, because)))
}

fn ending(lease_id: LeaseId) -> Ending {
    Ending {
        request: ReleaseRequest {
            company_id: None,
            lease_id,
            authority: Some(Authority::Ledger),
            if_revision: None,
            status: ReleaseStatus::Failed,
        },
        wanted: Wanted { status: ReleaseStatus::Failed, teardown: Teardown::ByPolicy, reason: Reason::ProviderFailed },
        only_if: Some(|state, _| state.status == LeaseStatus::Active),
    }
}
