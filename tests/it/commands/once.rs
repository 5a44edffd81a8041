//! The same idempotency key is the same command: one effect, one answer (field: mitos#240, prime#678, lakekeeper#1959).

use std::sync::Arc;

use lease_events::failure::FailureClass;
use lease_events::lease::vocabulary::{Effect, LeaseStatus, ReleaseStatus};
use lease_ledger::commands::acquire::AcquireRequest;
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::execute::ExecuteRequest;
use lease_ledger::drivers::sandbox::fake::Trouble;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::world::{Doom, World};
use crate::support::{Bench, acquire_request, caller, fake, release_request, run};

#[tokio::test(start_paused = true)]
async fn an_acquire_sent_twice_makes_one_sandbox() {
    for run_id in [None, Some(run(1))] {
        let bench = Bench::new();
        let environment = bench.environment("plain", fake(json!({ "acquireDelayMs": 100 }))).await;
        let request = acquire_request(environment.environment_id, run_id);
        let send = || bench.ledger.acquire(caller().with_key("one"), request.clone());
        // At the same time, and again later.
        let (first, second) = tokio::join!(send(), send());
        let (first, second) = (first.expect("acquired"), second.expect("acquired"));
        assert_eq!(first, second);
        bench.release(&first.lease, ReleaseStatus::Released).await.expect("released");
        let third = send().await.expect("the same answer, though it is released by now");
        assert_eq!(first, third);
        assert_eq!(bench.provider.calls(Effect::Acquire), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_for_another_request_or_operation_is_refused() {
    let bench = Bench::new();
    let environment = bench.environment("plain", fake(json!({}))).await;
    let request = acquire_request(environment.environment_id, Some(run(1)));
    let lease = bench.ledger.acquire(caller().with_key("one"), request.clone()).await.expect("acquired").lease;
    let before = bench.ledger.head().await.expect("head");

    let other = AcquireRequest { agent_id: Some("another".into()), ..request };
    let error = bench.ledger.acquire(caller().with_key("one"), other).await.unwrap_err();
    assert_eq!(error.code(), "idempotency-key-reused");
    let wanted = release_request(lease.lease_id, Some(Authority::Holder { fencing_token: 1 }), ReleaseStatus::Released);
    let error = bench.ledger.release(caller().with_key("one"), wanted).await.unwrap_err();
    assert!(error.to_string().contains("was used before for acquire with another request"), "{error}");
    assert_eq!(bench.ledger.head().await.expect("head"), before);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_answered_the_same_and_not_tried_again() {
    for (trouble, code) in [(Trouble::Refused, "provider-failed"), (Trouble::UnknownAfter, "outcome-unknown")] {
        let bench = Bench::new();
        let environment = bench.environment("plain", fake(json!({}))).await;
        bench.provider.inject(Effect::Acquire, trouble);
        let request = acquire_request(environment.environment_id, Some(run(1)));
        for _ in 0..2 {
            let error = bench.ledger.acquire(caller().with_key("one"), request.clone()).await.unwrap_err();
            assert_eq!(error.code(), code);
        }
        assert_eq!(bench.provider.calls(Effect::Acquire), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_executed_once_and_its_end_is_told_again() {
    let bench = Bench::new();
    let environment = bench.environment("plain", fake(json!({}))).await;
    let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    for _ in 0..2 {
        let request = ExecuteRequest {
            company_id: None,
            lease_id: lease.lease_id,
            authority: Some(Authority::Holder { fencing_token: 1 }),
            command: "exit".into(),
            args: vec!["3".into()],
            cwd: None,
            env: Vec::new(),
            stdin: None,
            timeout_ms: None,
        };
        let (output, _chunks) = mpsc::channel(8);
        let answer = bench.ledger.execute(caller().with_key("run it"), request, output).await.expect("executed");
        assert_eq!(answer.execution.exit_code, Some(3));
    }
    assert_eq!(bench.provider.calls(Effect::Execute), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_could_not_be_kept_is_not_given() {
    let world = World::new();
    let (fenced, heir) = (Arc::<Doom>::default(), world.start(&Arc::default()));
    let before = world.start(&fenced);
    let environment = heir.environment("plain", fake(json!({}))).await;
    let request = acquire_request(environment.environment_id, Some(run(1)));

    fenced.fence_at("command-completed");
    let error = before.ledger.acquire(caller().with_key("one"), request.clone()).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("answer-not-kept", FailureClass::Unavailable), "{error}");
    // What its successor is told of it, it is told for ever.
    let first = heir.ledger.acquire(caller().with_key("one"), request.clone()).await.expect("acquired before");
    let wanted =
        release_request(first.lease.lease_id, Some(Authority::Holder { fencing_token: 1 }), ReleaseStatus::Released);
    fenced.fence_at("command-completed");
    let error = before.ledger.release(caller().with_key("two"), wanted.clone()).await.unwrap_err();
    assert_eq!(error.code(), "answer-not-kept");
    let again = heir.ledger.acquire(caller().with_key("one"), request).await.expect("acquired before");
    assert_eq!(again, first);
    let released = heir.ledger.release(caller().with_key("two"), wanted).await.expect("released before");
    assert_eq!(released.status, LeaseStatus::Released);
    assert_eq!((world.provider.calls(Effect::Acquire), world.provider.calls(Effect::Release)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_are_told_one_command_answer_the_same() {
    let world = World::new();
    let (slow, quick) = (Arc::<Doom>::default(), world.start(&Arc::default()));
    let late = world.start(&slow);
    let environment = quick.environment("plain", fake(json!({}))).await;
    let request = acquire_request(environment.environment_id, Some(run(1)));

    slow.stall_at("command-completed");
    let asked = tokio::spawn({
        let (ledger, request) = (late.ledger.clone(), request.clone());
        async move { ledger.acquire(caller().with_key("one"), request).await }
    });
    slow.stalled().await;
    let active = quick.acquire(environment.environment_id, run(1)).await.expect("held already").lease;
    quick.release(&active, ReleaseStatus::Released).await.expect("released");
    let told = quick.ledger.acquire(caller().with_key("one"), request).await.expect("acquired by the other");
    slow.go_on();
    let first = asked.await.expect("no panic").expect("acquired");
    assert_eq!(first, told);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_two_processes_are_given_for_two_requests_is_the_first_ones() {
    let world = World::new();
    let (slow, quick) = (Arc::<Doom>::default(), world.start(&Arc::default()));
    let late = world.start(&slow);
    let environment = quick.environment("plain", fake(json!({}))).await;

    slow.stall_at("command-accepted");
    let asked = tokio::spawn({
        let (ledger, request) = (late.ledger.clone(), acquire_request(environment.environment_id, Some(run(1))));
        async move { ledger.acquire(caller().with_key("one"), request).await }
    });
    slow.stalled().await;
    let request = acquire_request(environment.environment_id, Some(run(2)));
    quick.ledger.acquire(caller().with_key("one"), request).await.expect("acquired");
    slow.go_on();
    let error = asked.await.expect("no panic").unwrap_err();
    assert_eq!(error.code(), "idempotency-key-reused");
    assert_eq!(world.provider.calls(Effect::Acquire), 1);
}
