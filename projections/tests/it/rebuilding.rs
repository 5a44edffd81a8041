//! Rebuild: beside the live table, while appends go on, and swapped in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lease_events::record::StreamId;
use lease_projections::projection::QueryError;
use lease_projections::read_model::ReadModel as _;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use tokio::sync::mpsc;

use crate::history::{acquired, append, lease, renewed, requested};
use crate::world::{Counting, World, both};

async fn appends_go_on_while_a_projection_is_rebuilt(on: Database) {
    let world = World::new(on).await;
    for number in 0..=255 {
        let stream = StreamId::lease(lease(number));
        append(&*world.store, &stream, &[requested(number, number), acquired(1), renewed(1), renewed(2)]).await;
        append(&*world.store, &stream, &[renewed(3), renewed(4), renewed(5)]).await;
    }
    let (progress, mut heard) = mpsc::channel(64);
    let rebuilding = {
        let model = world.model.clone();
        tokio::spawn(async move { model.rebuild("current_leases", progress).await })
    };
    let first = heard.recv().await.expect("the first page is reported");
    assert!(first.position < first.head, "{first:?}");
    for number in 0..=255 {
        append(&*world.store, &StreamId::lease(lease(number)), &[renewed(9)]).await;
    }
    let report = rebuilding.await.expect("it does not panic").expect("it can be rebuilt");
    assert_eq!(report.rows, 256);
    append(&*world.store, &StreamId::lease(lease(0)), &[renewed(10)]).await;
    let last = world.store.head().await.expect("it reads").0;
    assert_eq!(world.positions().await, [last; 6]);
    for table in ["current_leases", "reusable_leases"] {
        assert_eq!(world.model.verify(table).await.expect("it can be verified").differences, [], "{table}");
    }
}

async fn a_rebuild_that_fails_leaves_the_live_table_and_nothing_beside_it(on: Database) {
    let broken = Arc::new(AtomicBool::new(false));
    let world = World::with(on, vec![Arc::new(Counting { broken: broken.clone() })]).await;
    append(&*world.store, &StreamId::lease(lease(1)), &[requested(1, 1)]).await;
    let live = world.rows("counts").await;
    broken.store(true, Ordering::SeqCst);
    let (progress, _unheard) = mpsc::channel(1);
    let error = world.model.rebuild("counts", progress).await.expect_err("its step fails");
    assert!(matches!(error, QueryError::Stalled { .. }), "{error}");
    assert_eq!(world.rows("counts").await, live);
    let tables = world.vandal().await.tables().await;
    assert!(!format!("{tables:?}").contains("__"), "{tables:?}");
}

async fn what_an_interrupted_rebuild_left_is_removed_by_the_next(on: Database) {
    let world = World::new(on).await;
    append(&*world.store, &StreamId::lease(lease(1)), &[requested(1, 1)]).await;
    let mut vandal = world.vandal().await;
    vandal.run("CREATE TABLE current_leases__rebuild (a INTEGER)").await;
    let live = world.rows("current_leases").await;
    let (progress, _unheard) = mpsc::channel(1);
    world.model.rebuild("current_leases", progress).await.expect("it can be rebuilt");
    assert_eq!(world.rows("current_leases").await, live);
}

async fn a_table_of_an_older_version_is_made_anew_and_one_of_a_newer_is_refused(on: Database) {
    let world = World::new(on).await;
    let stream = StreamId::lease(lease(1));
    append(&*world.store, &stream, &[requested(1, 1)]).await;
    let live = world.rows("current_leases").await;
    let mut vandal = world.vandal().await;
    for sql in [
        "DROP TABLE current_leases",
        "CREATE TABLE current_leases (lease_id TEXT)",
        "UPDATE projections SET version = 0 WHERE name = 'current_leases'",
    ] {
        vandal.run(sql).await;
    }
    // The old process must not write to a table that is not of its version.
    append(&*world.store, &stream, &[acquired(1)]).await;
    let (_store, model) = world.process().await;
    assert_eq!(world.rows("current_leases").await.len(), live.len());
    assert_eq!(model.verify("current_leases").await.expect("it can be verified").differences, []);
    vandal.run("UPDATE projections SET version = 2").await;
    let projections = SqlProjections::new_standard(on);
    let error = match SqlReadModel::attach(projections, world.store.clone()).await {
        Ok(_) => panic!("a newer table is not touched"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("of version 2, written by a newer lease-ledger"), "{error}");
}

async fn an_unknown_projection_is_refused_by_name(on: Database) {
    let world = World::new(on).await;
    let (progress, _unheard) = mpsc::channel(1);
    let error = world.model.rebuild("leases", progress).await.expect_err("there is none").to_string();
    assert_eq!(
        error,
        "there is no projection \"leases\"; there are current_leases, reusable_leases, environments, secrets, runs, reuse_claims"
    );
}

both!(
    appends_go_on_while_a_projection_is_rebuilt,
    a_rebuild_that_fails_leaves_the_live_table_and_nothing_beside_it,
    what_an_interrupted_rebuild_left_is_removed_by_the_next,
    a_table_of_an_older_version_is_made_anew_and_one_of_a_newer_is_refused,
    an_unknown_projection_is_refused_by_name,
);
