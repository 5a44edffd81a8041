//! Release: the lease ends. The intent is durable first; it wins even over an acquire that is still at the provider,
//! whose owner finds it there and releases what the provider gives (see `finish`).

use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseDestroyed, LeaseEvent, LeaseReleaseRequested, LeaseReleased, Receipt};
use lease_events::lease::evolve::{keeps, status_of};
use lease_events::lease::state::ReleaseIntent;
use lease_events::lease::vocabulary::{
    CleanupStatus, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown,
};
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::Context;
use super::authority::{self, Authority};
use super::caller::Command;
use super::effect::{driver_of, held, scope, settle_at, within};
use super::error::CommandError;
use super::owe::{self, Try};
use super::session::LeaseSession;
use crate::drivers::Outcome;

/// What a lease that is kept for inspection says of itself (B18).
const RETAINED_BECAUSE: &str = "adapter_or_run_failure";

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// By what right.
    pub authority: Option<Authority>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
    /// How it shall end.
    pub status: ReleaseStatus,
}

/// Ends a lease. A lease that is over is answered as it is. One that is still being acquired is answered as
/// `releasing`: its acquire will end it.
pub async fn release(
    context: &Context,
    command: &Command,
    request: &ReleaseRequest,
) -> Result<LeaseState, CommandError> {
    let reason = match &request.authority {
        Some(Authority::Operator { .. }) => Reason::OperatorReleased,
        Some(Authority::Run) if request.status == ReleaseStatus::Failed => Reason::RunLost,
        Some(Authority::Run) => Reason::RunEnded,
        Some(Authority::Ledger) => Reason::RecoverySettled,
        Some(Authority::Holder { .. }) | None => Reason::HolderReleased,
    };
    let wanted = Wanted { status: request.status, teardown: Teardown::ByPolicy, reason };
    Ok(end(context, command, &Ending { request: request.clone(), wanted, only_if: None }).await?.state)
}

/// How a lease shall end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) status: ReleaseStatus,
    pub(super) teardown: Teardown,
    pub(super) reason: Reason,
}

/// A release or destroy that is asked for.
pub(super) struct Ending {
    pub(super) request: ReleaseRequest,
    pub(super) wanted: Wanted,
    /// What must hold of the lease, at each try to append the intent; else nothing is done.
    pub(super) only_if: Option<fn(&LeaseState, DateTime<Utc>) -> bool>,
}

/// What became of it.
pub(super) struct Ended {
    /// The lease.
    pub(super) state: LeaseState,
    /// Whether this command asked for the end, now or before it was broken off; else somebody had before.
    pub(super) asked: bool,
}

/// Appends the intent, then runs its effect, unless another part of this process is at it.
pub(super) async fn end(context: &Context, command: &Command, ending: &Ending) -> Result<Ended, CommandError> {
    let request = &ending.request;
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    // Told again after a crash it has asked already: what came of it since is its outcome, and is not tried anew.
    if session.written() == 0 {
        authority::check_revision(request.if_revision, session.state()?)?;
        let step = if ending.wanted.teardown == Teardown::Destroy { Step::DestroyIntent } else { Step::ReleaseIntent };
        context.step(step, session.decide(|state| decide(context, state, ending))).await?;
    }
    let asked = session.written() > 0;
    if is_ending(session.state()?) {
        let _held = context.locks.hold(request.lease_id.0).await;
        session.refresh().await?;
        finish(context, &mut session).await?;
    }
    Ok(Ended { state: session.into_state()?, asked })
}

/// Whether there is a release to run: asked for, with something at the provider.
pub(super) fn is_ending(state: &LeaseState) -> bool {
    state.release.is_some() && state.provider_lease.is_some()
}

