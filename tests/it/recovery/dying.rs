//! Every crash point, in memory: the process dies there, the next one recovers, the script is told again; then the audit.
//! A second death, of the process that recovers, is tried at every step of recovery too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::lease::vocabulary::{Effect, ReleaseStatus};
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_ledger::drivers::sandbox::fake::Trouble;
use lease_ledger::recovery::reconcile::ReconcileRequest;
use serde_json::json;

use super::audit::{audit, leases};
use super::script::{Answers, tell};
use super::straying::stray_claim;
use crate::commands::simulation::Seeded;
use crate::support::world::{Doom, World};
use crate::support::{Bench, fake, run};

/// How long a process that recovers is watched: beyond the second retry of a cleanup, and all that comes before it.
const RECOVERED_WITHIN: Duration = Duration::from_secs(50);

/// Runs a life: the script, until it is told or the process is dead.
async fn live(world: &World, doom: &Arc<Doom>, answers: &Arc<Answers>) {
    let bench = world.start(doom);
    bench.ledger.start_recovery();
    let ledger = bench.ledger.clone();
    let script = tokio::spawn({
        let answers = Arc::clone(answers);
        async move {
            tell(&bench, &answers).await;
            tokio::time::sleep(RECOVERED_WITHIN).await;
        }
    });
    tokio::select! {
        ended = script => ended.expect("the script is told"),
        () = doom.struck() => {}
    }
    world.bury(doom);
    // The dead look for nothing any more; what they were at never comes to an end.
    tokio::spawn(async move { ledger.stop().await });
}

/// The points that were reached: by all, and by the one that recovered, until the script was told again.
struct Reached {
    by_all: BTreeSet<CrashPoint>,
    by_recovery: BTreeSet<CrashPoint>,
}

/// A world in which processes die at these points, one after the other, and one recovers.
fn die_at(points: &[(CrashPoint, u32)]) -> Reached {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let names: Vec<String> = points.iter().map(|(point, nth)| format!("{point}:{nth}")).collect();
        let told = names.join(", then ");
        let (world, answers) = (World::new(), Arc::<Answers>::default());
        let mut by_all = BTreeSet::new();
        for (point, nth) in points {
            let doom = Doom::at(*point, *nth);
            live(&world, &doom, &answers).await;
            by_all.extend(doom.seen());
        }
        let doom = Arc::<Doom>::default();
        let bench = world.start(&doom);
        bench.ledger.start_recovery();
        tokio::time::sleep(RECOVERED_WITHIN).await;
        let acknowledged = answers.log.lock().expect("nobody panics").clone();
        audit(&bench, &acknowledged, &told).await;
        let by_recovery = doom.seen();
        // Told again, it is answered the same; and leaves the world as tidy.
        tell(&bench, &answers).await;
        world.clock.skip(TimeDelta::hours(3));
        tokio::time::sleep(RECOVERED_WITHIN).await;
        let acknowledged = answers.log.lock().expect("nobody panics").clone();
        audit(&bench, &acknowledged, &told).await;
        by_all.extend(doom.seen());
        assert!(world.provider.calls(Effect::Execute) <= 1, "{told}: the command was run twice");
        Reached { by_all, by_recovery }
    })
}

/// A world with an orphan and with a kept sandbox that is gone, in which a process dies at this point of a reconciliation,
/// and the next one reconciles; the points that were reached.
fn die_reconciling(point: CrashPoint) -> BTreeSet<CrashPoint> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (world, doom) = (World::new(), Doom::at(point, 1));
        let first = world.start(&doom);
        let environment = first.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
        let kept = first.acquire(environment, run(1)).await.expect("acquired").lease;
        first.release(&kept, ReleaseStatus::Released).await.expect("kept");
        first.provider.forget(kept.lease_id);
        let plain = first.environment("other", fake(json!({}))).await.environment_id;
        first.provider.inject(Effect::Acquire, Trouble::NotDone);
        first.acquire(plain, run(2)).await.expect_err("not done");
        let late = leases(&first).await.remove(0);
        first.provider.make_late(late.ledger_id, late.lease_id);
        let dies = tokio::spawn(async move { reconcile_until_well(&first).await });
        tokio::select! {
            well = dies => well.expect("it reconciles"),
            () = doom.struck() => {}
        }
        world.bury(&doom);
        let bench = world.start(&Arc::default());
        reconcile_until_well(&bench).await;
        audit(&bench, &[], &format!("a reconciliation that dies at {point}")).await;
        assert_eq!(bench.held(), 0, "{point}: the orphan is destroyed, and what is gone is on record");
        doom.seen()
    })
}

