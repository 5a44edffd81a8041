//! Destroy: what a lease holds at the provider is torn down, whatever its policy, whether it is active or over.

use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, Reason, ReleaseStatus, Teardown};
use serde::Serialize;

use super::Context;
use super::authority::Authority;
use super::caller::Command;
use super::error::CommandError;
use super::release::{Ending, ReleaseRequest, Wanted, end};

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct DestroyRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// By what right.
    pub authority: Option<Authority>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Tears it down. What is torn down already is answered as it is; what another lease took over is refused. A
/// provider that fails is an error here, since the caller asked for just this; the cleanup stays owed.
pub async fn destroy(
    context: &Context,
    command: &Command,
    request: &DestroyRequest,
) -> Result<LeaseState, CommandError> {
    let reason = match &request.authority {
        Some(Authority::Operator { .. }) => Reason::OperatorReleased,
        _ => Reason::HolderReleased,
    };
    let ending = Ending {
        request: ReleaseRequest {
            company_id: request.company_id,
            lease_id: request.lease_id,
            authority: request.authority.clone(),
            if_revision: request.if_revision,
            status: ReleaseStatus::Released,
        },
        wanted: Wanted { status: ReleaseStatus::Released, teardown: Teardown::Destroy, reason },
        only_if: None,
    };
    let state = end(context, command, &ending).await?.state;
    match (&state.last_fault, state.cleanup_status) {
        (Some(fault), Some(CleanupStatus::Failed)) => {
            Err(CommandError::Provider { lease_id: state.lease_id, effect: Effect::Destroy, fault: fault.clone() })
        }
        _ => Ok(state),
    }
}
