//! The lease's important paths by example.

use lease_events::lease::event::{LeaseCleanupFailed, LeaseProviderAcquired, LeaseReleased, LeaseRequested};
use lease_events::lease::vocabulary::CleanupStatus::{Failed as CleanupFailed, Pending, Success};
use lease_events::lease::vocabulary::LeaseStatus::{
    self, Active, EffectUnknown, Expired, Failed, PendingCleanup, Released, Releasing, Requested, Retained,
};
use lease_events::lease::vocabulary::NextActionKind::{
    AwaitOperator, AwaitReuse, Expire, FinishRelease, RetryCleanup, SettleAcquire,
};
use lease_events::lease::vocabulary::{
    Effect, ExecutionOutcome, Policy, Reason, ReleaseStatus, Teardown, WorkspaceKind,
};
use lease_events::lease::{LeaseEvent, LeaseState};

use crate::given::{Given, given};
use crate::samples::{
    PROVIDER_LEASE, acquire_failed, acquired, at, claimed, cleanup_failed, cleanup_succeeded, command, decided,
    destroyed, ended, escalated, executed, lease, one_of_each, realized, release_requested, released, renewed,
    requested, resumed, started, unknown, waived,
};

fn ask(status: ReleaseStatus) -> LeaseEvent {
    release_requested(status, Teardown::ByPolicy).into()
}

fn destroy() -> LeaseEvent {
    release_requested(ReleaseStatus::Released, Teardown::Destroy).into()
}

fn active() -> Given {
    given().when(requested()).when(acquired())
}

fn ephemeral() -> LeaseRequested {
    LeaseRequested { policy: Policy::Ephemeral, reuse_fingerprint: None, ..requested() }
}

/// Over in good order; what it holds is kept for the next run.
fn reusable() -> Given {
    active().when(ask(ReleaseStatus::Released)).when(released(Released, Pending))
}

/// What another lease claimed and could not resume, come back.
fn taken_over_in_vain() -> Given {
    let comes_back = LeaseReleased { reason: Reason::TakeOverFailed, ..released(Retained, Pending) };
    reusable().when(claimed("claimant")).when(comes_back)
}

/// A lease in each status.
fn in_each_status() -> Vec<(LeaseStatus, Given)> {
    let over = |status| active().when(ask(ReleaseStatus::Released)).when(released(status, Pending));
    vec![
        (Requested, given().when(requested())),
        (EffectUnknown, given().when(requested()).when(unknown(Effect::Acquire))),
        (Active, active()),
        (Releasing, active().when(ask(ReleaseStatus::Released))),
        (Released, over(Released)),
        (Expired, over(Expired)),
        (Failed, over(Failed)),
        (Retained, over(Retained)),
        (PendingCleanup, over(Released).when(destroy())),
    ]
}

#[test]
fn a_plain_life() {
    given()
        .when(ephemeral())
        .then(Requested, None, SettleAcquire)
        .when(acquired())
        .then(Active, None, Expire)
        .when(realized())
        .and(|state| assert_eq!(state.cwd.as_deref(), Some("/workspace")))
        .when(executed())
        .and(|state| assert_eq!(state.last_used_at, state.updated_at))
        .when(ask(ReleaseStatus::Released))
        .then(Releasing, None, FinishRelease)
        .when(released(Released, Success))
        .then(Released, Success, None)
        .and(|state| {
            assert_eq!(state.end_reason, Some(Reason::RunEnded));
            assert_eq!(state.ended_at, Some(state.updated_at));
            assert_eq!((state.created_position.0, state.position.0, state.revision), (1, 6, 5));
        });
}

#[test]
fn every_status_can_be_reached_and_the_table_holds_in_each() {
    let reached: Vec<LeaseStatus> = in_each_status().iter().map(|(_, lease)| lease.state().status).collect();
    assert_eq!(reached, LeaseStatus::ALL);
    for (status, lease) in in_each_status() {
        for event in one_of_each() {
            if !lease_events::lease::transition::is_allowed(Some(status), &event) {
                lease.clone().refuses(event);
            }
        }
    }
}

#[test]
fn a_refusal_names_the_status_and_the_event() {
    let sentence = |state: Option<&LeaseState>, event: LeaseEvent| {
        LeaseState::check(state, &event).expect_err("it may not follow").to_string()
    };
    assert_eq!(
        sentence(None, acquired().into()),
        "a lease-provider-acquired may not follow in a lease that is not there"
    );
    assert_eq!(
        sentence(Some(active().state()), requested().into()),
        "a lease-requested may not follow in a lease that is active"
    );
}

