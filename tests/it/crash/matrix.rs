//! The crash matrix: every command, every crash point that it passes, every provider. In each cell the real program is
//! killed at the point, started again, and audited.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use lease_events::seam::crash::{CrashPoint, Side, Step};

use super::keeping::Keeping;
use super::scenes::{Group, SCENES, Scene};
use super::sites::Site;
use super::stage::{Stage, Told};

/// Has the matrix played whole, where it is set: every scene on every provider that it can be played on.
const WHOLE: &str = "LEASE_LEDGER_TEST_MATRIX";
/// How many worlds are played at once by one test: a world waits more for disk and processes than it computes.
const AT_ONCE: usize = 2;

/// Points that no scene can reach, and why.
const UNREACHED: &[(&str, &str)] = &[
    // Its process stalls between two statements for as long as a deadline: the world in memory has it do so.
    ("settle.stray-claim.before", "recovery::dying"),
    ("settle.stray-claim.after", "recovery::dying"),
];

/// One world: all the points of a scene on one provider, one after the other.
fn play(site: Site, keeping: Keeping, scene: &Scene) -> Result<Vec<String>, String> {
    let mut stage = Stage::new(site, keeping);
    let mut rows = Vec::new();
    for point in scene.points() {
        let restarts = stage.restarts;
        if let Err(fault) = cell(&mut stage, scene, point) {
            let logged = stage.home.logged();
            let logged: Vec<&str> = logged.lines().rev().take(20).collect();
            stage.down();
            let folder = stage.home.keep();
            let logged: Vec<&str> = logged.into_iter().rev().collect();
            return Err(format!(
                "{site} × {} × {point}: {fault}\nThe servers' last words:\n{}\nThe data folder: {}",
                scene.name,
                logged.join("\n"),
                folder.display()
            ));
        }
        let restarts = stage.restarts - restarts;
        rows.push(format!(
            "{:<12}{:<38}{:<28}ok, {restarts} restarts",
            site.to_string(),
            scene.name,
            point.to_string()
        ));
    }
    Ok(rows)
}

fn cell(stage: &mut Stage, scene: &Scene, point: CrashPoint) -> Result<(), String> {
    let ask = (scene.prepare)(stage)?;
    stage.die_at(point, &ask)?;
    if is_found_later(stage.site, scene, point) {
        stage.expect_later()?;
    }
    stage.settle(match scene.unknown_behind.contains(&point) {
        true => Told::Unknown,
        false if scene.may_refuse.contains(&stage.site) => Told::Anything,
        false => Told::Done,
    })
}

/// Whether a provider that can only list is asked again later than anybody waits here: recovery died once it was on record
/// that the outcome is unknown, and so the request's own time and the visibility delay must pass.
fn is_found_later(site: Site, scene: &Scene, point: CrashPoint) -> bool {
    let unknown = CrashPoint { step: Step::SettleUnknown, side: Side::After };
    let settled = CrashPoint { step: Step::SettleOutcome, side: Side::After };
    let settles_a_make = scene.name.starts_with("settle an acquire");
    site == Site::Worker
        && settles_a_make
        && scene
            .points()
            .skip_while(|other| *other != unknown)
            .take_while(|other| *other != settled)
            .any(|other| other == point)
}

/// Plays a group on these providers, and prints its part of the table.
fn matrix(group: Group, sites: &[Site], keeping: &Keeping) {
    let of_group = SCENES.iter().filter(|scene| scene.group == group);
    let worlds: Vec<(Site, &Scene)> = of_group
        .flat_map(|scene| scene.sites.iter().filter(|site| sites.contains(site)).map(move |site| (*site, scene)))
        .collect();
    let since = Instant::now();
    let (left, played) = (Mutex::new(worlds.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("nobody panics with it").next();
                    let Some((site, scene)) = next else { return };
                    let rows = play(*site, keeping.clone(), scene);
                    played.lock().expect("nobody panics with it").push(rows);
                }
            });
        }
    });
    let played = played.into_inner().expect("nobody panics with it");
    let (rows, faults): (Vec<_>, Vec<_>) = played.into_iter().partition(Result::is_ok);
    let rows: Vec<String> = rows.into_iter().flat_map(Result::unwrap_or_default).collect();
    println!("{}\n{} cells in {:.1} s", rows.join("\n"), rows.len(), since.elapsed().as_secs_f64());
    let faults: Vec<String> = faults.into_iter().filter_map(Result::err).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// The provider of the test command, or all where the whole matrix is played.
