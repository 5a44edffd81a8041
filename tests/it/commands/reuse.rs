//! Reuse: what is taken over, by whom, and what a decision says (B13–B16, W2).

use lease_events::codec::decode;
use lease_events::lease::LeaseEvent;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, ReleaseStatus, Verdict};
use lease_ledger::commands::acquire::{AcquireAnswer, AcquiredHow};
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::environment::update::UpdateEnvironment;
use lease_ledger::drivers::sandbox::fake::Trouble;
use serde_json::json;

use crate::support::{Bench, acquire_request, caller, company, fake, operator, run};

/// A sandbox that run 1 has left, ready to be taken over.
async fn left(bench: &Bench, config: serde_json::Value) -> AcquireAnswer {
    let environment = bench.environment("reuse", fake(config)).await;
    let answer = bench.acquire(environment.environment_id, run(1)).await.expect("acquired");
    let lease = bench.release(&answer.lease, ReleaseStatus::Released).await.expect("released");
    assert_eq!(lease.cleanup_status, Some(CleanupStatus::Pending));
    AcquireAnswer { lease, ..answer }
}

#[tokio::test(start_paused = true)]
async fn the_next_run_resumes_it_under_a_higher_token() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true })).await;
    let second = bench.acquire(first.environment.environment_id, run(2)).await.expect("acquired");
    assert_eq!(second.how, AcquiredHow::Reused);
    assert_eq!(second.lease.provider_lease_id(), first.lease.provider_lease_id());
    assert_eq!((first.lease.fencing_token(), second.lease.fencing_token()), (Some(1), Some(2)));
    assert_eq!(bench.held(), 1);
    assert_eq!(bench.story(second.lease.lease_id).await, ["requested", "reuse-decided", "resumed"]);
    let first_now = bench.lease(first.lease.lease_id).await;
    assert_eq!((first_now.claimed_by, first_now.cleanup_status), (Some(second.lease.lease_id), None));

    // What was handed over is not the first lease's to destroy (field: paperclip#5954, agent-workspace-fabric#423).
    let destroy = DestroyRequest {
        company_id: None,
        lease_id: first.lease.lease_id,
        authority: Some(operator()),
        if_revision: None,
    };
    let error = bench.ledger.destroy(caller(), destroy).await.unwrap_err();
    assert_eq!(error.code(), "handed-over");
    assert_eq!(bench.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_asks_again_is_answered_the_lease_it_holds() {
    let bench = Bench::new();
    let environment = bench.environment("reuse", fake(json!({ "reuseLease": true, "acquireDelayMs": 50 }))).await;
    let (left, right) = tokio::join!(
        bench.acquire(environment.environment_id, run(1)),
        bench.acquire(environment.environment_id, run(1)),
    );
    let (left, right) = (left.expect("acquired"), right.expect("acquired"));
    assert_eq!(left.lease.lease_id, right.lease.lease_id);
    assert_ne!(left.how, right.how);
    assert_eq!(bench.held(), 1);
    bench.release(&left.lease, ReleaseStatus::Released).await.expect("released");
    let next = bench.acquire(environment.environment_id, run(1)).await.expect("acquired");
    assert_eq!((next.how, next.lease.generation), (AcquiredHow::Reused, 1));
}

#[tokio::test(start_paused = true)]
async fn any_other_config_key_or_workspace_is_another_sandbox_and_why_says_so() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true })).await;
    let environment_id = first.environment.environment_id;
    let update = UpdateEnvironment {
        company_id: company(),
        environment_id,
        config: fake(json!({ "reuseLease": true, "releaseDelayMs": 1 })),
        if_revision: None,
    };
    bench.ledger.update_environment(caller(), update).await.expect("updated");
    let second = bench.acquire(environment_id, run(2)).await.expect("acquired");
    assert_eq!(second.how, AcquiredHow::Fresh);
    let why = bench.ledger.why(second.lease.lease_id, None).await.expect("why");
    let candidate = &why.decisions[0].1.candidates[0];
    assert_eq!(candidate.verdict, Verdict::FingerprintDiffers);
    assert_eq!(candidate.detail.as_deref(), Some("differs in releaseDelayMs"));

    let with_workspace = lease_ledger::commands::acquire::AcquireRequest {
        execution_workspace_id: Some("other".into()),
        ..acquire_request(environment_id, Some(run(3)))
    };
    let third = bench.ledger.acquire(caller(), with_workspace).await.expect("acquired");
    assert_eq!(third.how, AcquiredHow::Fresh);
    assert_eq!(third.lease.policy.as_str(), "reuse_by_execution_workspace");
}

