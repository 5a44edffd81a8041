//! Waive: an operator gives the cleanup of a lease up, and says why. The only end of that duty without a receipt.

use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::LeaseCleanupWaived;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::Context;
use super::authority::{self, Authority};
use super::caller::Command;
use super::error::CommandError;
use super::session::LeaseSession;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct WaiveRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// Why, in the operator's own words.
    pub reason: String,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Ends the duty to clean up. A lease that is in use, or owes nothing, is refused.
pub async fn waive(context: &Context, command: &Command, request: &WaiveRequest) -> Result<LeaseState, CommandError> {
    // Whatever is being tried comes to its end first.
    let _held = context.locks.hold(request.lease_id.0).await;
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    if session.written() > 0 {
        return session.into_state();
    }
    authority::check_revision(request.if_revision, session.state()?)?;
    let operator = Authority::Operator { reason: request.reason.clone() };
    let waiver = session.decide(|state| {
        authority::check(Some(&operator), state)?;
        check_owed(state)?;
        Ok(vec![LeaseCleanupWaived { note: request.reason.clone() }.into()])
    });
    context.step(Step::WaiveOutcome, waiver).await?;
    session.into_state()
}

fn check_owed(state: &LeaseState) -> Result<(), CommandError> {
    let lease_id = state.lease_id;
    match state.status {
        LeaseStatus::EffectUnknown => Ok(()),
        status if status.is_open() => Err(CommandError::StillInUse { lease_id, status }),
        _ if state.is_claimed_away() => match state.claimed_by {
            Some(to) => Err(CommandError::HandedOver { lease_id, to }),
            None => Err(CommandError::NothingOwed { lease_id }),
        },
        _ if state.keeps_something() => Ok(()),
        _ => Err(CommandError::NothingOwed { lease_id }),
    }
}
