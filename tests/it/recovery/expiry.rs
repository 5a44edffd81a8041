//! Leases whose time is over: released as `expired`, never early, within a second, once.

use std::time::Duration;

use chrono::TimeDelta;
use lease_events::id::{EnvironmentId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{LeaseStatus, Reason};
use lease_events::record::{Actor, ActorKind, Metadata};
use lease_events::seam::Clock;
use lease_ledger::commands::renew::RenewRequest;
use lease_ledger::commands::upkeep::Did;
use serde_json::json;

use crate::support::{Bench, acquire_request, caller, fake, operator, run};

/// Acquires a lease that shall end `after` from now.
async fn lasting(bench: &Bench, environment: EnvironmentId, number: u32, after: TimeDelta) -> LeaseState {
    let mut request = acquire_request(environment, Some(run(number)));
    request.requested_expires_at = Some(bench.clock.now() + after);
    bench.ledger.acquire(caller(), request).await.expect("acquired").lease
}

async fn ended_at(bench: &Bench, lease_id: LeaseId) -> chrono::DateTime<chrono::Utc> {
    bench.lease(lease_id).await.ended_at.expect("it is over")
}

#[tokio::test(start_paused = true)]
async fn a_lease_expires_within_a_second_of_its_deadline_and_never_early() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "releaseDelayMs": 5 }))).await.environment_id;
    let mut leases = Vec::new();
    for number in 0..200 {
        leases.push(lasting(&bench, environment, number, TimeDelta::milliseconds(200 + i64::from(number) * 37)).await);
    }
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_secs(20)).await;
    for lease in &leases {
        let (state, deadline) = (bench.lease(lease.lease_id).await, lease.expires_at.expect("it has an end"));
        assert_eq!((state.status, state.end_reason), (LeaseStatus::Expired, Some(Reason::DeadlineReached)));
        let late = ended_at(&bench, lease.lease_id).await - deadline;
        assert!(late >= TimeDelta::zero() && late <= TimeDelta::seconds(1), "{late}");
    }
    assert_eq!(bench.held(), 0);
    let history = bench.ledger.history(leases[0].lease_id, None).await.expect("there");
    let metadata: Metadata = serde_json::from_str(&history.last().expect("events").metadata).expect("readable");
    assert_eq!(metadata.actor, Actor { kind: ActorKind::Ledger, id: "expiry".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_renewal_moves_the_deadline_and_the_provider_s_earlier_end_counts() {
    let bench = Bench::new();
    let plain = bench.environment("plain", fake(json!({}))).await.environment_id;
    let short = bench.environment("short", fake(json!({ "expiresInMs": 3_000 }))).await.environment_id;
    let renewed = lasting(&bench, plain, 1, TimeDelta::seconds(5)).await;
    let bounded = lasting(&bench, short, 2, TimeDelta::seconds(60)).await;
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    assert_eq!(bench.lease(bounded.lease_id).await.status, LeaseStatus::Expired);
    let request = RenewRequest {
        company_id: None,
        lease_id: renewed.lease_id,
        authority: Some(operator()),
        if_revision: None,
        expires_at: bench.clock.now() + TimeDelta::seconds(10),
    };
    bench.ledger.renew(caller(), request).await.expect("renewed in time");
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(bench.lease(renewed.lease_id).await.status, LeaseStatus::Active);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.lease(renewed.lease_id).await.status, LeaseStatus::Expired);
}

/// The deadline is the ledger clock's. A jump ahead makes due what it passes, once; a jump back makes nothing due again.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_by_hours_loses_nothing_and_expires_nothing_twice() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let soon = lasting(&bench, environment, 1, TimeDelta::hours(1)).await;
    let later = lasting(&bench, environment, 2, TimeDelta::hours(12)).await;
    bench.ledger.start_recovery();
    bench.clock.skip(TimeDelta::hours(-5));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.lease(soon.lease_id).await.status, LeaseStatus::Active);
    bench.clock.skip(TimeDelta::hours(8));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.lease(soon.lease_id).await.status, LeaseStatus::Expired);
    assert_eq!(bench.lease(later.lease_id).await.status, LeaseStatus::Active);
    let told = bench.story(soon.lease_id).await;
    bench.clock.skip(TimeDelta::hours(-8));
    tokio::time::sleep(Duration::from_mins(1)).await;
    bench.clock.skip(TimeDelta::hours(20));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.story(soon.lease_id).await, told);
    assert_eq!(bench.lease(later.lease_id).await.status, LeaseStatus::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_pass_by_hand_tells_what_it_did_and_why() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease = lasting(&bench, environment, 1, TimeDelta::seconds(5)).await;
    let next = lasting(&bench, environment, 2, TimeDelta::hours(5)).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let reports = bench.ledger.recover().await.expect("a pass");
    let expiry = reports.iter().find(|report| report.sweep == "expiry").expect("it looked");
    assert_eq!(expiry.report.rows.len(), 1);
    let row = &expiry.report.rows[0];
    assert_eq!((row.lease_id, row.did.map(Did::as_str)), (Some(lease.lease_id), Some("expired")));
    assert!(row.because.starts_with("its time was over at 2026-01-01T00:00:05Z"), "{}", row.because);
    assert_eq!(expiry.report.next_due, next.expires_at);
    let again = bench.ledger.recover().await.expect("a pass");
    assert!(again.iter().all(|report| report.report.rows.is_empty()), "{again:?}");
}