#[test]
fn a_release_that_overtakes_its_acquire_wins() {
    let overtaken = given().when(requested()).when(ask(ReleaseStatus::Expired)).then(Releasing, None, SettleAcquire);
    // The provider gave something after all: it is released at once.
    overtaken
        .clone()
        .when(acquired())
        .then(Releasing, None, FinishRelease)
        .and(|state| {
            assert_eq!(state.expires_at, Some(at(480)), "the provider's end is the earlier one");
            assert_eq!(state.in_flight.as_ref().map(|in_flight| in_flight.effect), Some(Effect::Release));
        })
        .when(released(Expired, Success))
        .then(Expired, Success, None);
    // Nothing came of it: the lease ends as the release wanted.
    overtaken
        .when(acquire_failed(Reason::AcquireCancelled))
        .then(Expired, None, None)
        .and(|state| assert_eq!(state.end_reason, Some(Reason::AcquireCancelled)));
}

#[test]
fn a_destroy_that_overtakes_its_acquire_destroys() {
    given().when(requested()).when(destroy()).when(acquired()).and(|state| {
        assert_eq!(state.in_flight.as_ref().map(|in_flight| in_flight.effect), Some(Effect::Destroy));
    });
}

#[test]
fn a_lease_does_not_end_while_its_acquire_is_under_way() {
    given()
        .when(requested())
        .when(ask(ReleaseStatus::Released))
        .refuses(released(Released, Success))
        .refuses(destroyed(Released))
        .refuses(cleanup_succeeded())
        .refuses(cleanup_failed(1, Some(at(60))))
        .refuses(waived());
}

#[test]
fn a_provider_answers_once() {
    active()
        .when(ask(ReleaseStatus::Released))
        .refuses(acquired())
        .refuses(acquire_failed(Reason::ProviderFailed))
        .refuses(decided(Some(lease("other"))));
}

#[test]
fn an_unknown_acquire_is_adopted() {
    let lost = given().when(requested()).when(unknown(Effect::Acquire)).then(EffectUnknown, None, SettleAcquire);
    lost.clone().when(acquired()).then(Active, None, Expire).and(|state| assert_eq!(state.last_fault, None));
    lost.when(ask(ReleaseStatus::Failed)).then(EffectUnknown, None, SettleAcquire).when(acquired()).then(
        Releasing,
        None,
        FinishRelease,
    );
}

#[test]
fn an_unknown_acquire_is_given_up() {
    let lost = given().when(requested()).when(unknown(Effect::Acquire));
    lost.clone()
        .when(cleanup_failed(1, Some(at(60))))
        .then(EffectUnknown, CleanupFailed, SettleAcquire)
        .when(acquire_failed(Reason::RecoverySettled))
        .then(Failed, None, None);
    lost.when(escalated(None))
        .then(EffectUnknown, CleanupFailed, AwaitOperator)
        .and(|state| assert!(state.needs_attention))
        .when(waived())
        .then(Failed, Success, None)
        .and(|state| {
            assert_eq!(state.end_reason, Some(Reason::RecoverySettled));
            assert!(!state.needs_attention);
        });
}

#[test]
fn a_lost_release_is_finished_as_a_release() {
    let lost = active()
        .when(ask(ReleaseStatus::Expired))
        .when(unknown(Effect::Release))
        .then(EffectUnknown, None, FinishRelease)
        .refuses(unknown(Effect::Acquire))
        .when(executed());
    lost.clone()
        .when(ask(ReleaseStatus::Expired))
        .then(Releasing, None, FinishRelease)
        .when(released(Expired, Success))
        .then(Expired, Success, None);
    // A receipt alone ends it too, as the release wanted and for its reason.
    lost.when(cleanup_succeeded())
        .then(Expired, Success, None)
        .and(|state| assert_eq!(state.end_reason, Some(Reason::RunEnded)));
}

