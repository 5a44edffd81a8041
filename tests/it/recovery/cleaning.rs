//! Cleanup that is owed: tried until the provider confirms it, or an operator waives it; nothing else ends it.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, NextActionKind, ReleaseStatus};
use lease_events::seam::Clock;
use lease_ledger::commands::environment::archive::ArchiveEnvironment;
use lease_ledger::commands::waive::WaiveRequest;
use lease_ledger::drivers::Drivers;
use lease_ledger::drivers::sandbox::fake::Trouble;
use lease_projections::read_model::LeaseFilter;
use serde_json::{Value, json};

use crate::support::world::{Doom, World};
use crate::support::{Bench, caller, company, fake, run};

/// A lease whose release failed at the provider, which goes on failing by its config.
async fn owing(bench: &Bench, name: &str, number: u32, config: Value) -> LeaseState {
    let environment = bench.environment(name, fake(config)).await.environment_id;
    let lease = bench.acquire(environment, run(number)).await.expect("acquired").lease;
    bench.provider.inject(Effect::Release, Trouble::NotDone);
    bench.release(&lease, ReleaseStatus::Released).await.expect("released in the ledger")
}

fn waiver(lease: &LeaseState, reason: &str) -> WaiveRequest {
    WaiveRequest { company_id: None, lease_id: lease.lease_id, reason: reason.to_owned(), if_revision: None }
}

/// field: paperclip#8513, #11970: a failed cleanup is tried again, whatever became of its environment.
#[tokio::test(start_paused = true)]
async fn field_paperclip_8513_a_failed_cleanup_is_tried_until_it_is_done() {
    let bench = Bench::new();
    let lease = owing(&bench, "one", 1, json!({})).await;
    let (company_id, environment_id) = (company(), lease.environment_id);
    let archive = ArchiveEnvironment { company_id, environment_id, note: None, if_revision: None };
    bench.ledger.archive_environment(caller(), archive).await.expect("archived");
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_secs(16)).await;
    let lease = bench.lease(lease.lease_id).await;
    assert_eq!((lease.cleanup_status, bench.held()), (Some(CleanupStatus::Success), 0));
    assert_eq!(bench.story(lease.lease_id).await.last().map(String::as_str), Some("cleanup-succeeded"));
}

/// field: paperclip#13287: five tries and given up. Here: escalated after six, and tried daily.
#[tokio::test(start_paused = true)]
async fn field_paperclip_13287_six_failures_make_a_case_and_it_is_still_tried() {
    let bench = Bench::new();
    let lease = owing(&bench, "one", 1, json!({ "failDestroy": "not-done" })).await;
    bench.ledger.start_recovery();
    bench.hours(2).await;
    let case = bench.lease(lease.lease_id).await;
    assert_eq!((case.cleanup_attempts, case.needs_attention), (6, true));
    let filter = LeaseFilter { needs_attention: true, limit: 10, ..LeaseFilter::default() };
    assert_eq!(bench.ledger.read_model().leases(&filter).await.expect("leases").len(), 1);
    bench.hours(72).await;
    let tries = bench.lease(lease.lease_id).await.cleanup_attempts;
    assert!((7..=12).contains(&tries), "{tries}");
    let waits: Vec<String> = bench.story(lease.lease_id).await;
    assert_eq!(waits.iter().filter(|event| *event == "cleanup-escalated").count(), 1);
    let waived = bench.ledger.waive(caller(), waiver(&lease, "the account is closed")).await.expect("waived");
    assert_eq!((waived.cleanup_status, waived.needs_attention), (Some(CleanupStatus::Success), false));
    assert_eq!(waived.next_action, None);
    let error = bench.ledger.waive(caller(), waiver(&lease, "again")).await.unwrap_err();
    assert_eq!(error.code(), "nothing-owed");
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_cleanup_is_a_case_at_once_and_a_waiver_needs_a_reason() {
    let bench = Bench::new();
    let lease = owing(&bench, "one", 1, json!({ "failDestroy": "refused" })).await;
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_secs(16)).await;
    let case = bench.lease(lease.lease_id).await;
    assert_eq!((case.cleanup_attempts, case.needs_attention), (2, true));
    let error = bench.ledger.waive(caller(), waiver(&lease, " ")).await.unwrap_err();
    assert_eq!(error.code(), "invalid-request");
    let used = bench.acquire(bench.environment("two", fake(json!({}))).await.environment_id, run(2)).await;
    let error = bench.ledger.waive(caller(), waiver(&used.expect("acquired").lease, "no")).await.unwrap_err();
    assert_eq!(error.code(), "still-in-use");
}

