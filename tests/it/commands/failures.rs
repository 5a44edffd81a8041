//! Drivers that fail: nothing is lost from sight, nobody else is harmed (B2, B17, W5).

use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, NextActionKind, ReleaseStatus};
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::release_run::ReleaseRunRequest;
use lease_ledger::drivers::sandbox::fake::Trouble;
use serde_json::json;

use crate::support::{Bench, caller, company, fake, operator, run};

#[tokio::test(start_paused = true)]
async fn an_acquire_that_came_to_nothing_holds_nothing() {
    for trouble in [Trouble::NotDone, Trouble::Refused] {
        let bench = Bench::new();
        let environment = bench.environment("one", fake(json!({}))).await;
        bench.provider.inject(Effect::Acquire, trouble);
        let error = bench.acquire(environment.environment_id, run(1)).await.unwrap_err();
        let lease = bench.lease(error.lease_id().expect("it names the lease")).await;
        assert_eq!((lease.status, lease.next_action), (LeaseStatus::Failed, None));
        assert_eq!(bench.story(lease.lease_id).await, ["requested", "acquire-failed"]);
    }
}

/// field: paperclip#11656, crabbox#215: the sandbox is there, the reply is not.
#[tokio::test(start_paused = true)]
async fn an_acquire_whose_reply_is_lost_stays_in_sight() {
    for config in [json!({}), json!({ "acquireDelayMs": 3_600_000 })] {
        let bench = Bench::new();
        let environment = bench.environment("one", fake(config)).await;
        bench.provider.inject(Effect::Acquire, Trouble::UnknownAfter);
        let error = bench.acquire(environment.environment_id, run(1)).await.unwrap_err();
        assert_eq!(error.code(), "outcome-unknown");
        let lease = bench.lease(error.lease_id().expect("it names the lease")).await;
        assert_eq!(lease.status, LeaseStatus::EffectUnknown);
        let next = lease.next_action.expect("it will be settled");
        assert_eq!(next.action, NextActionKind::SettleAcquire);
        assert!(next.because.contains("it is settled by asking the provider again"), "{}", next.because);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_at_the_provider_still_ends_the_lease_and_owes_its_cleanup() {
    for trouble in [Trouble::NotDone, Trouble::Refused, Trouble::Unknown] {
        let bench = Bench::new();
        let environment = bench.environment("one", fake(json!({}))).await;
        let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
        bench.provider.inject(Effect::Release, trouble);
        let released = bench.release(&lease, ReleaseStatus::Released).await.expect("released in the ledger");
        assert_eq!((released.status, released.cleanup_status), (LeaseStatus::Released, Some(CleanupStatus::Failed)));
        assert_eq!(released.cleanup_attempts, 1);
        let next = released.next_action.expect("it is tried again");
        assert_eq!(next.action, NextActionKind::RetryCleanup);
        assert!(next.at.is_some());
        assert_eq!(bench.held(), 1);

        let destroy = DestroyRequest {
            company_id: None,
            lease_id: lease.lease_id,
            authority: Some(operator()),
            if_revision: None,
        };
        bench.provider.inject(Effect::Destroy, trouble);
        let error = bench.ledger.destroy(caller(), destroy.clone()).await.unwrap_err();
        assert_eq!(error.code(), "provider-failed");
        assert_eq!(bench.lease(lease.lease_id).await.cleanup_attempts, 2);
        let destroyed = bench.ledger.destroy(caller(), destroy).await.expect("destroyed");
        assert_eq!((destroyed.cleanup_status, bench.held()), (Some(CleanupStatus::Success), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_failing_release_of_a_run_stops_none_of_the_others() {
    let bench = Bench::new();
    let mut environments = vec![bench.environment_of("local", "local", json!({})).await];
    for number in 0..3 {
        environments.push(bench.environment(&format!("fake {number}"), fake(json!({}))).await);
    }
    environments.push(bench.environment("poisoned", fake(json!({ "failRelease": "refused" }))).await);
    for environment in &environments {
        bench.acquire(environment.environment_id, run(1)).await.expect("acquired");
    }
    let request = ReleaseRunRequest { company_id: company(), run_id: run(1), status: ReleaseStatus::Failed };
    let report = bench.ledger.release_run(caller(), request).await.expect("released");
    assert!(report.failed.is_empty());
    assert_eq!(report.released.len(), 5);
    assert!(report.released.iter().all(|lease| lease.status == LeaseStatus::Failed));
    let owed: Vec<&str> = report
        .released
        .iter()
        .filter(|lease| lease.cleanup_status == Some(CleanupStatus::Failed))
        .map(|lease| &*lease.environment_name)
        .collect();
    assert_eq!(owed, ["poisoned"]);
    assert_eq!(bench.held(), 1);
}
