//! A lease's plain life, and what each policy leaves.

use chrono::TimeDelta;
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, ReleaseStatus};
use lease_events::seam::Clock;
use lease_ledger::commands::acquire::AcquiredHow;
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::execute::ExecuteRequest;
use lease_ledger::commands::realize::RealizeRequest;
use lease_ledger::commands::renew::RenewRequest;
use lease_ledger::commands::resume::ResumeRequest;
use lease_ledger::drivers::{OutputStream, Workspace};
use lease_ledger::queries::AsOf;
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Bench, acquire_request, caller, company, fake, operator, run};

#[tokio::test(start_paused = true)]
async fn from_requested_to_released_every_step_is_an_event() {
    let bench = Bench::new();
    let environment = bench.environment("plain", fake(json!({}))).await;
    let answer = bench.acquire(environment.environment_id, run(1)).await.expect("acquired");
    let lease = answer.lease;
    assert_eq!((answer.how, lease.status, lease.fencing_token()), (AcquiredHow::Fresh, LeaseStatus::Active, Some(1)));
    let authority = Some(Authority::Holder { fencing_token: 1 });

    let realize = RealizeRequest {
        company_id: Some(company()),
        lease_id: lease.lease_id,
        authority: authority.clone(),
        if_revision: Some(lease.revision),
        workspace: Workspace { local_path: Some("/src".into()), ..Workspace::default() },
    };
    let realized = bench.ledger.realize(caller(), realize).await.expect("realized");
    let record = realized.realization.expect("a record");
    assert_eq!(record["version"], 1);
    assert_eq!(record["leaseId"], lease.lease_id.to_string());
    assert_eq!(record["local"]["path"], "/src");

    let (output, mut chunks) = mpsc::channel(8);
    let execute = ExecuteRequest {
        company_id: None,
        lease_id: lease.lease_id,
        authority,
        command: "echo".into(),
        args: vec!["hello".into()],
        cwd: None,
        env: vec![("TOKEN".into(), "s3cret".into())],
        stdin: None,
        timeout_ms: None,
    };
    let executed = bench.ledger.execute(caller(), execute, output).await.expect("executed");
    assert_eq!(executed.execution.exit_code, Some(0));
    let chunk = chunks.recv().await.expect("output");
    assert_eq!((chunk.stream, &*chunk.bytes), (OutputStream::Stdout, &b"hello\n"[..]));

    let released = bench.release(&executed.lease, ReleaseStatus::Released).await.expect("released");
    assert_eq!(released.status, LeaseStatus::Released);
    assert_eq!(released.cleanup_status, Some(CleanupStatus::Success));
    assert_eq!(bench.held(), 0);
    let story = bench.story(lease.lease_id).await;
    assert_eq!(
        story,
        [
            "requested",
            "provider-acquired",
            "realized",
            "command-started",
            "command-executed",
            "release-requested",
            "released"
        ]
    );
    for recorded in bench.ledger.history(lease.lease_id, None).await.expect("history") {
        assert!(!recorded.data.contains("s3cret") && !recorded.data.contains("hello"), "{}", recorded.data);
        assert!(recorded.metadata.contains(&run(1).to_string()), "the run is the conversation: {}", recorded.metadata);
    }
}

#[tokio::test(start_paused = true)]
async fn the_local_driver_writes_intent_and_outcome_in_one_append() {
    let bench = Bench::new();
    let environment = bench.environment_of("local", "here", json!({})).await;
    let answer = bench.acquire(environment.environment_id, run(1)).await.expect("acquired");
    assert_eq!(answer.lease.revision, 1);
    let released = bench.release(&answer.lease, ReleaseStatus::Released).await.expect("released");
    assert_eq!((released.status, released.revision), (LeaseStatus::Released, 3));
}