#[tokio::test(start_paused = true)]
async fn only_what_was_released_in_good_order_is_taken_over() {
    let bench = Bench::new();
    let environment = bench.environment("reuse", fake(json!({ "reuseLease": true }))).await;
    for status in [ReleaseStatus::Failed, ReleaseStatus::Expired] {
        let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
        bench.release(&lease, status).await.expect("released");
    }
    let active = bench.acquire(environment.environment_id, run(2)).await.expect("acquired");
    let other = bench.acquire(environment.environment_id, run(3)).await.expect("acquired");
    assert_eq!((active.how, other.how), (AcquiredHow::Fresh, AcquiredHow::Fresh));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_recorded_as_gone_and_replaced() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true })).await;
    bench.provider.inject(Effect::Resume, Trouble::Gone);
    let second = bench.acquire(first.environment.environment_id, run(2)).await.expect("acquired");
    assert_eq!(second.how, AcquiredHow::Fresh);
    let story = bench.story(second.lease.lease_id).await;
    assert_eq!(story, ["requested", "reuse-decided", "reuse-decided", "provider-acquired"]);
    let first = bench.lease(first.lease.lease_id).await;
    assert_eq!(first.cleanup_status, Some(CleanupStatus::Success));
    assert_eq!(bench.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resumed_is_kept_and_the_config_decides_what_then() {
    for (on_resume_failure, trouble) in
        [("fresh", Trouble::Refused), ("fresh", Trouble::UnknownAfter), ("fail", Trouble::NotDone)]
    {
        let bench = Bench::new();
        let first = left(&bench, json!({ "reuseLease": true, "onResumeFailure": on_resume_failure })).await;
        bench.provider.inject(Effect::Resume, trouble);
        let second = bench.acquire(first.environment.environment_id, run(2)).await;
        assert_eq!(second.is_ok(), on_resume_failure == "fresh", "{second:?}");
        let kept = bench.lease(first.lease.lease_id).await;
        assert_eq!((kept.status, kept.cleanup_status), (LeaseStatus::Retained, Some(CleanupStatus::Pending)));
        assert!(!kept.is_reusable());
        // Both are still there: what could not be resumed may hold somebody's work.
        assert_eq!(bench.held(), if on_resume_failure == "fresh" { 2 } else { 1 });
        let third = bench.acquire(first.environment.environment_id, run(3)).await.expect("acquired");
        assert_eq!(third.how, AcquiredHow::Fresh);

        let destroy = DestroyRequest {
            company_id: None,
            lease_id: first.lease.lease_id,
            authority: Some(operator()),
            if_revision: None,
        };
        let destroyed = bench.ledger.destroy(caller(), destroy).await.expect("an operator may");
        assert_eq!(destroyed.cleanup_status, Some(CleanupStatus::Success));
    }
}

/// Issue: 64 concurrent acquires that all match one reusable lease; W2, field: paperclip#5954, agent-sandbox#418.
#[tokio::test(start_paused = true)]
async fn of_64_acquires_for_one_sandbox_exactly_one_gets_it_50_times() {
    for _ in 0..50 {
        let bench = Bench::new();
        let first = left(&bench, json!({ "reuseLease": true, "resumeDelayMs": 3, "acquireDelayMs": 2 })).await;
        let environment_id = first.environment.environment_id;
        let acquires = (0..64).map(|number| {
            let ledger = bench.ledger.clone();
            let request = acquire_request(environment_id, Some(run(100 + number)));
            tokio::spawn(async move { ledger.acquire(caller(), request).await.expect("acquired") })
        });
        let mut reused = 0;
        let mut seen = std::collections::BTreeSet::new();
        for acquire in acquires.collect::<Vec<_>>() {
            let answer = acquire.await.expect("no panic");
            reused += usize::from(answer.how == AcquiredHow::Reused);
            let held = answer.lease.provider_lease_id().expect("a sandbox").to_owned();
            assert!(seen.insert(held), "no sandbox has two holders");
        }
        assert_eq!((reused, seen.len(), bench.held()), (1, 64, 64));
        let claims = bench.ledger.history(first.lease.lease_id, None).await.expect("history");
        let claims = claims.iter().filter(|event| matches!(decode(event), Ok(LeaseEvent::ReuseClaimed(_))));
        assert_eq!(claims.count(), 1);
    }
}
