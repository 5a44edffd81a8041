//! Random legal histories: for each step every kind of event is dressed with random values, what may not follow is
//! dropped, and one of the rest is taken.
//!
//! **Invariant:** legality is asked of `LeaseState::check` alone; nothing here knows the transition table.

use lease_events::lease::event::{
    LeaseCleanupFailed, LeaseDestroyed, LeaseEffectUnknown, LeaseProviderAcquired, LeaseReleaseRequested,
    LeaseReleased, LeaseRequested, LeaseResumed, LeaseReuseClaimed,
};
use lease_events::lease::vocabulary::{
    CleanupStatus, Effect, ExecutionOutcome, LeaseStatus, Policy, Reason, ReleaseStatus, Teardown, WorkspaceKind,
};
use lease_events::lease::{LeaseEvent, LeaseState};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use crate::given::{Given, given};
use crate::samples::{
    acquire_failed, acquired, at, claimed, cleanup_failed, cleanup_succeeded, decided, destroyed, ended, escalated,
    executed, lease, realized, release_requested, released, renewed, requested, resumed, started, unknown, waived,
};

/// Longest history that is tried.
const EVENTS_MAX: usize = 60;

/// The randomness of one step. Each value is drawn on from the front, so that it shrinks.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pick: usize,
    draws: [u16; 8],
}

/// Randomness for a whole history.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec((any::<u16>(), any::<[u16; 8]>()).prop_map(|(pick, draws)| Step { pick: pick.into(), draws }), 1..EVENTS_MAX)
}

/// The history that `steps` make, together with the state after each event.
pub(crate) fn legal(steps: &[Step]) -> (Given, Vec<LeaseState>) {
    let mut lease = given();
    let mut states = Vec::new();
    for step in steps {
        let mut events = dressed(lease.state_if_any(), step);
        events.retain(|event| LeaseState::check(lease.state_if_any(), event).is_ok());
        // Ends with nothing left come one time in eight, so that histories grow.
        let lively: Vec<LeaseEvent> = events.iter().filter(|event| !leaves_nothing(event)).cloned().collect();
        if !lively.is_empty() && step.draws[0] % 8 != 0 {
            events = lively;
        }
        if events.is_empty() {
            break;
        }
        let event = events.swap_remove(step.pick % events.len());
        lease = lease.when(event);
        states.push(lease.state().clone());
    }
    (lease, states)
}

fn leaves_nothing(event: &LeaseEvent) -> bool {
    matches!(
        event,
        LeaseEvent::AcquireFailed(_)
            | LeaseEvent::CleanupSucceeded(_)
            | LeaseEvent::CleanupWaived(_)
            | LeaseEvent::Destroyed(_)
    )
}

/// An event of each kind or more, legal or not.
pub(crate) fn dressed(state: Option<&LeaseState>, step: &Step) -> Vec<LeaseEvent> {
    let draw = |index: usize| usize::from(step.draws[index]);
    let flag = |index: usize| draw(index) % 2 == 1;
    let moment = |index: usize| at(draw(index) as u64);
    let perhaps = |index: usize| flag(index).then(|| moment(index));
    let token = state.and_then(LeaseState::fencing_token).unwrap_or(0) + draw(0) as u64 % 3;
    let status = pick(LeaseStatus::ALL, draw(1));
    let wanted = pick(ReleaseStatus::ALL, draw(2));
    let teardown = pick(Teardown::ALL, draw(3));
    let other = lease(["one", "two"][draw(4) % 2]);
    let cleanup_status =
        [None, Some(CleanupStatus::Pending), Some(CleanupStatus::Success), Some(CleanupStatus::Failed)][draw(5) % 4];
    let reason = pick(Reason::ALL, draw(6));
    let provider_lease_id = (draw(4) % 5 != 0).then(|| "sandbox://fake/7".to_owned());
    let attempt = state.map_or(0, |state| state.cleanup_attempts) + u32::from(flag(7));
    vec![
        // The good end that leaves something to be claimed, once more: else hand-overs would be too rare.
        requested().into(),
        acquired().into(),
        released(LeaseStatus::Released, CleanupStatus::Pending).into(),
        LeaseRequested {
            policy: pick(Policy::ALL, draw(0)),
            run_id: requested().run_id.filter(|_| draw(1) % 5 != 0),
            requested_expires_at: perhaps(2),
            workspace_kind: pick(WorkspaceKind::ALL, draw(3)),
            ..requested()
        }
        .into(),
        LeaseReuseClaimed { next_fencing_token: token, ..claimed("claimant") }.into(),
        LeaseReuseClaimed { next_fencing_token: token + 1, ..claimed("claimant") }.into(),
        decided(flag(1).then_some(other)).into(),
        LeaseProviderAcquired { provider_lease_id, expires_at: perhaps(6), fencing_token: token, ..acquired() }.into(),
        LeaseResumed { expires_at: perhaps(5), ..resumed(flag(6).then_some(other), token) }.into(),
        acquire_failed(reason).into(),
        LeaseEffectUnknown { settle_at: moment(0), ..unknown(pick(Effect::ALL, draw(1))) }.into(),
        realized().into(),
        renewed(moment(2)).into(),
        executed().into(),
        started(["one", "two"][draw(4) % 2]).into(),
        ended(["one", "two"][draw(4) % 2], pick(ExecutionOutcome::ALL, draw(5))).into(),
        LeaseReleaseRequested { reason, settle_at: moment(7), ..release_requested(wanted, teardown) }.into(),
        LeaseReleased { reason, cleanup_status, ..released(status, CleanupStatus::Success) }.into(),
        LeaseCleanupFailed { charged: flag(7), ..cleanup_failed(attempt, perhaps(3)) }.into(),
        cleanup_succeeded().into(),
        escalated(perhaps(4)).into(),
        waived().into(),
        LeaseDestroyed { reason, ..destroyed(status) }.into(),
    ]
}

fn pick<T: Copy>(words: &[T], draw: usize) -> T {
    words[draw % words.len()]
}