#[tokio::test(start_paused = true)]
async fn retain_on_failure_keeps_what_failed_until_it_is_destroyed() {
    let bench = Bench::new();
    let environment = bench.environment("kept", fake(json!({ "leasePolicy": "retain_on_failure" }))).await;
    let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    let retained = bench.release(&lease, ReleaseStatus::Failed).await.expect("released");
    assert_eq!(retained.status, LeaseStatus::Retained);
    assert_eq!(retained.failure_reason.as_deref(), Some("adapter_or_run_failure"));
    assert_eq!(bench.held(), 1);

    let resume =
        ResumeRequest { company_id: None, lease_id: lease.lease_id, authority: Some(operator()), if_revision: None };
    let resumed = bench.ledger.resume(caller(), resume).await.expect("resumed for inspection");
    assert_eq!((resumed.status, resumed.fencing_token()), (LeaseStatus::Active, Some(2)));
    bench.release(&resumed, ReleaseStatus::Failed).await.expect("released again");

    let destroy =
        DestroyRequest { company_id: None, lease_id: lease.lease_id, authority: Some(operator()), if_revision: None };
    let destroyed = bench.ledger.destroy(caller(), destroy.clone()).await.expect("destroyed");
    assert_eq!((destroyed.status, destroyed.cleanup_status), (LeaseStatus::Retained, Some(CleanupStatus::Success)));
    assert_eq!(bench.held(), 0);
    let again = bench.ledger.destroy(caller(), destroy).await.expect("destroyed already");
    assert_eq!(again.revision, destroyed.revision);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_stays_within_what_the_provider_confirmed() {
    let bench = Bench::new();
    let environment = bench.environment("short", fake(json!({ "expiresInMs": 60_000 }))).await;
    let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    let end = lease.expires_at.expect("the provider confirmed one");
    let renew = |expires_at| RenewRequest {
        company_id: None,
        lease_id: lease.lease_id,
        authority: Some(Authority::Holder { fencing_token: 1 }),
        if_revision: None,
        expires_at,
    };
    let sooner = end - TimeDelta::seconds(10);
    let renewed = bench.ledger.renew(caller(), renew(sooner)).await.expect("renewed");
    assert_eq!(renewed.expires_at, Some(sooner));
    let error = bench.ledger.renew(caller(), renew(end + TimeDelta::seconds(1))).await.unwrap_err();
    assert!(error.to_string().contains("beyond the end that the provider confirmed"), "{error}");

    // field: crabbox#1035, renewing an expired lease passes the cap.
    bench.clock.skip(TimeDelta::minutes(2));
    let error = bench.ledger.renew(caller(), renew(bench.clock.now() + TimeDelta::seconds(5))).await.unwrap_err();
    assert_eq!(error.code(), "lease-expired");
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_be_seen_as_it_was_at_any_point() {
    let bench = Bench::new();
    let environment = bench.environment("plain", fake(json!({ "acquireDelayMs": 5_000 }))).await;
    let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    bench.release(&lease, ReleaseStatus::Released).await.expect("released");
    let events = bench.ledger.history(lease.lease_id, None).await.expect("history");
    let statuses = ["requested", "active", "releasing", "released"];
    for (recorded, status) in events.iter().zip(statuses) {
        let then = bench.ledger.lease(lease.lease_id, None, AsOf::Position(recorded.position)).await.expect("then");
        assert_eq!(then.status.as_str(), status);
    }
    let before_the_answer = events[0].recorded_at + TimeDelta::seconds(1);
    let then = bench.ledger.lease(lease.lease_id, None, AsOf::Time(before_the_answer)).await.expect("then");
    assert_eq!(then.status, LeaseStatus::Requested);
}

#[tokio::test(start_paused = true)]
async fn an_ad_hoc_lease_is_ephemeral_and_leaves_nothing_to_take_over() {
    let bench = Bench::new();
    let environment = bench.environment("reuse", fake(json!({ "reuseLease": true }))).await;
    let request = acquire_request(environment.environment_id, None);
    let lease = bench.ledger.acquire(caller(), request).await.expect("acquired").lease;
    assert_eq!(lease.policy.as_str(), "ephemeral");
    bench.release(&lease, ReleaseStatus::Released).await.expect("released");
    assert_eq!(bench.held(), 0);
}
