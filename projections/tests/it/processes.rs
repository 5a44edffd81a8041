//! Several processes on one file, and transactions that come to nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lease_events::record::{Position, StreamId};
use lease_events::store::EventStore as _;
use lease_projections::read_model::ReadModel as _;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::sqlite::{CommitFault, CommitFaults, SqliteOptions, SqliteStore};

use crate::history::{acquired, append, lease, release_requested, renewed, requested};
use crate::world::{Ticks, World, both};

const TABLES: [&str; 6] = ["current_leases", "reusable_leases", "environments", "secrets", "runs", "reuse_claims"];

async fn two_processes_that_take_turns_on_one_lease_keep_its_row_true(on: Database) {
    let world = World::new(on).await;
    let (store, model) = world.process().await;
    let stream = StreamId::lease(lease(1));
    append(&*world.store, &stream, &[requested(1, 1)]).await;
    append(&*store, &stream, &[acquired(7)]).await;
    let position = append(&*world.store, &stream, &[release_requested()]).await;
    // What the first wrote from its hot row must hold what the second wrote between.
    let state = model.lease(lease(1)).await.expect("it reads").expect("it is there");
    assert_eq!((state.fencing_token(), state.revision), (Some(7), 2));
    model.wait_for(Position(position), std::time::Duration::from_secs(5)).await.expect("it is there already");
    for table in TABLES {
        assert_eq!(model.verify(table).await.expect("it can be verified").differences, [], "{table}");
    }
}

async fn events_of_a_process_without_projections_are_caught_up(on: Database) {
    let world = World::new(on).await;
    let bare = world.bare().await;
    let stream = StreamId::lease(lease(1));
    append(&*bare, &stream, &[requested(1, 1)]).await;
    append(&*world.store, &stream, &[acquired(1)]).await;
    assert_eq!(world.positions().await, [0; 6], "what is behind is not written inline");
    world.model.catch_up().await.expect("nothing is broken");
    append(&*world.store, &stream, &[release_requested()]).await;
    assert_eq!(world.positions().await, [3; 6]);
    assert_eq!(world.model.verify("current_leases").await.expect("it can be verified").differences, []);
}

async fn an_existing_log_is_caught_up_when_the_projections_are_attached(on: Database) {
    let world = World::with(on, Vec::new()).await;
    let bare = world.bare().await;
    for number in 0..=255 {
        let stream = StreamId::lease(lease(number));
        append(&*bare, &stream, &[requested(number, number), acquired(1), renewed(1)]).await;
    }
    for number in 0..=255 {
        append(&*bare, &StreamId::lease(lease(number)), &[renewed(2), release_requested()]).await;
    }
    bare.close().await;
    let (_store, model) = world.process().await;
    let statuses = model.statuses().await.expect("it reads");
    assert!(statuses.iter().all(|status| status.position == 1_280 && status.stalled.is_none()), "{statuses:?}");
    for table in TABLES {
        assert_eq!(model.verify(table).await.expect("it can be verified").differences, [], "{table}");
    }
}

/// SQLite's `SQLITE_FULL`: after it nothing is there.
const DISK_FULL: i32 = 13;

/// The next commit fails and is rolled back, where `armed`.
struct Once {
    armed: AtomicBool,
}

impl CommitFaults for Once {
    fn at_commit(&self) -> Option<CommitFault> {
        self.armed.swap(false, Ordering::SeqCst).then_some(CommitFault { code: DISK_FULL, written: false })
    }
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_nothing_hot() {
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    let projections = SqlProjections::new_standard(Database::Sqlite);
    let faults = Arc::new(Once { armed: AtomicBool::new(false) });
    let options = SqliteOptions {
        path: folder.path().join("ledger.db"),
        clock: Arc::new(Ticks::default()),
        ids: Arc::new(lease_events::seam::SystemIds),
        hook: Some(projections.clone()),
    };
    let store = SqliteStore::open_with_faults(options, faults.clone()).await.expect("the folder is there");
    let model = SqlReadModel::attach(projections, store.clone()).await.expect("the file is ours");
    let stream = StreamId::lease(lease(1));
    append(&*store, &stream, &[requested(1, 1)]).await;
    faults.armed.store(true, Ordering::SeqCst);
    let lost = lease_events::store::Append {
        stream: stream.clone(),
        expected: lease_events::store::Expected::Exact(0),
        events: crate::history::encoded(&stream, &[acquired(1)], lease_events::id::CommandId::derived(&["lost"])),
    };
    store.append(lost).await.expect_err("its commit failed");
    append(&*store, &stream, &[acquired(2)]).await;
    let state = model.lease(lease(1)).await.expect("it reads").expect("it is there");
    assert_eq!((state.fencing_token(), state.revision), (Some(2), 1));
    assert_eq!(model.verify("current_leases").await.expect("it can be verified").differences, []);
    let statuses = model.statuses().await.expect("it reads");
    assert!(statuses.iter().all(|status| status.position == 2), "{statuses:?}");
}

both!(
    an_existing_log_is_caught_up_when_the_projections_are_attached,
    two_processes_that_take_turns_on_one_lease_keep_its_row_true,
    events_of_a_process_without_projections_are_caught_up,
);
