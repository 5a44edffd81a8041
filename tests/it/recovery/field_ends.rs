//! What the field saw of ends: resources that nobody remembered, that nobody could end, or that ended at the wrong time.
//! Each test is named after its report.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, ReleaseStatus};
use lease_events::seam::Clock;
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::execute::ExecuteRequest;
use lease_ledger::commands::release_run::ReleaseRunRequest;
use lease_ledger::commands::renew::RenewRequest;
use lease_ledger::commands::upkeep::Did;
use lease_ledger::commands::waive::WaiveRequest;
use lease_ledger::drivers::sandbox::SandboxDriver;
use lease_ledger::drivers::sandbox::fake::Trouble;
use lease_ledger::drivers::{Drivers, EnvironmentDriver};
use lease_ledger::recovery::reconcile::{DESTROYED_MAX, ReconcileRequest};
use lease_projections::read_model::LeaseFilter;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::audit::leases;
use super::listing::{Declared, Listing};
use crate::support::world::{Doom, World};
use crate::support::{Bench, acquire_request, caller, company, fake, operator, run};

async fn held_by(bench: &Bench, name: &str, number: u32, config: Value) -> LeaseState {
    let environment = bench.environment(name, fake(config)).await.environment_id;
    bench.acquire(environment, run(number)).await.expect("acquired").lease
}

async fn release_run(bench: &Bench, number: u32) {
    let request = ReleaseRunRequest { company_id: company(), run_id: run(number), status: ReleaseStatus::Released };
    bench.ledger.release_run(caller(), request).await.expect("it is remembered");
}

/// How many leases are open.
async fn open(bench: &Bench) -> usize {
    leases(bench).await.iter().filter(|lease| lease.status.is_open()).count()
}

/// What is neither over nor paid for.
async fn unsettled(bench: &Bench) -> Vec<LeaseState> {
    let filter = LeaseFilter { unsettled: true, limit: 100, ..LeaseFilter::default() };
    bench.ledger.read_model().leases(&filter).await.expect("leases")
}

fn until(bench: &Bench, lease: &LeaseState, after: TimeDelta) -> RenewRequest {
    RenewRequest {
        company_id: None,
        lease_id: lease.lease_id,
        authority: lease.fencing_token().map(|fencing_token| Authority::Holder { fencing_token }),
        if_revision: None,
        expires_at: bench.clock.now() + after,
    }
}

fn waiver(lease: &LeaseState) -> WaiveRequest {
    let reason = "the account is closed".to_owned();
    WaiveRequest { company_id: None, lease_id: lease.lease_id, reason, if_revision: None }
}

/// The outcome of a create is never stored, and the compensation fails too: the intent remembers.
#[tokio::test(start_paused = true)]
async fn field_paperclip_11646_the_intent_remembers_what_neither_outcome_nor_compensation_did() {
    let world = World::new();
    let doom = Doom::at(CrashPoint { step: Step::AcquireEffect, side: Side::After }, 1);
    let dying = world.start(&doom);
    let environment = dying.environment("one", fake(json!({ "failRelease": "not-done" }))).await.environment_id;
    let acquire = tokio::spawn(async move { dying.acquire(environment, run(1)).await });
    doom.struck().await;
    acquire.abort();
    world.bury(&doom);
    let bench = world.start(&Arc::default());
    release_run(&bench, 1).await;
    for _ in 0..2 {
        bench.provider.inject(Effect::Destroy, Trouble::NotDone);
    }
    bench.ledger.recover().await.expect("a pass");
    let lease = leases(&bench).await.remove(0);
    assert!(bench.held() == 1 && lease.next_action.is_some(), "it is there, and owed: {lease:?}");
    bench.ledger.start_recovery();
    bench.hours(1).await;
    let lease = bench.lease(lease.lease_id).await;
    assert_eq!((lease.cleanup_status, bench.held()), (Some(CleanupStatus::Success), 0));
}

/// `expires_at` was empty on 6,104 of 6,104 rows, and nothing swept: here each has the end that its provider confirmed.
#[tokio::test(start_paused = true)]
async fn field_paperclip_11970_every_end_is_on_record_and_acted_on() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "expiresInMs": 60_000 }))).await.environment_id;
    for number in 0..40 {
        let lease = bench.acquire(environment, run(number)).await.expect("acquired").lease;
        assert_eq!(lease.expires_at, Some(bench.clock.now() + TimeDelta::minutes(1)));
    }
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(leases(&bench).await.iter().all(|lease| lease.status == LeaseStatus::Expired));
    assert_eq!(bench.held(), 0);
}