#[test]
fn what_is_kept_is_claimed_once_and_handed_over() {
    reusable()
        .then(Released, Pending, AwaitReuse)
        .refuses(lease_events::lease::event::LeaseReuseClaimed { next_fencing_token: 1, ..claimed("claimant") })
        .when(claimed("claimant"))
        .then(Released, None, None)
        .and(|state| {
            assert_eq!(state.claimed_by, Some(lease("claimant")));
            assert_eq!(state.fencing_token(), Some(2));
        })
        .refuses(claimed("another"))
        // What it held is the claimant's: nothing may touch it in this lease's name.
        .refuses(destroy())
        .refuses(cleanup_failed(1, Some(at(60))))
        .refuses(escalated(None))
        .refuses(waived());
    given()
        .when(LeaseRequested { lease_id: lease("claimant"), ..requested() })
        .when(decided(Some(lease("lease"))))
        .and(|state| assert_eq!(state.in_flight.as_ref().map(|in_flight| in_flight.effect), Some(Effect::Resume)))
        .refuses(resumed(Some(lease("another")), 2))
        .when(resumed(Some(lease("lease")), 2))
        .then(Active, None, Expire)
        .and(|state| {
            assert_eq!(state.resumed_from, Some(lease("lease")));
            assert_eq!(state.provider_lease_id(), Some(PROVIDER_LEASE));
            assert_eq!(state.fencing_token(), Some(2));
        });
}

#[test]
fn only_a_released_or_retained_lease_of_a_run_with_a_reuse_policy_can_be_claimed() {
    let over = |requested: LeaseRequested| {
        given().when(requested).when(acquired()).when(ask(ReleaseStatus::Released)).when(released(Released, Pending))
    };
    over(ephemeral()).then(Released, Pending, RetryCleanup).refuses(claimed("claimant"));
    over(LeaseRequested { run_id: None, ..requested() }).refuses(claimed("claimant"));
    over(LeaseRequested { workspace_kind: WorkspaceKind::SoleCopy, ..ephemeral() }).then(
        Released,
        Pending,
        AwaitOperator,
    );
    active().refuses(claimed("claimant"));
    active().when(ask(ReleaseStatus::Released)).when(released(Expired, Pending)).refuses(claimed("claimant"));
    active().when(ask(ReleaseStatus::Released)).when(released(Released, Success)).refuses(claimed("claimant"));
}

#[test]
fn a_take_over_that_failed_leaves_the_thing_retained_for_an_operator() {
    taken_over_in_vain()
        .then(Retained, Pending, AwaitOperator)
        .and(|state| assert_eq!(state.end_reason, Some(Reason::TakeOverFailed)))
        .refuses(claimed("another"))
        .refuses(released(Retained, Pending))
        // The claimant may have got as far as the provider with token 2.
        .refuses(resumed(None, 2))
        .when(resumed(None, 3))
        .then(Active, None, Expire)
        .and(|state| assert_eq!((state.ended_at, state.end_reason), (None, None)));
    // The claimant fails, having given back, or asks for a fresh one.
    let claimant = given().when(requested()).when(decided(Some(lease("lease"))));
    claimant.clone().when(acquire_failed(Reason::ResumeFailed)).then(Failed, None, None);
    claimant
        .when(decided(None))
        .and(|state| assert_eq!(state.in_flight.as_ref().map(|in_flight| in_flight.effect), Some(Effect::Acquire)))
        .when(acquired())
        .then(Active, None, Expire);
}

#[test]
fn what_the_claimant_found_gone_is_recorded_as_gone() {
    reusable()
        .when(claimed("claimant"))
        .when(cleanup_succeeded())
        .then(Released, Success, None)
        .refuses(released(Retained, Pending));
}

#[test]
fn a_failed_cleanup_is_retried_escalated_and_waived() {
    given()
        .when(ephemeral())
        .when(acquired())
        .when(ask(ReleaseStatus::Failed))
        .when(released(Failed, CleanupFailed))
        .then(Failed, CleanupFailed, RetryCleanup)
        .and(|state| assert!(state.next_action.as_ref().is_some_and(|next| next.at.is_some()), "it has a time"))
        .when(cleanup_failed(1, Some(at(60))))
        .and(|state| assert_eq!(state.cleanup_attempts, 1))
        // The driver was not there: that does not count.
        .when(LeaseCleanupFailed { charged: false, ..cleanup_failed(2, Some(at(70))) })
        .and(|state| assert_eq!(state.cleanup_attempts, 1))
        .when(destroy())
        .then(PendingCleanup, CleanupFailed, FinishRelease)
        .when(cleanup_failed(2, Some(at(80))))
        .then(Failed, CleanupFailed, RetryCleanup)
        .when(escalated(Some(at(1500))))
        .then(Failed, CleanupFailed, RetryCleanup)
        .and(|state| assert!(state.needs_attention))
        .when(waived())
        .then(Failed, Success, None)
        .and(|state| assert!(!state.needs_attention))
        .refuses(destroy());
}

