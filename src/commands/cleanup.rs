//! Cleanup: what a lease left at its provider and nobody keeps is destroyed, again and again until the provider confirms
//! it. It needs neither the environment nor its present config: the lease holds all.
//!
//! No intent is stored before the effect: a destroy is idempotent, and what is owed is on record already.

use lease_events::failure::Fault;
use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::event::LeaseCleanupSucceeded;
use lease_events::lease::vocabulary::NextActionKind;
use lease_events::seam::crash::Step;

use super::Context;
use super::caller::Command;
use super::effect::{driver_of, held, scope, within};
use super::error::CommandError;
use super::owe::{self, Try};
use super::session::LeaseSession;
use super::upkeep::{Did, Upkeep};
use crate::drivers::Outcome;

/// Tries to clean up if it is due; `None` where there is nothing to do.
pub async fn cleanup(context: &Context, command: &Command, lease_id: LeaseId) -> Result<Option<Upkeep>, CommandError> {
    let _held = context.locks.hold(lease_id.0).await;
    let mut session = LeaseSession::load_existing(context, command, lease_id, None).await?;
    let state = session.state()?;
    let due_at = state.next_action.as_ref().and_then(|next| next.at);
    if !is_owed(state) || due_at.is_none_or(|at| at > context.clock.now()) {
        return Ok(None);
    }
    if context.care.protects(state.workspace_kind) {
        let keep = session.decide(|state| Ok(if is_owed(state) { vec![owe::kept(state)] } else { Vec::new() }));
        context.step(Step::CleanupOutcome, keep).await?;
        return Ok(Some(Upkeep::new(Did::Kept, "its workspace may hold the only copy of somebody's work")));
    }
    let outcome = match driver_of(context, state) {
        Ok(driver) => {
            let call = scope(state, state.fencing_token().unwrap_or_default(), state.cleanup_attempts + 1);
            let held = held(state);
            let effect = within(driver.traits(&state.config).call_timeout, driver.destroy(&call, &held));
            context.step(Step::CleanupEffect, effect).await
        }
        Err(error) => Outcome::NotDone(Fault::new(error.code(), error.to_string())),
    };
    let record = session.append_outcome(|state| {
        if !is_owed(state) {
            // Somebody else has seen to it, or wants it otherwise.
            return Vec::new();
        }
        match Try::of(&outcome) {
            Ok(receipt) => vec![LeaseCleanupSucceeded { receipt: receipt.clone() }.into()],
            Err(tried) => owe::failed(context, state, &tried),
        }
    });
    context.step(Step::CleanupOutcome, record).await?;
    (session.written() > 0).then(|| told(&session, &outcome)).transpose()
}

/// Whether the lease is over and owes a cleanup that the ledger itself sees to.
pub(super) fn is_owed(state: &LeaseState) -> bool {
    let is_next = state.next_action.as_ref().is_some_and(|next| next.action == NextActionKind::RetryCleanup);
    is_next && state.keeps_something() && !state.status.is_open() && state.provider_lease.is_some()
}

fn told(
    session: &LeaseSession<'_>,
    outcome: &Outcome<lease_events::lease::event::Receipt>,
) -> Result<Upkeep, CommandError> {
    let state = session.state()?;
    Ok(match Try::of(outcome) {
        Ok(receipt) => Upkeep::new(Did::CleanedUp, format!("the provider says that it is {}", receipt.state)),
        Err(tried) if state.needs_attention => Upkeep::new(Did::Escalated, tried.fault.message),
        Err(tried) if !tried.charged => Upkeep::new(Did::NotReached, tried.fault.message),
        Err(tried) => Upkeep::new(Did::CleanupFailed, tried.fault.message),
    })
}