/// Each failed concurrent create left one running.
#[tokio::test(start_paused = true)]
async fn field_cloudflare_sandbox_sdk_794_failed_concurrent_creates_leave_nothing() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "acquireDelayMs": 50 }))).await.environment_id;
    for trouble in [Trouble::NotDone, Trouble::UnknownAfter, Trouble::Refused, Trouble::Unknown].iter().cycle().take(24)
    {
        bench.provider.inject(Effect::Acquire, *trouble);
    }
    let answers = futures_util::future::join_all((0..24).map(|number| bench.acquire(environment, run(number)))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(bench.held(), 6, "whose replies were lost");
    for number in 0..24 {
        release_run(&bench, number).await;
    }
    bench.ledger.start_recovery();
    bench.hours(1).await;
    assert_eq!((bench.held(), open(&bench).await, unsettled(&bench).await.len()), (0, 0, 0));
}

/// 2,310 orphans: what can be explained is reclaimed, a budget at a look, until none is left.
#[tokio::test(start_paused = true)]
async fn field_ml_intern_163_many_orphans_are_reclaimed_over_several_looks() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    for number in 0..60 {
        bench.acquire(environment, run(number)).await.expect("acquired");
    }
    for number in 60..110 {
        bench.provider.inject(Effect::Acquire, Trouble::NotDone);
        let error = bench.acquire(environment, run(number)).await.expect_err("not done");
        bench.provider.make_late(bench.ledger.ledger_id(), error.lease_id().expect("it names the lease"));
    }
    tokio::time::sleep(Duration::from_mins(6)).await;
    let mut reclaimed = Vec::new();
    while bench.held() > 60 {
        let report = bench.ledger.reconcile(ReconcileRequest::default()).await.expect("it looks");
        let findings = report.listings.iter().flat_map(|listing| &listing.findings);
        reclaimed.push(findings.filter(|finding| finding.did == Some(Did::Reclaimed)).count());
        assert!(reclaimed.len() < 10, "{report:?}");
    }
    assert_eq!(reclaimed, [DESTROYED_MAX, DESTROYED_MAX, 10]);
    assert_eq!(open(&bench).await, 60);
}

/// Cleanup skipped what was marked to be kept, which every real orphan was.
#[tokio::test(start_paused = true)]
async fn field_agi_cli_1182_an_orphan_is_not_skipped_for_a_policy_that_keeps() {
    for config in [json!({ "leasePolicy": "retain_on_failure" }), json!({ "reuseLease": true })] {
        let bench = Bench::new();
        let kept = held_by(&bench, "one", 1, config).await;
        let ended = bench.release(&kept, ReleaseStatus::Failed).await.expect("released");
        let held = bench.held();
        bench.provider.inject(Effect::Acquire, Trouble::NotDone);
        let error = bench.acquire(kept.environment_id, run(2)).await.expect_err("not done");
        bench.provider.make_late(bench.ledger.ledger_id(), error.lease_id().expect("it names the lease"));
        tokio::time::sleep(Duration::from_mins(6)).await;
        bench.ledger.reconcile(ReconcileRequest::default()).await.expect("it looks");
        // What a lease keeps on record is no orphan, and stays.
        assert_eq!((bench.held(), held), (usize::from(ended.keeps_something()), usize::from(ended.keeps_something())));
    }
}

/// Destroyed at the provider, and no write behind it came through: the row does not block for ever.
#[tokio::test(start_paused = true)]
async fn field_paperclip_12053_destroyed_at_the_provider_and_never_written_converges() {
    for step in [Step::ReleaseEffect, Step::DestroyEffect, Step::CleanupEffect] {
        let world = World::new();
        let doom = Doom::at(CrashPoint { step, side: Side::After }, 1);
        let dying = world.start(&doom);
        let lease = held_by(&dying, "one", 1, json!({})).await;
        let work = tokio::spawn({
            let lease = lease.clone();
            async move {
                if step == Step::CleanupEffect {
                    dying.provider.inject(Effect::Release, Trouble::NotDone);
                    dying.ledger.start_recovery();
                }
                if step == Step::DestroyEffect {
                    let (lease_id, authority) = (lease.lease_id, Some(operator()));
                    let destroy = DestroyRequest { company_id: None, lease_id, authority, if_revision: None };
                    let _ = dying.ledger.destroy(caller(), destroy).await;
                } else {
                    let _ = dying.release(&lease, ReleaseStatus::Released).await;
                }
                std::future::pending::<()>().await;
            }
        });
        doom.struck().await;
        work.abort();
        world.bury(&doom);
        let bench = world.start(&Arc::default());
        assert_eq!(bench.held(), 0, "{step:?}: it is gone, and nobody wrote so");
        assert_ne!(bench.lease(lease.lease_id).await.cleanup_status, Some(CleanupStatus::Success), "{step:?}");
        bench.ledger.start_recovery();
        bench.hours(1).await;
        let over = bench.lease(lease.lease_id).await;
        assert_eq!((over.cleanup_status, over.next_action), (Some(CleanupStatus::Success), None), "{step:?}");
        bench.acquire(lease.environment_id, run(1)).await.expect("nothing is in its way");
    }
}

