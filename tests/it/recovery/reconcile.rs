//! The ledger and its provider, compared both ways: orphans, what is not ours, what is gone; and all that must not be
//! touched.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::id::{EnvironmentId, LeaseId, LedgerId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, Reason, ReleaseStatus};
use lease_events::record::Position;
use lease_events::seam::Clock as _;
use lease_ledger::commands::upkeep::Did;
use lease_ledger::drivers::Listed;
use lease_ledger::drivers::sandbox::fake::Trouble;
use lease_ledger::recovery::reconcile::report::{Finding, FindingKind, Reconciliation};
use lease_ledger::recovery::reconcile::{DESTROYED_MAX, ReconcileRequest};
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::wiring;
use lease_projections::read_model::LeaseFilter;
use serde_json::json;

use crate::support::{Bench, CountedIds, drivers, fake, run};

const DRY: ReconcileRequest = ReconcileRequest { environment_id: None, dry_run: true, accept_drift: false };

async fn reconcile(bench: &Bench) -> Reconciliation {
    bench.ledger.reconcile(ReconcileRequest::default()).await.expect("it is not stopping")
}

fn findings(report: &Reconciliation) -> Vec<&Finding> {
    report.listings.iter().flat_map(|listing| &listing.findings).collect()
}

fn did(report: &Reconciliation, what: Did) -> usize {
    findings(report).iter().filter(|finding| finding.did == Some(what)).count()
}

/// Past every grace time.
async fn later() {
    tokio::time::sleep(Duration::from_mins(6)).await;
}

/// Another ledger on the same provider, with the same clock.
fn beside(bench: &Bench, fresh: u64) -> Bench {
    let ids = Arc::new(CountedIds::from(fresh));
    let provider = bench.provider.clone();
    let ledger =
        wiring::open_in_memory(bench.clock.clone(), ids, &SecretSettings::default(), |_, _| Ok(drivers(&provider)));
    Bench { ledger: ledger.expect("memory is always there"), clock: bench.clock.clone(), provider }
}

/// The provider makes a sandbox, and says that it did not: the ledger's lease fails, and holds nothing.
async fn orphan(bench: &Bench, environment: EnvironmentId, number: u32) -> LeaseId {
    bench.provider.inject(Effect::Acquire, Trouble::NotDone);
    bench.acquire(environment, run(number)).await.expect_err("not done");
    let filter = LeaseFilter { run_id: Some(run(number)), limit: 1, ..LeaseFilter::default() };
    let lease = bench.ledger.read_model().leases(&filter).await.expect("memory reads").remove(0);
    assert_eq!((lease.status, lease.provider_lease_id()), (LeaseStatus::Failed, None));
    bench.provider.make_late(lease.ledger_id, lease.lease_id);
    lease.lease_id
}

async fn held_by(bench: &Bench, environment: EnvironmentId, number: u32) -> LeaseState {
    bench.acquire(environment, run(number)).await.expect("acquired").lease
}

/// The types of the events of all orphans.
async fn orphan_events(bench: &Bench) -> Vec<String> {
    let events = bench.ledger.events(Position::START, 4_096).await.expect("the log reads");
    let of_orphans = events.iter().filter(|event| event.stream_id.category() == "orphan");
    of_orphans.map(|event| event.event_type.to_string()).collect()
}

