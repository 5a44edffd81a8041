//! What holds of every legal history, whatever is in it.

use std::collections::BTreeSet;

use lease_events::codec::decode;
use lease_events::fold::StreamState;
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, NextActionKind};
use lease_events::lease::{LeaseEvent, LeaseState};
use proptest::prelude::*;

use crate::histories::{dressed, legal, steps};

/// What must hold of any state that a legal history can reach.
#[track_caller]
fn consistent(state: &LeaseState) {
    let open = state.status.is_open();
    assert_eq!(open, state.ended_at.is_none(), "open means no end: {state:#?}");
    assert_eq!(open, state.ended_as.is_none(), "open means no final status: {state:#?}");
    assert_eq!(open, state.end_reason.is_none(), "every end has a reason: {state:#?}");

    let in_flight = matches!(
        state.status,
        LeaseStatus::Requested | LeaseStatus::EffectUnknown | LeaseStatus::Releasing | LeaseStatus::PendingCleanup
    );
    assert_eq!(
        in_flight,
        state.in_flight.is_some(),
        "an effect is in flight just where the status says so: {state:#?}"
    );
    if let Some(ended_as) = state.ended_as {
        assert!(!matches!(ended_as, LeaseStatus::PendingCleanup) && !ended_as.is_open(), "a final status: {state:#?}");
        assert!(state.status == ended_as || in_flight, "over means in its final status: {state:#?}");
        assert_eq!(
            state.keeps_something(),
            state.next_action.is_some(),
            "what is owed is due, and only that: {state:#?}"
        );
        if state.provider_lease_id().is_some() {
            let accounted_for = state.cleanup_status.is_some() || state.claimed_by.is_some();
            assert!(accounted_for, "what is at the provider is somebody's duty: {state:#?}");
        }
    }
    assert!(!in_flight || state.next_action.is_some(), "what is in flight is settled one day: {state:#?}");

    if state.status == LeaseStatus::Active {
        assert!(state.provider_lease.is_some() && state.cleanup_status.is_none(), "active means held: {state:#?}");
        let next = state.next_action.as_ref().map(|next| (next.action, next.at));
        assert_eq!(next, state.expires_at.map(|at| (NextActionKind::Expire, Some(at))), "{state:#?}");
    }
    if let Some(next) = &state.next_action {
        let waits = matches!(next.action, NextActionKind::AwaitReuse | NextActionKind::AwaitOperator);
        assert_eq!(waits, next.at.is_none(), "what is due has a time, what waits has none: {state:#?}");
        let expires = next.action == NextActionKind::Expire;
        assert_eq!(expires, state.status == LeaseStatus::Active, "only an active lease expires: {state:#?}");
    }
    if let Some(end) = state.provider_lease.as_ref().and_then(|held| held.expires_at) {
        assert!(state.expires_at.is_some_and(|at| at <= end), "no lease outlasts its provider: {state:#?}");
    }
    if state.is_reusable() {
        assert!(state.keeps_something() && !state.is_claimed_away(), "what is reusable is there: {state:#?}");
    }
    if state.cleanup_status == Some(CleanupStatus::Success) {
        assert!(!open && !state.needs_attention, "clean is over, and nobody must look: {state:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_state_on_the_way_is_consistent(steps in steps()) {
        let (lease, states) = legal(&steps);
        for state in &states {
            consistent(state);
        }
        let claims = lease.history().iter().filter(|event| &*event.event_type == "lease-reuse-claimed").count();
        prop_assert!(claims <= 1, "claimed {claims} times");
        for (before, after) in states.iter().zip(&states[1..]) {
            prop_assert!(before.fencing_token() <= after.fencing_token());
            prop_assert_eq!(before.revision + 1, after.revision);
            if before.ended_at.is_some() && after.ended_at.is_some() {
                prop_assert_eq!(before.ended_at, after.ended_at, "an end stays where it was");
            }
        }
    }

    #[test]
    fn check_and_fold_agree_on_what_may_follow(steps in steps()) {
        let (lease, _) = legal(&steps);
        let before = lease.state().clone();
        for event in steps.iter().take(3).flat_map(|step| dressed(Some(&before), step)) {
            let checked = LeaseState::check(Some(&before), &event);
            let mut tried = lease.clone();
            prop_assert_eq!(tried.append(&event), checked.clone());
            if let Err(illegal) = checked {
                let sentence = illegal.to_string();
                prop_assert!(sentence.contains(before.status.as_str()), "{}", sentence);
                prop_assert!(sentence.contains(illegal.event_type), "{}", sentence);
            }
        }
    }

    #[test]
    fn a_fold_may_be_interrupted_anywhere(steps in steps(), cut in any::<prop::sample::Index>()) {
        let (lease, states) = legal(&steps);
        let (prefix, rest) = lease.history().split_at(cut.index(lease.history().len() + 1));
        let half = LeaseState::fold(prefix).expect("the history is legal");
        prop_assert_eq!(half.as_ref(), prefix.len().checked_sub(1).map(|last| &states[last]));
        // The half-way state may have been a snapshot on disk.
        let stored = serde_json::to_string(&half).expect("a state serialises");
        let half: Option<LeaseState> = serde_json::from_str(&stored).expect("a state is read back");
        let whole = rest
            .iter()
            .try_fold(half, |state, event| LeaseState::apply(state, event).map(Some))
            .expect("the history is legal");
        prop_assert_eq!(whole.as_ref(), states.last());
    }

    #[test]
    fn stored_events_are_read_back_as_they_were(steps in steps()) {
        for recorded in legal(&steps).0.history() {
            let event: LeaseEvent = decode(recorded).expect("what was written can be read");
            prop_assert_eq!(lease_events::codec::DomainEvent::data(&event), recorded.data.clone());
        }
    }
}

#[test]
fn the_random_histories_reach_every_status_and_every_event() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut statuses, mut types) = (BTreeSet::new(), BTreeSet::new());
    let mut hand_overs = 0;
    for _ in 0..200 {
        let (lease, states) = legal(&steps().new_tree(&mut runner).expect("a strategy without filters").current());
        statuses.extend(states.iter().map(|state| state.status));
        hand_overs += usize::from(states.iter().any(|state| state.claimed_by.is_some()));
        types.extend(lease.history().iter().map(|event| event.event_type.clone()));
    }
    assert_eq!(statuses.len(), LeaseStatus::ALL.len(), "reached {statuses:?}");
    assert_eq!(types.len(), LeaseEvent::schemas().len(), "reached {types:?}");
    assert!(hand_overs >= 10, "only {hand_overs} of the histories hand something over");
}
