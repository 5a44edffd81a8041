//! A release that overtakes its acquire wins, whenever it comes (field: proliferate#1280, verifiers#2406).

use std::time::Duration;

use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::{LeaseStatus, ReleaseStatus};
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::release_run::{ReleaseRunRequest, RunReleaseReport};
use lease_projections::read_model::LeaseFilter;
use serde_json::json;

use crate::support::{Bench, caller, company, fake, operator, release_request, run};

async fn release_run(bench: &Bench, number: u32) -> RunReleaseReport {
    let request = ReleaseRunRequest { company_id: company(), run_id: run(number), status: ReleaseStatus::Released };
    bench.ledger.release_run(caller(), request).await.expect("released")
}

async fn the_lease(bench: &Bench) -> LeaseId {
    let filter = LeaseFilter { limit: 10, ..LeaseFilter::default() };
    let leases = bench.ledger.read_model().leases(&filter).await.expect("leases");
    assert_eq!(leases.len(), 1);
    leases[0].lease_id
}

#[tokio::test(start_paused = true)]
async fn a_run_released_while_its_acquire_is_at_the_provider_ends_with_nothing_held() {
    for config in [json!({ "acquireDelayMs": 1_000 }), json!({ "acquireDelayMs": 1_000, "reuseLease": true })] {
        let bench = Bench::new();
        let environment = bench.environment("slow", fake(config)).await;
        let acquire = tokio::spawn({
            let (ledger, id) = (bench.ledger.clone(), environment.environment_id);
            async move { ledger.acquire(caller(), crate::support::acquire_request(id, Some(run(1)))).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let report = release_run(&bench, 1).await;
        assert_eq!(report.released.len(), 1);
        assert_eq!(report.released[0].status, LeaseStatus::Releasing);
        let lease_id = report.released[0].lease_id;
        let error = acquire.await.expect("no panic").unwrap_err();
        assert_eq!(error, CommandError::AcquireCancelled { lease_id });
        let lease = bench.lease(lease_id).await;
        assert_eq!(lease.status, LeaseStatus::Released);
        // A reuse policy keeps it, for others; nobody holds it.
        assert_eq!(bench.held(), usize::from(lease.policy.allows_reuse()));
        assert_eq!(lease.is_reusable(), lease.policy.allows_reuse());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_released_while_it_is_resumed_is_given_back() {
    let bench = Bench::new();
    let config = fake(json!({ "reuseLease": true, "resumeDelayMs": 1_000 }));
    let environment = bench.environment("reuse", config).await;
    let first = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    bench.release(&first, ReleaseStatus::Released).await.expect("released");
    let acquire = tokio::spawn({
        let (ledger, id) = (bench.ledger.clone(), environment.environment_id);
        async move { ledger.acquire(caller(), crate::support::acquire_request(id, Some(run(2)))).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let report = release_run(&bench, 2).await;
    acquire.await.expect("no panic").unwrap_err();
    let lease = bench.lease(report.released[0].lease_id).await;
    assert_eq!((lease.status, lease.is_reusable(), bench.held()), (LeaseStatus::Released, true, 1));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_of_a_released_run_writes_nothing() {
    let bench = Bench::new();
    let environment = bench.environment("plain", fake(json!({}))).await;
    assert!(release_run(&bench, 1).await.released.is_empty());
    let before = bench.ledger.head().await.expect("head");
    let error = bench.acquire(environment.environment_id, run(1)).await.unwrap_err();
    assert_eq!(error.code(), "run-released");
    assert_eq!(bench.ledger.head().await.expect("head"), before);
    assert_eq!(bench.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_breaks_nothing_off() {
    let bench = Bench::new();
    let environment = bench.environment("slow", fake(json!({ "acquireDelayMs": 1_000 }))).await;
    let acquire = bench.acquire(environment.environment_id, run(1));
    tokio::time::timeout(Duration::from_millis(500), acquire).await.expect_err("it takes longer");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lease = bench.lease(the_lease(&bench).await).await;
    assert_eq!((lease.status, bench.held()), (LeaseStatus::Active, 1));
}

#[tokio::test(start_paused = true)]
async fn a_release_of_the_lease_itself_wins_too() {
    let bench = Bench::new();
    let environment = bench.environment("slow", fake(json!({ "acquireDelayMs": 1_000 }))).await;
    let acquire = tokio::spawn({
        let (ledger, id) = (bench.ledger.clone(), environment.environment_id);
        async move { ledger.acquire(caller(), crate::support::acquire_request(id, None)).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lease_id = the_lease(&bench).await;
    let wanted = release_request(lease_id, Some(operator()), ReleaseStatus::Released);
    let releasing = bench.ledger.release(caller(), wanted).await.expect("remembered");
    assert_eq!(releasing.status, LeaseStatus::Releasing);
    acquire.await.expect("no panic").unwrap_err();
    assert_eq!((bench.lease(lease_id).await.status, bench.held()), (LeaseStatus::Released, 0));
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_was_begun_and_takes_nothing_more() {
    let bench = Bench::new();
    let environment = bench.environment("slow", fake(json!({ "acquireDelayMs": 1_000 }))).await;
    let acquire = tokio::spawn({
        let (ledger, id) = (bench.ledger.clone(), environment.environment_id);
        async move { ledger.acquire(caller(), crate::support::acquire_request(id, Some(run(1)))).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.ledger.stop().await;
    assert!(acquire.await.expect("no panic").is_ok());
    let error = bench.acquire(environment.environment_id, run(2)).await.unwrap_err();
    assert_eq!(error.code(), "stopping");
}