/// The create timed out for the client, and the machine appeared later.
#[tokio::test(start_paused = true)]
async fn field_crabbox_215_a_late_create_is_found_and_destroyed_within_fifteen_minutes() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    bench.ledger.start_recovery();
    let kept = held_by(&bench, environment, 1).await;
    orphan(&bench, environment, 2).await;
    assert_eq!(bench.held(), 2);
    tokio::time::sleep(Duration::from_mins(15)).await;
    assert_eq!(bench.held(), 1);
    assert_eq!(bench.lease(kept.lease_id).await.status, LeaseStatus::Active);
    assert_eq!(orphan_events(&bench).await, ["orphan-found", "orphan-reclaimed"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_young_is_left_and_a_dry_run_touches_nothing() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease_id = orphan(&bench, environment, 1).await;
    let young = reconcile(&bench).await;
    assert_eq!(findings(&young).len(), 1);
    assert!(findings(&young)[0].because.contains("too young") && young.has_drift(), "{young:?}");
    later().await;
    let before = bench.ledger.head().await;
    let dry = bench.ledger.reconcile(DRY).await.expect("it looks");
    assert_eq!((findings(&dry).len(), did(&dry, Did::Reclaimed), bench.held()), (1, 0, 1));
    assert_eq!(findings(&dry)[0].lease_id, Some(lease_id));
    assert_eq!(bench.ledger.head().await, before);
    let done = reconcile(&bench).await;
    assert_eq!((did(&done, Did::Reclaimed), bench.held()), (1, 0));
    let because = &findings(&done)[0].because;
    assert!(because.contains(&format!("lease {lease_id} is failed")) && because.contains("destroyed"), "{because}");
    assert!(!reconcile(&bench).await.has_drift());
}

/// Then the ledger's own first sight of it counts.
#[tokio::test(start_paused = true)]
async fn what_does_not_say_when_it_was_made_is_young_from_its_first_sight() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    orphan(&bench, environment, 1).await;
    bench.provider.alter_listing(|listed| listed.iter_mut().for_each(|thing| thing.created_at = None));
    later().await;
    let first = reconcile(&bench).await;
    assert!(findings(&first)[0].because.contains("too young") && bench.held() == 1, "{first:?}");
    later().await;
    assert_eq!((did(&reconcile(&bench).await, Did::Reclaimed), bench.held()), (1, 0));
}

/// Each sees the other's as foreign, and leaves it alone.
#[tokio::test(start_paused = true)]
async fn field_lemma_platform_422_two_ledgers_on_one_account_leave_each_other_alone() {
    let one = Bench::new();
    let other = beside(&one, 1_000_000);
    let mut leases = Vec::new();
    for (bench, runs) in [(&one, 0..3), (&other, 10..13)] {
        let environment = bench.environment("shared", fake(json!({ "reuseLease": true }))).await.environment_id;
        for number in runs {
            let lease = held_by(bench, environment, number).await;
            if number % 10 > 0 {
                bench.release(&lease, ReleaseStatus::Released).await.expect("released");
            }
            leases.push((bench, lease.lease_id));
        }
        bench.ledger.start_recovery();
    }
    let held = one.held();
    tokio::time::sleep(Duration::from_mins(16)).await;
    assert_eq!(one.held(), held);
    for (bench, _) in &leases {
        let report = reconcile(bench).await;
        assert!(findings(&report).is_empty() && report.listings[0].foreign > 0, "{report:?}");
        assert_eq!(report.listings[0].foreign + report.listings[0].ours, held);
    }
}

/// Age alone says nothing: what bears no label is reported, and lives.
#[tokio::test(start_paused = true)]
async fn field_opengeni_241_what_bears_no_label_is_reported_and_never_touched() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease = held_by(&bench, environment, 1).await;
    let own = lease.provider_lease_id().expect("it holds something").to_owned();
    bench.provider.alter_listing(move |listed| {
        for thing in listed.iter_mut() {
            (thing.ledger_id, thing.lease_id) = (None, None);
        }
        listed.push(Listed {
            provider_lease_id: "old box".to_owned(),
            ledger_id: None,
            lease_id: None,
            created_at: None,
        });
    });
    later().await;
    let report = reconcile(&bench).await;
    // Its own is known by its name, though the provider has lost its tags.
    assert_eq!(findings(&report).len(), 1, "{own}: {report:?}");
    assert_eq!((findings(&report)[0].kind, findings(&report)[0].did), (FindingKind::NotOurs, None));
    assert!(!report.has_drift());
    assert_eq!(
        (bench.provider.calls(Effect::Destroy), bench.lease(lease.lease_id).await.status),
        (0, LeaseStatus::Active)
    );
}

/// What was listed as left behind is in use again when the knife falls: it is judged once more, on its stream.
#[tokio::test(start_paused = true)]
async fn field_paperclip_6965_a_stale_candidate_is_judged_again_and_lives() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let first = held_by(&bench, environment, 1).await;
    let mut giver = first.clone();
    // It goes through many hands; its label names the first.
    for number in 2..8 {
        bench.release(&giver, ReleaseStatus::Released).await.expect("released");
        giver = held_by(&bench, environment, number).await;
        assert!(giver.resumed_from.is_some());
        later().await;
        let report = reconcile(&bench).await;
        assert!(!report.has_drift(), "{report:?}");
        assert_eq!(bench.lease(giver.lease_id).await.status, LeaseStatus::Active);
    }
    assert_eq!((bench.held(), giver.provider_lease_id()), (1, first.provider_lease_id()));
}

