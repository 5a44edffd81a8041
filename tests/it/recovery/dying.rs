//! Every crash point, in memory: the process dies there, the next one recovers, the script is told again; then the audit.
//! A second death, of the process that recovers, is tried at every step of recovery too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::seam::crash::{CrashPoint, Side, Step};

use super::audit::audit;
use super::script::{Answers, tell};
use crate::commands::simulation::Seeded;
use crate::support::world::{Doom, World};

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
        Reached { by_all, by_recovery }
    })
}

/// Deaths that leave recovery something to do, each of another kind; and at which time the point is reached.
const LEFT_BEHIND: [(Step, Side, u32); 9] = [
    (Step::AcquireIntent, Side::After, 1),
    (Step::AcquireClaim, Side::After, 1),
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
    for step in
        [Step::SettleUnknown, Step::SettleEffect, Step::SettleOutcome, Step::SettleGiveBack, Step::CleanupEffect]
    {
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