#[test]
fn what_is_retained_is_destroyed_on_request() {
    let retained = given()
        .when(LeaseRequested { policy: Policy::RetainOnFailure, ..requested() })
        .when(acquired())
        .when(ask(ReleaseStatus::Failed))
        .when(LeaseReleased {
            failure_reason: Some("adapter_or_run_failure".to_owned()),
            ..released(Retained, Pending)
        })
        .then(Retained, Pending, AwaitOperator)
        .and(|state| assert_eq!(state.failure_reason.as_deref(), Some("adapter_or_run_failure")));
    retained
        .when(destroy())
        .then(PendingCleanup, Pending, FinishRelease)
        .refuses(destroyed(Active))
        .when(destroyed(Retained))
        .then(Retained, Success, None)
        .refuses(resumed(None, 2));
}

#[test]
fn an_obligation_is_not_dropped() {
    let releasing = active().when(ask(ReleaseStatus::Released));
    let forgetful = |status| LeaseReleased { cleanup_status: None, ..released(status, Success) };
    releasing
        .refuses(forgetful(Released))
        .refuses(released(Retained, Success))
        .refuses(released(LeaseStatus::Active, Pending))
        .refuses(released(PendingCleanup, Pending));
    // What the provider has no name for, as with the local driver, leaves nothing behind.
    given()
        .when(ephemeral())
        .when(LeaseProviderAcquired { provider_lease_id: None, ..acquired() })
        .when(ask(ReleaseStatus::Released))
        .refuses(forgetful(Retained))
        .when(forgetful(Released))
        .then(Released, None, None);
}

#[test]
fn a_command_that_outlives_its_lease_is_still_a_fact() {
    for (_, lease) in in_each_status() {
        if lease.state().provider_lease.is_some() {
            let before = lease.state().clone();
            lease.when(executed()).and(|state| {
                assert_eq!((state.status, &state.next_action), (before.status, &before.next_action));
            });
        } else {
            lease.refuses(executed());
        }
    }
}

#[test]
fn a_command_is_started_once_and_ends_once_and_holds_nothing_up() {
    let running = active()
        .refuses(ended("one", ExecutionOutcome::Done))
        .when(started("one"))
        .then(Active, None, Expire)
        .refuses(started("one"))
        .refuses(ended("two", ExecutionOutcome::Done))
        .when(started("two"))
        .and(|state| {
            assert_eq!(state.last_used_at, state.updated_at);
            let running: Vec<_> = state.running.iter().map(|running| running.command_id).collect();
            assert_eq!(running, [command("one"), command("two")]);
            assert_eq!(state.running(command("one")).map(|one| one.settle_at), Some(at(90)));
        })
        // An end without a start is of none of them.
        .when(executed())
        .and(|state| assert_eq!(state.running.len(), 2));
    let before = running.state().last_used_at;
    let lost = running
        .when(ended("one", ExecutionOutcome::Unknown))
        .and(|state| assert_eq!((state.running.len(), state.last_used_at), (1, before)))
        .refuses(ended("one", ExecutionOutcome::Done));
    lost.when(ask(ReleaseStatus::Released))
        .when(released(Released, Success))
        .then(Released, Success, None)
        .refuses(started("three"))
        .when(ended("two", ExecutionOutcome::Done))
        .then(Released, Success, None)
        .and(|state| assert!(state.running.is_empty()));
}

#[test]
fn a_lease_resumes_its_own_under_a_higher_token() {
    active()
        .refuses(resumed(None, 1))
        .refuses(resumed(Some(lease("other")), 2))
        .when(resumed(None, 2))
        .then(Active, None, Expire)
        .and(|state| assert_eq!((state.fencing_token(), state.expires_at), (Some(2), Some(at(600)))));
}

#[test]
fn a_renewal_ends_no_later_than_the_provider() {
    active()
        .and(|state| assert_eq!(state.expires_at, Some(at(480))))
        .when(renewed(at(120)))
        .and(|state| assert_eq!(state.expires_at, Some(at(120))))
        .when(renewed(at(9_000)))
        .then(Active, None, Expire)
        .and(|state| {
            assert_eq!(state.expires_at, Some(at(480)));
            let because = state.next_action.as_ref().map(|next| next.because.as_str());
            assert_eq!(because, Some("the provider ends it then"));
        });
    let endless = LeaseRequested { requested_expires_at: None, ..requested() };
    given()
        .when(endless)
        .when(LeaseProviderAcquired { expires_at: None, ..acquired() })
        .then(Active, None, None)
        .when(renewed(at(120)))
        .then(Active, None, Expire);
}
