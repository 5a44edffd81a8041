//! A projection that fails stops nothing: the events are there, the others go on, and it comes back when mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lease_events::lease::vocabulary::CleanupStatus;
use lease_events::record::StreamId;
use lease_events::store::EventStore;
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_projections::projection::QueryError;
use lease_projections::read_model::ReadModel;
use lease_projections::sql::Database;
use lease_stores::memory::MemoryStore;

use crate::history::{acquired, append, lease, release_requested, released, requested};
use crate::world::{Counting, Ticks, World, both};

async fn one_lease(store: &dyn EventStore, number: u8) {
    let stream = StreamId::lease(lease(number));
    append(store, &stream, &[requested(number, 1)]).await;
    append(store, &stream, &[acquired(1)]).await;
    append(store, &stream, &[release_requested(), released(Some(CleanupStatus::Pending))]).await;
}

async fn a_step_that_fails_stalls_its_own_projection_until_it_is_mended(on: Database) {
    let broken = Arc::new(AtomicBool::new(false));
    let mut projections = lease_projections::standard();
    projections.push(Arc::new(Counting { broken: broken.clone() }));
    let world = World::with(on, projections).await;
    one_lease(&*world.store, 1).await;

    broken.store(true, Ordering::SeqCst);
    one_lease(&*world.store, 2).await;
    assert_eq!(world.store.head().await.expect("it reads").0, 8, "no event is refused");
    let stalled = world.stalled("counts").await.expect("it stands still");
    assert_eq!(stalled, "counts: the event at position 5 cannot be projected: it is broken on purpose");
    assert_eq!(world.positions().await, [8, 8, 8, 8, 8, 8, 4], "the others follow");
    assert_eq!(world.rows("current_leases").await.len(), 2);

    let error = world.model.catch_up().await.expect_err("it is still broken");
    assert!(matches!(error, QueryError::Stalled { position: 4, .. }), "{error}");
    broken.store(false, Ordering::SeqCst);
    world.model.catch_up().await.expect("it is mended");
    assert_eq!((world.stalled("counts").await, world.positions().await), (None, vec![8; 7]));
    let report = world.model.verify("counts").await.expect("it can be verified");
    assert_eq!((report.rows, report.differences), (1, vec![]));

    one_lease(&*world.store, 3).await;
    assert_eq!(world.positions().await, [12; 7], "it follows inline again");
    assert_eq!(world.model.verify("counts").await.expect("it can be verified").differences, []);
}

async fn the_follower_brings_a_mended_projection_back(on: Database) {
    let broken = Arc::new(AtomicBool::new(true));
    let world = World::with(on, vec![Arc::new(Counting { broken: broken.clone() })]).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let follower = tokio::spawn(world.model.clone().follow(async { drop(stopped.await) }));
    one_lease(&*world.store, 1).await;
    assert!(world.stalled("counts").await.is_some());
    broken.store(false, Ordering::SeqCst);
    let within = std::time::Duration::from_secs(20);
    let wait = async {
        while world.positions().await != [4] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, wait).await.expect("it is retried");
    drop(stop);
    follower.await.expect("the follower ends when it is told to");
    assert_eq!(world.stalled("counts").await, None);
}

async fn a_table_dropped_under_a_live_store_stalls_alone_and_is_made_again(on: Database) {
    let world = World::new(on).await;
    one_lease(&*world.store, 1).await;
    for (table, other) in [("reusable_leases", "current_leases"), ("current_leases", "environments")] {
        let before = world.rows(table).await;
        let mut vandal = world.vandal().await;
        vandal.run(&format!("DROP TABLE {table}")).await;
        let position = append(&*world.store, &StreamId::run(crate::history::run(7)), &[run_kept_alive()]).await;
        // An event that touches no row of it moves its mark alone; the next one finds the table gone.
        one_lease(&*world.store, u8::try_from(position).expect("few events")).await;
        let stalled = world.stalled(table).await.expect("it stands still");
        assert!(stalled.contains("no such table") || stalled.contains("does not exist"), "{stalled}");
        assert_eq!(world.stalled(other).await, None);
        world.model.catch_up().await.expect("the missing table is made again");
        assert_eq!(world.stalled(table).await, None);
        assert_eq!(world.rows(table).await.len(), before.len() + 1);
        for table in ["current_leases", "reusable_leases", "environments"] {
            assert_eq!(world.model.verify(table).await.expect("it can be verified").differences, [], "{table}");
        }
    }
}