pub(super) fn decide(context: &Context, state: &LeaseState, ending: &Ending) -> Result<Vec<LeaseEvent>, CommandError> {
    if ending.only_if.is_some_and(|holds| !holds(state, context.clock.now())) {
        return Ok(Vec::new());
    }
    let wanted = ending.wanted;
    let destroys_more =
        |intent: &ReleaseIntent| wanted.teardown == Teardown::Destroy && intent.teardown == Teardown::ByPolicy;
    match (&state.release, state.ended_as) {
        // Somebody asked before: it is under way.
        (Some(intent), _) if !destroys_more(intent) => return Ok(Vec::new()),
        (None, Some(_)) if wanted.teardown == Teardown::ByPolicy => return Ok(Vec::new()),
        (None, Some(_)) => match state.claimed_by {
            Some(to) if !state.keeps_something() => {
                return Err(CommandError::HandedOver { lease_id: state.lease_id, to });
            }
            _ if !state.keeps_something() => return Ok(Vec::new()),
            _ => {}
        },
        _ => {}
    }
    authority::check(ending.request.authority.as_ref(), state)?;
    // A driver that is gone has no time limit; the release is recorded all the same (B2).
    let traits = context.drivers.get(&state.driver).map(|driver| driver.traits(&state.config));
    let limit = traits.as_ref().map(|traits| traits.call_timeout).unwrap_or_default();
    let intent = LeaseReleaseRequested {
        status: wanted.status,
        teardown: wanted.teardown,
        reason: wanted.reason,
        note: ending.request.authority.as_ref().and_then(Authority::note),
        owner: context.owner.clone(),
        settle_at: settle_at(context, limit),
    };
    let effect_free = traits.is_some_and(|traits| traits.effect_free);
    if effect_free && state.status == LeaseStatus::Active && wanted.teardown == Teardown::ByPolicy {
        // No effect to crash in: intent and outcome are one append.
        let receipt =
            Receipt { state: ReceiptState::Destroyed, provider_lease_id: state.provider_lease_id().map(str::to_owned) };
        let released = LeaseReleased {
            status: status_of(wanted.status),
            reason: wanted.reason,
            cleanup_status: Some(CleanupStatus::Success),
            failure_reason: None,
            receipt: Some(receipt),
        };
        return Ok(vec![intent.into(), released.into()]);
    }
    Ok(vec![intent.into()])
}

/// Runs the release that the stream asks for, and records how it went. The caller holds the lease's lock. A
/// provider that fails does not keep the lease: it is over, and its cleanup is owed (B17).
pub(super) async fn finish(context: &Context, session: &mut LeaseSession<'_>) -> Result<(), CommandError> {
    let state = session.state()?;
    let Some(intent) = state.release.clone().filter(|_| is_ending(state)) else {
        return Ok(());
    };
    let destroys = intent.teardown == Teardown::Destroy;
    let protected = context.care.protects(state.workspace_kind);
    let keep = !destroys && (protected || keeps(state.policy, intent.status));
    let (effect_step, outcome_step) = if destroys {
        (Step::DestroyEffect, Step::DestroyOutcome)
    } else {
        (Step::ReleaseEffect, Step::ReleaseOutcome)
    };
    let outcome = match driver_of(context, state) {
        Ok(driver) => {
            let call = scope(state, state.fencing_token().unwrap_or_default(), state.cleanup_attempts + 1);
            let limit = driver.traits(&state.config).call_timeout;
            let held = held(state);
            let effect = async {
                if destroys {
                    within(limit, driver.destroy(&call, &held)).await
                } else {
                    within(limit, driver.release(&call, &held, intent.status, keep)).await
                }
            };
            context.step(effect_step, effect).await
        }
        Err(error) => Outcome::NotDone(Fault::new(error.code(), error.to_string())),
    };
    let record = session.append_outcome(|state| {
        if state.release.is_none() {
            // Another process, or recovery, has finished it.
            return Vec::new();
        }
        match Try::of(&outcome) {
            Ok(receipt) => done(context, state, &intent, receipt),
            Err(tried) => failed(context, state, &intent, &tried),
        }
    });
    context.step(outcome_step, record).await
}

pub(super) fn done(
    context: &Context,
    state: &LeaseState,
    intent: &ReleaseIntent,
    receipt: &Receipt,
) -> Vec<LeaseEvent> {
    let kept = receipt.state == ReceiptState::Kept;
    let retained = kept && state.policy == Policy::RetainOnFailure && intent.status == ReleaseStatus::Failed;
    let status = if retained { LeaseStatus::Retained } else { status_of(intent.status) };
    if intent.teardown == Teardown::Destroy {
        let status = state.ended_as.unwrap_or(status);
        return vec![LeaseDestroyed { status, reason: intent.reason, receipt: receipt.clone() }.into()];
    }
    let released = LeaseReleased {
        status,
        reason: intent.reason,
        cleanup_status: Some(if kept { CleanupStatus::Pending } else { CleanupStatus::Success }),
        failure_reason: (intent.status == ReleaseStatus::Failed).then(|| RETAINED_BECAUSE.to_owned()),
        receipt: Some(receipt.clone()),
    };
    let mut events = vec![released.into()];
    if kept && !keeps(state.policy, intent.status) && context.care.protects(state.workspace_kind) {
        events.push(owe::kept(state));
    }
    events
}

pub(super) fn failed(context: &Context, state: &LeaseState, intent: &ReleaseIntent, tried: &Try) -> Vec<LeaseEvent> {
    let mut events = Vec::new();
    if state.ended_as.is_none() {
        let released = LeaseReleased {
            status: status_of(intent.status),
            reason: intent.reason,
            cleanup_status: Some(CleanupStatus::Failed),
            failure_reason: Some(tried.fault.message.clone()),
            receipt: None,
        };
        events.push(released.into());
    }
    events.extend(owe::failed(context, state, tried));
    events
}