/// The database knew 66 boxes, the provider ran about 150: that is no mishap, and nothing is destroyed before somebody
/// has looked.
#[tokio::test(start_paused = true)]
async fn field_kortix_suna_3571_implausible_drift_stops_the_sweep_until_it_is_accepted() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    for number in 0..66 {
        held_by(&bench, environment, number).await;
    }
    for number in 0..84 {
        bench.provider.make_late(bench.ledger.ledger_id(), LeaseId::derived(&["lost", &number.to_string()]));
    }
    later().await;
    let stopped = reconcile(&bench).await;
    assert_eq!((did(&stopped, Did::Reclaimed), bench.held()), (0, 150));
    assert!(stopped.listings[0].stopped[0].starts_with("nothing accounts for 84 of 150 things"), "{stopped:?}");
    assert!(stopped.has_drift() && findings(&stopped).len() == 84);
    let accept = ReconcileRequest { accept_drift: true, ..ReconcileRequest::default() };
    let mut left = 84;
    while left > 0 {
        let report = bench.ledger.reconcile(accept).await.expect("it looks");
        let destroyed = did(&report, Did::Reclaimed);
        assert_eq!(destroyed, left.min(DESTROYED_MAX), "the budget stands");
        left -= destroyed;
    }
    assert_eq!(bench.held(), 66);
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_cannot_be_destroyed_holds_up_no_other_and_waits_longer_each_time() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    for number in 0..3 {
        orphan(&bench, environment, number).await;
    }
    later().await;
    bench.provider.inject(Effect::Destroy, Trouble::NotDone);
    let report = reconcile(&bench).await;
    assert_eq!((did(&report, Did::Reclaimed), did(&report, Did::ReclaimFailed), bench.held()), (2, 1, 1));
    let at_once = reconcile(&bench).await;
    assert_eq!((did(&at_once, Did::Reclaimed), bench.provider.calls(Effect::Destroy)), (0, 3), "it waits");
    later().await;
    assert_eq!((did(&reconcile(&bench).await, Did::Reclaimed), bench.held()), (1, 0));
    let failed = orphan_events(&bench).await;
    assert_eq!(failed.iter().filter(|event| *event == "orphan-reclaim-failed").count(), 1, "{failed:?}");
    assert_eq!(failed.iter().filter(|event| *event == "orphan-found").count(), 3, "{failed:?}");
}

/// A box that its ledger says is destroyed, and that is there still.
#[tokio::test(start_paused = true)]
async fn field_proliferate_1280_a_destroy_that_never_reached_the_provider_is_made_good() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease = held_by(&bench, environment, 1).await;
    let thing = bench.provider.held().expect("memory reads").remove(0);
    let over = bench.release(&lease, ReleaseStatus::Released).await.expect("released");
    assert_eq!(over.cleanup_status, Some(CleanupStatus::Success));
    bench.provider.make_late(thing.ledger_id, thing.lease_id);
    later().await;
    assert_eq!((did(&reconcile(&bench).await, Did::Reclaimed), bench.held()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_only_copy_of_somebody_s_work_is_reported_and_kept() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "workspaceKind": "sole-copy" }))).await.environment_id;
    orphan(&bench, environment, 1).await;
    bench.provider.make_late(bench.ledger.ledger_id(), LeaseId::derived(&["unknown"]));
    later().await;
    let report = reconcile(&bench).await;
    assert_eq!((findings(&report).len(), bench.held()), (2, 2));
    assert!(findings(&report).iter().all(|finding| finding.because.contains("only copy")), "{report:?}");
}

