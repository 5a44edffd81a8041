//! Reuse through a plugin (B16): what is resumed, replaced, kept, and never left.

use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, Policy, ReleaseStatus, Verdict};
use lease_ledger::commands::acquire::{AcquireAnswer, AcquiredHow};
use lease_ledger::commands::error::CommandError;
use serde_json::{Value, json};

use super::{Broken, World};

/// What run 1 left in an environment with this config.
async fn left(world: &World, config: Value) -> AcquireAnswer {
    let environment = world.environment("reuse", "sandbox", config).await;
    let answer = world.acquire(environment.environment_id, 1).await.expect("acquired");
    let lease = world.release(answer.lease.lease_id, ReleaseStatus::Released).await;
    assert_eq!(lease.cleanup_status, Some(CleanupStatus::Pending), "it is kept");
    AcquireAnswer { lease, ..answer }
}

/// What the second lease's decision says of the first in the end.
async fn verdict(world: &World, second: &AcquireAnswer) -> Verdict {
    let why = world.ledger.why(second.lease.lease_id, None).await.expect("why");
    why.decisions.last().expect("a decision").1.candidates[0].verdict
}

#[tokio::test]
async fn the_next_run_resumes_what_a_worker_process_kept() {
    let world = World::with_example(|_| {}).await;
    let first = left(&world, world.boxes(&json!({ "reuseLease": true }))).await;
    let work = world.held()[0].join("workspace/work");
    std::fs::write(&work, "a day's work").expect("a file");
    let second = world.acquire(first.environment.environment_id, 2).await.expect("acquired");
    assert_eq!((second.how, verdict(&world, &second).await), (AcquiredHow::Reused, Verdict::Taken));
    assert_eq!(second.lease.provider_lease_id(), first.lease.provider_lease_id());
    assert_eq!(second.lease.fencing_token(), Some(2));
    assert_eq!(std::fs::read_to_string(&work).expect("it is there"), "a day's work");
    world.destroy(second.lease.lease_id).await.expect("destroyed");
    assert!(world.held().is_empty());
    world.close().await;
}

#[tokio::test]
async fn what_is_gone_is_replaced_by_what_a_worker_process_makes_afresh() {
    for setting in ["fresh", "fail"] {
        let world = World::with_example(|_| {}).await;
        let config = world.boxes(&json!({ "reuseLease": true, "onResumeFailure": setting }));
        let first = left(&world, config).await;
        std::fs::remove_dir_all(&world.held()[0]).expect("removed");
        let second = world.acquire(first.environment.environment_id, 2).await.expect("acquired");
        assert_eq!((second.how, verdict(&world, &second).await), (AcquiredHow::Fresh, Verdict::Gone), "{setting}");
        assert_ne!(second.lease.provider_lease_id(), first.lease.provider_lease_id());
        let first = world.lease(first.lease.lease_id).await;
        assert_eq!(first.cleanup_status, Some(CleanupStatus::Success), "nothing of it is owed: {setting}");
        world.close().await;
    }
}

#[tokio::test]
async fn a_resume_that_a_worker_process_fails_keeps_the_old_sandbox_and_its_obligation() {
    for setting in ["fresh", "fail"] {
        let world = World::with_example(|_| {}).await;
        let config = world.boxes(&json!({ "reuseLease": true, "onResumeFailure": setting }));
        let first = left(&world, config).await;
        let sandbox = world.held().remove(0);
        let broken = Broken::new(&sandbox);
        let second = world.acquire(first.environment.environment_id, 2).await;
        if setting == "fresh" {
            let second = second.expect("acquired");
            assert_eq!((second.how, verdict(&world, &second).await), (AcquiredHow::Fresh, Verdict::ResumeFailed));
            assert_eq!(world.held().len(), 2);
        } else {
            let error = second.expect_err("it is to fail");
            assert!(matches!(&error, CommandError::Provider { effect: Effect::Resume, .. }), "{error}");
            assert_eq!(world.held().len(), 1, "nothing was made");
        }
        let kept = world.lease(first.lease.lease_id).await;
        assert_eq!((kept.status, kept.cleanup_status), (LeaseStatus::Retained, Some(CleanupStatus::Pending)));
        assert!(sandbox.join("workspace").is_dir(), "it may hold somebody's work");
        // Nobody takes it over any more; an operator ends it.
        broken.mend();
        let third = world.acquire(first.environment.environment_id, 3).await.expect("acquired");
        assert_eq!(third.how, AcquiredHow::Fresh);
        let ended = world.destroy(first.lease.lease_id).await.expect("destroyed");
        assert_eq!((ended.cleanup_status, sandbox.exists()), (Some(CleanupStatus::Success), false));
        world.close().await;
    }
}

#[tokio::test]
async fn a_provider_that_supports_no_reuse_leaves_nothing_in_its_worker_process() {
    let world = World::with_example(|manifest| {
        manifest["environmentDrivers"][1]["supportsReusableLeases"] = false.into();
    })
    .await;
    let environment = world.environment("reuse", "sandbox", world.boxes(&json!({ "reuseLease": true }))).await;
    for number in [1, 2] {
        let answer = world.acquire(environment.environment_id, number).await.expect("acquired");
        assert_eq!((answer.how, answer.lease.policy), (AcquiredHow::Fresh, Policy::Ephemeral));
        let lease = world.release(answer.lease.lease_id, ReleaseStatus::Released).await;
        assert_eq!((lease.cleanup_status, world.held().len()), (Some(CleanupStatus::Success), 0));
    }
    world.close().await;
}

#[tokio::test]
async fn a_worker_process_that_resumes_another_identity_is_not_trusted() {
    for (behaviour, declared, taken) in [
        ("other-volume", json!({ "identityFields": ["volume"] }), false),
        ("other-volume", json!({}), true),
        ("good", json!({ "identityFields": ["volume"] }), true),
        ("other-directory", json!({}), false),
    ] {
        let world = World::with_bad(behaviour, &declared).await;
        let first = left(&world, json!({ "provider": "bad-box", "reuseLease": true })).await;
        let second = world.acquire(first.environment.environment_id, 2).await.expect("acquired");
        let said = (second.how, verdict(&world, &second).await);
        let expected =
            if taken { (AcquiredHow::Reused, Verdict::Taken) } else { (AcquiredHow::Fresh, Verdict::IdentityChanged) };
        assert_eq!(said, expected, "{behaviour} {declared}");
        world.close().await;
    }
}