/// Failed ones counted against the limit for ever: here they are over at once, and in nobody's way.
#[tokio::test(start_paused = true)]
async fn field_actions_runner_controller_3700_what_failed_counts_for_nothing() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    for _ in 0..30 {
        bench.provider.inject(Effect::Acquire, Trouble::Refused);
        bench.acquire(environment, run(1)).await.expect_err("refused");
    }
    assert_eq!((open(&bench).await, unsettled(&bench).await.len()), (0, 0));
    let answer = bench.acquire(environment, run(1)).await.expect("the thirty before are in nobody's way");
    assert_eq!((open(&bench).await, bench.held(), answer.lease.status), (1, 1, LeaseStatus::Active));
}

/// States that could not be left: with a provider that fails at everything an operator still ends every one of them.
#[tokio::test(start_paused = true)]
async fn field_daytona_3294_no_state_is_one_that_cannot_be_left() {
    let world = World::new();
    let cannot_tell = Declared { lists: false, ..Declared::default() };
    let provider = Listing { inner: world.provider.clone(), declared: cannot_tell };
    let driver: Arc<dyn EnvironmentDriver> = Arc::new(SandboxDriver::new([Arc::new(provider) as _]));
    let bench = world.start_with(&Arc::default(), Drivers::new([driver]));
    let unknown = bench.environment("unknown", fake(json!({ "failAcquire": "unknown" }))).await.environment_id;
    bench.acquire(unknown, run(1)).await.expect_err("nobody knows");
    let refuses = json!({ "failRelease": "refused", "failDestroy": "refused" });
    let stuck = held_by(&bench, "stuck", 2, refuses).await;
    bench.release(&stuck, ReleaseStatus::Released).await.expect("released in the ledger");
    bench.ledger.start_recovery();
    bench.hours(30).await;
    let left = unsettled(&bench).await;
    assert!(left.len() == 2 && left.iter().all(|lease| lease.needs_attention), "{left:?}");
    for lease in &left {
        bench.ledger.waive(caller(), waiver(lease)).await.expect("an operator may");
    }
    assert_eq!((unsettled(&bench).await.len(), open(&bench).await), (0, 0));
}

/// 1,597 open rows: however a lease ends, or its sandbox does, its row is closed.
#[tokio::test(start_paused = true)]
async fn field_kortix_suna_3543_every_open_row_is_closed() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    bench.ledger.start_recovery();
    for number in 0..40 {
        let mut request = acquire_request(environment, Some(run(number)));
        // A fifth each: expires; its run ends; is released, and the provider fails; its sandbox vanishes; is kept in use.
        request.requested_expires_at = (number % 5 == 0).then(|| bench.clock.now() + TimeDelta::hours(1));
        let lease = bench.ledger.acquire(caller(), request).await.expect("acquired").lease;
        match number % 5 {
            1 => release_run(&bench, number).await,
            2 => {
                bench.provider.inject(Effect::Release, Trouble::NotDone);
                bench.release(&lease, ReleaseStatus::Released).await.expect("released");
            }
            3 => bench.provider.forget(lease.lease_id),
            _ => {}
        }
    }
    assert_eq!(open(&bench).await, 24);
    bench.hours(3).await;
    tokio::time::sleep(Duration::from_mins(20)).await;
    assert_eq!((open(&bench).await, unsettled(&bench).await.len(), bench.held()), (8, 8, 8));
}

/// A zombie was billed for 90 hours: what ended in the ledger ends at its provider, though that fails again and again.
#[tokio::test(start_paused = true)]
async fn field_opencomputer_369_what_ended_is_destroyed_within_the_hour() {
    let bench = Bench::new();
    let lease = held_by(&bench, "one", 1, json!({ "failRelease": "not-done" })).await;
    for trouble in [Trouble::NotDone, Trouble::Unknown, Trouble::NotDone, Trouble::Unknown] {
        bench.provider.inject(Effect::Destroy, trouble);
    }
    bench.ledger.start_recovery();
    release_run(&bench, 1).await;
    assert_eq!((bench.lease(lease.lease_id).await.status, bench.held()), (LeaseStatus::Released, 1));
    tokio::time::sleep(Duration::from_hours(1)).await;
    let lease = bench.lease(lease.lease_id).await;
    assert_eq!((lease.cleanup_status, bench.held(), lease.needs_attention), (Some(CleanupStatus::Success), 0, false));
}