fn run_kept_alive() -> lease_events::run::RunEvent {
    lease_events::run::RunKeptAlive {
        run_id: crate::history::run(7),
        time_to_live_ms: 60_000,
        alive_until: crate::history::noon(),
    }
    .into()
}

async fn what_shows_a_stalled_table_waits_with_it_and_says_so(on: Database) {
    let world = World::new(on).await;
    let stream = StreamId::lease(lease(1));
    append(&*world.store, &stream, &[requested(1, 1)]).await;
    let mut vandal = world.vandal().await;
    vandal.run("UPDATE current_leases SET state = '{}'").await;
    // Another process, which has not kept the row in memory.
    let (store, _model) = world.process().await;
    append(&*store, &stream, &[acquired(1)]).await;
    let stalled = world.stalled("current_leases").await.expect("it stands still");
    assert!(stalled.contains("the state of row") && stalled.contains("cannot be read"), "{stalled}");
    assert_eq!(
        world.stalled("reusable_leases").await.as_deref(),
        Some("it waits for current_leases, which is stalled")
    );
    let error = world.model.lease(lease(1)).await.expect_err("the row makes no sense");
    assert!(error.to_string().contains("table current_leases") && error.to_string().contains("projection rebuild"));
    let (progress, _unheard) = tokio::sync::mpsc::channel(1);
    let report = world.model.rebuild("current_leases", progress).await.expect("a rebuild mends it");
    assert_eq!(report.tables, ["current_leases", "reusable_leases"]);
    append(&*world.store, &stream, &[release_requested(), released(Some(CleanupStatus::Pending))]).await;
    assert_eq!(world.positions().await, [4; 6]);
    assert_eq!(world.rows("reusable_leases").await.len(), 1);
}

#[tokio::test]
async fn a_step_that_fails_in_memory_stalls_its_own_projection_too() {
    let broken = Arc::new(AtomicBool::new(false));
    let mut projections = lease_projections::standard();
    projections.push(Arc::new(Counting { broken: broken.clone() }));
    let projections = MemoryProjections::new(projections);
    let store = MemoryStore::new(Arc::new(Ticks::default()), Some(projections.clone()));
    let model = MemoryReadModel::attach(projections.clone(), store.clone());
    one_lease(&*store, 1).await;
    broken.store(true, Ordering::SeqCst);
    one_lease(&*store, 2).await;
    let statuses = model.statuses().await.expect("it reads");
    assert_eq!(statuses.iter().map(|status| status.position).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 4]);
    assert!(statuses[6].stalled.is_some() && model.catch_up().await.is_err());
    broken.store(false, Ordering::SeqCst);
    model.catch_up().await.expect("it is mended");
    assert_eq!(model.verify("counts").await.expect("it can be verified").differences, []);
    let (progress, _unheard) = tokio::sync::mpsc::channel(1);
    let report = model.rebuild("current_leases", progress).await.expect("it can be rebuilt");
    assert_eq!((report.rows, report.position.0), (2, 8));
}

both!(
    a_step_that_fails_stalls_its_own_projection_until_it_is_mended,
    the_follower_brings_a_mended_projection_back,
    a_table_dropped_under_a_live_store_stalls_alone_and_is_made_again,
    what_shows_a_stalled_table_waits_with_it_and_says_so,
);