/// Gone is what a provider that can confirm it says twice; once says nothing.
#[tokio::test(start_paused = true)]
async fn what_is_gone_is_recorded_at_the_second_look() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let (active, kept) = (held_by(&bench, environment, 1).await, held_by(&bench, environment, 2).await);
    bench.release(&kept, ReleaseStatus::Released).await.expect("released");
    let there = held_by(&bench, bench.environment("two", fake(json!({}))).await.environment_id, 3).await;
    for lease in [&active, &kept] {
        bench.provider.forget(lease.lease_id);
    }
    let dry = bench.ledger.reconcile(DRY).await.expect("it looks");
    assert_eq!((findings(&dry).len(), dry.has_drift()), (2, true));
    assert_eq!(bench.lease(active.lease_id).await.status, LeaseStatus::Active);
    let report = reconcile(&bench).await;
    assert_eq!(did(&report, Did::RecordedGone), 2, "{report:?}");
    let active = bench.lease(active.lease_id).await;
    assert_eq!((active.status, active.end_reason), (LeaseStatus::Failed, Some(Reason::ProviderFailed)));
    assert_eq!(active.cleanup_status, Some(CleanupStatus::Success));
    let kept = bench.lease(kept.lease_id).await;
    assert_eq!((kept.status, kept.cleanup_status), (LeaseStatus::Released, Some(CleanupStatus::Success)));
    assert_eq!(bench.lease(there.lease_id).await.status, LeaseStatus::Active);
    assert!(!reconcile(&bench).await.has_drift());
}

/// A listing that misses a box once, and shows it again, changes nothing.
#[tokio::test(start_paused = true)]
async fn absence_between_presences_is_none() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease = held_by(&bench, environment, 1).await;
    bench.ledger.reconcile_every(Duration::from_secs(10));
    bench.ledger.start_recovery();
    let looks = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = looks.clone();
    bench.provider.alter_listing(move |listed| {
        if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2) {
            listed.clear();
        }
    });
    tokio::time::sleep(Duration::from_mins(4)).await;
    assert!(looks.load(std::sync::atomic::Ordering::SeqCst) > 20);
    assert_eq!(bench.lease(lease.lease_id).await.status, LeaseStatus::Active);
}

#[tokio::test(start_paused = true)]
async fn an_empty_listing_beside_many_leases_stops_the_sweep() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    for number in 0..4 {
        held_by(&bench, environment, number).await;
    }
    bench.provider.alter_listing(Vec::clear);
    for _ in 0..3 {
        later().await;
        let report = reconcile(&bench).await;
        assert_eq!(did(&report, Did::RecordedGone), 0);
        assert!(report.listings[0].stopped[0].starts_with("fake lists 0 things, and not 4 of 4"), "{report:?}");
    }
    assert_eq!(bench.held(), 4);
}

/// A clock that is ahead makes nothing an orphan: what is held is held whatever its age.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_destroys_nothing_that_is_held() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease = held_by(&bench, environment, 1).await;
    bench.ledger.start_recovery();
    for jump in [TimeDelta::hours(9), TimeDelta::hours(-20), TimeDelta::days(2)] {
        bench.clock.skip(jump);
        later().await;
        assert!(!reconcile(&bench).await.has_drift());
        assert_eq!(bench.lease(lease.lease_id).await.status, LeaseStatus::Active);
    }
    assert!(bench.clock.now() > lease.requested_at);
}

#[tokio::test(start_paused = true)]
async fn one_environment_is_reconciled_alone() {
    let bench = Bench::new();
    let one = bench.environment("one", fake(json!({}))).await.environment_id;
    let two = bench.environment("two", fake(json!({}))).await.environment_id;
    orphan(&bench, one, 1).await;
    let other = orphan(&bench, two, 2).await;
    later().await;
    let only = ReconcileRequest { environment_id: Some(one), ..ReconcileRequest::default() };
    let report = bench.ledger.reconcile(only).await.expect("it looks");
    assert_eq!((did(&report, Did::Reclaimed), findings(&report).len()), (1, 2));
    assert_eq!(bench.provider.held().expect("memory reads")[0].lease_id, other);
}

/// The database was lost, and the ledger began anew under another id: nothing of before is provably its own.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_began_anew_destroys_nothing_of_the_one_before() {
    let before = Bench::new();
    let environment = before.environment("one", fake(json!({}))).await.environment_id;
    held_by(&before, environment, 1).await;
    let after = beside(&before, 5_000_000);
    assert_ne!(before.ledger.ledger_id(), LedgerId(after.ledger.ledger_id().0));
    after.environment("one", fake(json!({}))).await;
    later().await;
    let report = reconcile(&after).await;
    assert_eq!((findings(&report).len(), report.listings[0].foreign, after.held()), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_list_is_not_asked() {
    let bench = Bench::new();
    bench.environment_of("local", "here", json!({})).await;
    let report = reconcile(&bench).await;
    assert_eq!(report, Reconciliation::default());
}