fn on_all_or_one() -> Vec<Site> {
    if std::env::var_os(WHOLE).is_some() { Site::ALL.to_vec() } else { vec![Site::Fake] }
}

#[test]
fn no_crash_point_is_left_out() {
    let reached: BTreeSet<CrashPoint> = SCENES.iter().flat_map(Scene::points).collect();
    for point in CrashPoint::all() {
        let excused = UNREACHED.iter().any(|(name, _)| *name == point.to_string());
        assert!(reached.contains(&point) != excused, "{point} is reached by no cell of the matrix, or needs no excuse");
    }
}

/// What touches no provider is played on one; all else on every one, or says why not.
#[test]
fn what_touches_a_provider_is_played_on_all_of_them() {
    for scene in SCENES {
        let is_everywhere = scene.sites == Site::ALL;
        let is_excused =
            if scene.group == Group::Care { scene.sites == [Site::Fake] } else { !scene.because.is_empty() };
        assert!(is_everywhere != is_excused, "{} is played on {:?}", scene.name, scene.sites);
    }
}

#[test]
fn a_server_may_die_at_any_point_of_a_question_to_a_provider() {
    matrix(Group::Questions, &on_all_or_one(), &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_an_acquire_of_bubblewrap() {
    matrix(Group::Acquires, &[Site::Bubblewrap], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_an_acquire_of_records() {
    matrix(Group::Acquires, &[Site::Fake], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_an_acquire_of_a_plugin() {
    matrix(Group::Acquires, &[Site::Worker], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_a_release_of_bubblewrap() {
    matrix(Group::Ends, &[Site::Bubblewrap], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_a_release_of_records() {
    matrix(Group::Ends, &[Site::Fake], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_a_release_of_a_plugin() {
    matrix(Group::Ends, &[Site::Worker], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_work_on_a_lease() {
    matrix(Group::Work, &on_all_or_one(), &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_a_command_that_needs_no_provider() {
    matrix(Group::Care, &[Site::Fake], &Keeping::Sqlite);
}

#[test]
fn a_server_may_die_at_any_point_of_recovery() {
    matrix(Group::Recovery, &on_all_or_one(), &Keeping::Sqlite);
}

#[test]
fn a_server_on_postgres_may_die_at_any_point_of_an_acquire() {
    matrix(Group::Acquires, &on_all_or_one(), &Keeping::Postgres);
}

#[test]
fn a_server_on_postgres_may_die_at_any_point_of_a_release() {
    matrix(Group::Ends, &on_all_or_one(), &Keeping::Postgres);
}

#[test]
fn a_server_on_postgres_may_die_at_any_point_of_work_on_a_lease() {
    matrix(Group::Work, &on_all_or_one(), &Keeping::Postgres);
}

#[test]
fn a_server_on_postgres_may_die_at_any_point_of_a_command_that_needs_no_provider() {
    matrix(Group::Care, &[Site::Fake], &Keeping::Postgres);
}

#[test]
fn a_server_on_postgres_may_die_at_any_point_of_recovery() {
    matrix(Group::Recovery, &on_all_or_one(), &Keeping::Postgres);
}

#[test]
fn a_server_on_postgres_may_die_at_any_point_of_a_question_to_a_provider() {
    matrix(Group::Questions, &on_all_or_one(), &Keeping::Postgres);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_an_acquire() {
    matrix(Group::Acquires, &on_all_or_one(), &Keeping::Kurrent);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_a_release() {
    matrix(Group::Ends, &on_all_or_one(), &Keeping::Kurrent);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_work_on_a_lease() {
    matrix(Group::Work, &on_all_or_one(), &Keeping::Kurrent);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_a_command_that_needs_no_provider() {
    matrix(Group::Care, &[Site::Fake], &Keeping::Kurrent);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_recovery() {
    matrix(Group::Recovery, &on_all_or_one(), &Keeping::Kurrent);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_a_question_to_a_provider() {
    matrix(Group::Questions, &on_all_or_one(), &Keeping::Kurrent);
}