/// Renewals were slower than their budget, and active machines were reaped: a renewal waits for no provider.
#[tokio::test(start_paused = true)]
async fn field_openclaw_127559_a_renewal_waits_for_no_provider() {
    let bench = Bench::new();
    let lease = held_by(&bench, "one", 1, json!({ "executeDelayMs": 600_000 })).await;
    bench.ledger.renew(caller(), until(&bench, &lease, TimeDelta::seconds(30))).await.expect("renewed");
    bench.ledger.start_recovery();
    let execute = ExecuteRequest {
        company_id: None,
        lease_id: lease.lease_id,
        authority: Some(operator()),
        command: "exit".into(),
        args: vec!["0".into()],
        cwd: None,
        env: Vec::new(),
        stdin: None,
        timeout_ms: None,
    };
    let ledger = bench.ledger.clone();
    let (output, _chunks) = mpsc::channel(8);
    let work = tokio::spawn(async move { ledger.execute(caller(), execute, output).await });
    for _ in 0..31 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let asked = bench.clock.now();
        bench.ledger.renew(caller(), until(&bench, &lease, TimeDelta::seconds(30))).await.expect("in time");
        assert!(bench.clock.now() - asked < TimeDelta::seconds(1));
    }
    assert_eq!(bench.lease(lease.lease_id).await.status, LeaseStatus::Active);
    assert_eq!(work.await.expect("no panic").expect("executed").execution.exit_code, Some(0));
}

/// A time to live that is computed from a moving deadline drifts: a deadline is a moment, whatever happens meanwhile.
#[tokio::test(start_paused = true)]
async fn field_agi_cli_2208_a_deadline_does_not_drift() {
    let world = World::new();
    let doom = Arc::<Doom>::default();
    let first = world.start(&doom);
    let environment = first.environment("one", fake(json!({ "acquireDelayMs": 20_000 }))).await.environment_id;
    let mut request = acquire_request(environment, Some(run(1)));
    let end = first.clock.now() + TimeDelta::minutes(5);
    request.requested_expires_at = Some(end);
    let lease = first.ledger.acquire(caller(), request).await.expect("acquired").lease;
    assert_eq!(lease.expires_at, Some(end));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let same = RenewRequest { expires_at: end, ..until(&first, &lease, TimeDelta::zero()) };
        let renewed = first.ledger.renew(caller(), same).await.expect("renewed");
        assert_eq!(renewed.expires_at, Some(end));
    }
    world.bury(&doom);
    let bench = world.start(&Arc::default());
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_mins(2)).await;
    let over = bench.lease(lease.lease_id).await;
    let late = over.ended_at.expect("it is over") - end;
    assert_eq!((over.status, over.expires_at), (LeaseStatus::Expired, Some(end)));
    assert!(late >= TimeDelta::zero() && late <= TimeDelta::seconds(1), "{late}");
}

/// A deposed leader revoked everything: what a process had listed as over is judged again, on what is stored by then.
#[tokio::test(start_paused = true)]
async fn field_etcd_15247_a_process_that_was_overtaken_expires_nothing() {
    let world = World::new();
    let (stalled, other) = (world.start(&Arc::default()), world.start(&Arc::default()));
    let environment = stalled.environment("one", fake(json!({ "releaseDelayMs": 2_000 }))).await.environment_id;
    let mut held = Vec::new();
    for number in 0..50 {
        let mut request = acquire_request(environment, Some(run(number)));
        request.requested_expires_at = Some(stalled.clock.now() + TimeDelta::minutes(10));
        held.push(stalled.ledger.acquire(caller(), request).await.expect("acquired").lease);
    }
    stalled.ledger.start_recovery();
    // Its clock runs ahead, and all fifty are over; a few are begun when the clock is put right.
    world.clock.skip(TimeDelta::minutes(11));
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.clock.skip(TimeDelta::minutes(-11));
    let mut renewed = Vec::new();
    for lease in &held {
        if other.lease(lease.lease_id).await.status == LeaseStatus::Active {
            other.ledger.renew(caller(), until(&other, lease, TimeDelta::hours(1))).await.expect("renewed");
            renewed.push(lease.lease_id);
        }
    }
    assert!((1..50).contains(&renewed.len()), "{}", renewed.len());
    tokio::time::sleep(Duration::from_mins(5)).await;
    for lease_id in &renewed {
        assert_eq!(other.lease(*lease_id).await.status, LeaseStatus::Active);
    }
    assert_eq!(other.held(), renewed.len());
}