/// field: paperclip#11347: what is not there is not called, which burns no tries.
#[tokio::test(start_paused = true)]
async fn field_paperclip_11347_an_unavailable_driver_burns_no_tries() {
    let world = World::new();
    let doom = Arc::<Doom>::default();
    let bench = world.start(&doom);
    let lease = owing(&bench, "one", 1, json!({})).await;
    world.bury(&doom);
    let without = world.start_with(&Arc::default(), Drivers::new([]));
    without.ledger.start_recovery();
    without.hours(6).await;
    let waiting = without.lease(lease.lease_id).await;
    assert_eq!((waiting.cleanup_attempts, waiting.needs_attention), (1, false));
    without.ledger.stop().await;
    let bench = world.start(&Arc::default());
    bench.ledger.start_recovery();
    bench.hours(2).await;
    assert_eq!(bench.lease(lease.lease_id).await.cleanup_status, Some(CleanupStatus::Success));
}

/// field: fountain#2329: one poisoned row stops cleanup for the fleet. Here: a provider that hangs holds up only its own.
#[tokio::test(start_paused = true)]
async fn field_fountain_2329_a_bad_row_holds_up_no_other() {
    let bench = Bench::new();
    let mut owed = Vec::new();
    for number in 0..20 {
        let config = if number == 0 { json!({ "destroyDelayMs": 3_600_000 }) } else { json!({}) };
        owed.push(owing(&bench, &format!("environment {number}"), number, config).await);
    }
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_mins(2)).await;
    for (number, lease) in owed.iter().enumerate() {
        let clean = bench.lease(lease.lease_id).await.cleanup_status == Some(CleanupStatus::Success);
        assert_eq!(clean, number > 0, "{number}");
    }
}

/// What may be the only copy of somebody's work is kept, however its lease ends, until somebody says otherwise.
#[tokio::test(start_paused = true)]
async fn a_sole_copy_is_never_destroyed_by_the_ledger_itself() {
    let mut world = World::new();
    world.care.keep_unknown_workspaces = true;
    let bench = world.start(&Arc::default());
    bench.ledger.start_recovery();
    for (number, kind) in (0..).zip(["sole-copy", "unknown"]) {
        let config = json!({ "workspaceKind": kind });
        let environment = bench.environment(kind, fake(config)).await.environment_id;
        let mut request = crate::support::acquire_request(environment, Some(run(number)));
        request.requested_expires_at = Some(bench.clock.now() + TimeDelta::seconds(5));
        let expired = bench.ledger.acquire(caller(), request).await.expect("acquired").lease;
        let failed = owing(&bench, &format!("{kind} failing"), number + 10, json!({ "workspaceKind": kind })).await;
        bench.hours(30).await;
        for (lease, ended_as) in [(expired, LeaseStatus::Expired), (failed, LeaseStatus::Released)] {
            let kept = bench.lease(lease.lease_id).await;
            assert_eq!((kept.status, kept.needs_attention), (ended_as, true), "{kind}");
            assert_eq!(kept.next_action.map(|next| next.action), Some(NextActionKind::AwaitOperator));
        }
        assert_eq!(bench.held(), 2 * (usize::try_from(number).expect("small") + 1));
    }
    assert_eq!(bench.provider.calls(Effect::Destroy), 0);
}

/// field: vault#8994: revocation storms after a restart. What fell due together is worked off a few at a time.
#[tokio::test(start_paused = true)]
async fn field_vault_8994_a_restart_does_not_storm_the_provider() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "releaseDelayMs": 100 }))).await.environment_id;
    for number in 0..300 {
        let mut request = crate::support::acquire_request(environment, Some(run(number)));
        request.requested_expires_at = Some(bench.clock.now() + TimeDelta::seconds(5));
        bench.ledger.acquire(caller(), request).await.expect("acquired");
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = bench.provider.calls(Effect::Release);
    assert!((8..=80).contains(&begun), "{begun} in the first second, 8 at once, each of a tenth of a second");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.held(), 0);
}