/// Reconciles until ledger and provider agree: each that is gone must be missed twice, and what is left must be old.
async fn reconcile_until_well(bench: &Bench) {
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_mins(6)).await;
        if !bench.ledger.reconcile(ReconcileRequest::default()).await.expect("it looks").has_drift() {
            return;
        }
    }
    panic!("ledger and provider do not agree");
}

/// Processes that die while they give back a claim that came too late; the points that they reached.
fn die_with_a_stray_claim() -> BTreeSet<CrashPoint> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (world, mut seen) = (World::new(), BTreeSet::new());
        let kept = stray_claim(&world).await;
        for side in [Side::Before, Side::After] {
            let doom = Doom::at(CrashPoint { step: Step::SettleStrayClaim, side }, 1);
            let bench = world.start(&doom);
            tokio::select! {
                _ = bench.ledger.recover() => panic!("it dies"),
                () = doom.struck() => {}
            }
            world.bury(&doom);
            seen.extend(doom.seen());
        }
        let bench = world.start(&Arc::default());
        assert!(bench.ledger.recover().await.expect("a pass").iter().all(|named| named.report.rows.is_empty()));
        assert!(bench.lease(kept).await.is_reusable());
        seen
    })
}

/// The steps of a reconciliation.
const RECONCILING: [Step; 4] = [Step::GoneOutcome, Step::ReclaimIntent, Step::ReclaimEffect, Step::ReclaimOutcome];

/// Deaths that leave recovery something to do, each of another kind; and at which time the point is reached.
const LEFT_BEHIND: [(Step, Side, u32); 10] = [
    (Step::AcquireIntent, Side::After, 1),
    (Step::AcquireClaim, Side::After, 1),
    (Step::ExecuteEffect, Side::After, 1),
    (Step::AcquireEffect, Side::After, 1),
    (Step::AcquireResume, Side::After, 1),
    // The second resume is one that the provider refuses.
    (Step::AcquireResume, Side::Before, 2),
    (Step::AcquireGiveBack, Side::Before, 1),
    (Step::ReleaseEffect, Side::After, 1),
    (Step::DestroyIntent, Side::After, 1),
    // Two cleanups are owed by then.
    (Step::WaiveOutcome, Side::Before, 1),
];

fn left_behind() -> impl Iterator<Item = (CrashPoint, u32)> {
    LEFT_BEHIND.into_iter().map(|(step, side, nth)| (CrashPoint { step, side }, nth))
}

#[test]
fn a_process_may_die_at_any_point_and_no_point_is_dead() {
    let mut reached = BTreeSet::new();
    for death in CrashPoint::all().map(|point| (point, 1)).chain(left_behind()) {
        reached.extend(die_at(&[death]).by_all);
    }
    for step in RECONCILING {
        for side in [Side::Before, Side::After] {
            reached.extend(die_reconciling(CrashPoint { step, side }));
        }
    }
    reached.extend(die_with_a_stray_claim());
    let dead: Vec<String> =
        CrashPoint::all().filter(|point| !reached.contains(point)).map(|point| point.to_string()).collect();
    assert!(dead.is_empty(), "no command reaches {dead:?}");
}

#[test]
fn recovery_itself_may_die_at_any_point() {
    let mut died = BTreeSet::new();
    for first in left_behind() {
        for second in die_at(&[first]).by_recovery {
            died.insert(second.step);
            die_at(&[first, (second, 1)]);
        }
    }
    for step in [
        Step::SettleUnknown,
        Step::SettleEffect,
        Step::SettleOutcome,
        Step::SettleGiveBack,
        Step::SettleCommand,
        Step::CleanupEffect,
    ] {
        assert!(died.contains(&step), "{died:?}");
    }
}

/// A seed that fails is in the message, and replays: the points and their order are drawn from it alone.
#[test]
fn processes_may_die_at_random_points_one_after_the_other() {
    let points: Vec<CrashPoint> = CrashPoint::all().collect();
    for seed in 0..20_u64 {
        let mut random = Seeded(seed);
        let deaths: Vec<(CrashPoint, u32)> =
            (0..3).map(|_| (random.pick(&points), u32::try_from(random.below(3)).expect("small") + 1)).collect();
        die_at(&deaths);
    }
}
