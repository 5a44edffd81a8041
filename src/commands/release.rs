//! Release: the lease ends. The intent is durable first; it wins even over an acquire that is still at the provider,
//! whose owner finds it there and releases what the provider gives (see `finish`).

use lease_events::failure::Fault;
use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{
    LeaseCleanupFailed, LeaseDestroyed, LeaseEvent, LeaseReleaseRequested, LeaseReleased, Receipt,
};
use lease_events::lease::evolve::{keeps, status_of};
use lease_events::lease::state::ReleaseIntent;
use lease_events::lease::vocabulary::{
    CleanupStatus, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown,
};
use serde::Serialize;

use super::Context;
use super::authority::{self, Authority};
use super::caller::Command;
use super::effect::{driver_of, held, scope, settle_at, within};
use super::error::CommandError;
use super::session::LeaseSession;
use crate::drivers::Outcome;

/// What a lease that is kept for inspection says of itself (B18).
const RETAINED_BECAUSE: &str = "adapter_or_run_failure";

/// First wait before a failed cleanup is tried again, in seconds; doubled each time, with ±50 % jitter.
const CLEANUP_WAIT_FIRST_SECONDS: i64 = 10;
/// Longest wait before a failed cleanup is tried again, in seconds.
const CLEANUP_WAIT_MAX_SECONDS: i64 = 3_600;

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
        Some(Authority::Holder { .. }) | None => Reason::HolderReleased,
    };
    let wanted = Wanted { status: request.status, teardown: Teardown::ByPolicy, reason };
    end(context, command, &Ending { request: request.clone(), wanted }).await
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
}

/// Appends the intent, then runs its effect, unless another part of this process is at it.
pub(super) async fn end(context: &Context, command: &Command, ending: &Ending) -> Result<LeaseState, CommandError> {
    let request = &ending.request;
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    if session.written() == 0 {
        authority::check_revision(request.if_revision, session.state()?)?;
    }
    session.decide(|state| decide(context, state, ending)).await?;
    if !is_ending(session.state()?) {
        return session.into_state();
    }
    let _held = context.locks.hold(request.lease_id.0).await;
    session.refresh().await?;
    finish(context, &mut session).await?;
    session.into_state()
}

/// Whether there is a release to run: asked for, with something at the provider.
pub(super) fn is_ending(state: &LeaseState) -> bool {
    state.release.is_some() && state.provider_lease.is_some()
}

pub(super) fn decide(context: &Context, state: &LeaseState, ending: &Ending) -> Result<Vec<LeaseEvent>, CommandError> {
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
    let keep = intent.teardown == Teardown::ByPolicy && keeps(state.policy, intent.status);
    let (outcome, called) = match driver_of(context, state) {
        Ok(driver) => {
            let call = scope(state, state.fencing_token().unwrap_or_default(), state.cleanup_attempts + 1);
            let limit = driver.traits(&state.config).call_timeout;
            let held = held(state);
            let outcome = if intent.teardown == Teardown::Destroy {
                within(limit, driver.destroy(&call, &held)).await
            } else {
                within(limit, driver.release(&call, &held, intent.status, keep)).await
            };
            (outcome, true)
        }
        Err(error) => (Outcome::NotDone(Fault::new(error.code(), error.to_string())), false),
    };
    let now = context.clock.now();
    session
        .append_outcome(|state| match &outcome {
            Outcome::Done(receipt) => done(state, &intent, receipt),
            Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => {
                failed(state, &intent, fault, called, now)
            }
        })
        .await
}

pub(super) fn done(state: &LeaseState, intent: &ReleaseIntent, receipt: &Receipt) -> Vec<LeaseEvent> {
    let kept = receipt.state == ReceiptState::Kept;
    let retained = kept && state.policy == Policy::RetainOnFailure && intent.status == ReleaseStatus::Failed;
    let status = if retained { LeaseStatus::Retained } else { status_of(intent.status) };
    if intent.teardown == Teardown::Destroy {
        let status = state.ended_as.unwrap_or(status);
        return vec![LeaseDestroyed { status, reason: intent.reason, receipt: receipt.clone() }.into()];
    }
    vec![
        LeaseReleased {
            status,
            reason: intent.reason,
            cleanup_status: Some(if kept { CleanupStatus::Pending } else { CleanupStatus::Success }),
            failure_reason: (intent.status == ReleaseStatus::Failed).then(|| RETAINED_BECAUSE.to_owned()),
            receipt: Some(receipt.clone()),
        }
        .into(),
    ]
}

pub(super) fn failed(
    state: &LeaseState,
    intent: &ReleaseIntent,
    fault: &Fault,
    called: bool,
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<LeaseEvent> {
    let attempt = state.cleanup_attempts + u32::from(called);
    let wait = cleanup_wait(&state.lease_id, attempt.max(1));
    let cleanup = LeaseCleanupFailed { attempt, charged: called, fault: fault.clone(), next_try_at: Some(now + wait) };
    if state.ended_as.is_some() {
        return vec![cleanup.into()];
    }
    let released = LeaseReleased {
        status: status_of(intent.status),
        reason: intent.reason,
        cleanup_status: Some(CleanupStatus::Failed),
        failure_reason: Some(fault.message.clone()),
        receipt: None,
    };
    vec![released.into(), cleanup.into()]
}

/// How long a cleanup waits after its `attempt`-th failure. The jitter is drawn from the lease and the attempt, so
/// that leases that failed together do not come back together, and a replay waits the same.
fn cleanup_wait(lease_id: &LeaseId, attempt: u32) -> chrono::TimeDelta {
    let doubled = CLEANUP_WAIT_FIRST_SECONDS.saturating_mul(1_i64.checked_shl(attempt - 1).unwrap_or(i64::MAX));
    let base_ms = doubled.clamp(CLEANUP_WAIT_FIRST_SECONDS, CLEANUP_WAIT_MAX_SECONDS) * 1_000;
    let drawn = LeaseId::derived(&[&lease_id.to_string(), "cleanup", &attempt.to_string()]);
    // From 500 to 1,500 thousandths.
    let thousandths = 500 + i64::from(drawn.0.as_fields().0 % 1_001);
    chrono::TimeDelta::milliseconds(base_ms * thousandths / 1_000)
        .min(chrono::TimeDelta::seconds(CLEANUP_WAIT_MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_jitter_up_to_the_ceiling() {
        for attempt in 1..=40 {
            let base = (10_i64 << (attempt - 1).min(20)).min(3_600);
            for seed in 0..50 {
                let lease = LeaseId::derived(&[&seed.to_string()]);
                let wait = cleanup_wait(&lease, attempt).num_milliseconds();
                assert!(wait >= base * 500 && wait <= (base * 1_500).min(3_600_000), "{attempt}: {wait}");
            }
        }
    }
}
