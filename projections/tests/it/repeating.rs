//! Delivery at least once: whatever follows the log is told the same events again, and nothing changes.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use lease_events::seam::SystemIds;
use lease_events::store::{Direction, EventStore};
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_projections::read_model::ReadModel;
use lease_projections::sql::{SqliteProjections, SqliteReadModel};
use lease_stores::append_hook::{AppendHook, MemoryAppendHook};
use lease_stores::memory::MemoryStore;
use lease_stores::sql::SqlConnection;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::history::{play, steps};
use crate::world::{Ticks, World};

const TABLES: [&str; 6] = ["current_leases", "reusable_leases", "environments", "secrets", "runs", "reuse_claims"];

/// Delivers each batch twice, and the one before it once more behind that.
struct Again<H> {
    inner: Arc<H>,
    before: Mutex<Vec<RecordedEvent>>,
}

impl<H> Again<H> {
    fn new(inner: &Arc<H>) -> Arc<Self> {
        Arc::new(Self { inner: inner.clone(), before: Mutex::default() })
    }

    /// The batch before this one, which takes its place.
    fn before(&self, events: &[RecordedEvent]) -> Vec<RecordedEvent> {
        std::mem::replace(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner), events.to_vec())
    }
}

#[async_trait]
impl AppendHook for Again<SqliteProjections> {
    fn prepare(&self, events: &[RecordedEvent]) {
        self.inner.prepare(events);
        self.inner.prepare(events);
    }

    async fn on_append(&self, connection: &mut SqlConnection<'_>, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
        let before = self.before(events);
        for delivered in [events, events, &before] {
            self.inner.on_append(connection, delivered).await?;
        }
        Ok(())
    }

    fn committed(&self) {
        self.inner.committed();
        self.inner.committed();
    }

    fn rolled_back(&self) {
        self.inner.rolled_back();
    }

    fn changed_elsewhere(&self) {
        self.inner.changed_elsewhere();
    }
}

impl MemoryAppendHook for Again<MemoryProjections> {
    fn on_append(&self, events: &[RecordedEvent]) {
        let before = self.before(events);
        for delivered in [events, events, &before] {
            self.inner.on_append(delivered);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_delivered_twice_changes_nothing(steps in steps(60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(&steps));
    }
}

async fn check(steps: &[crate::history::Step]) {
    let once = World::new().await;
    play(&*once.store, steps).await;

    let folder = TempDir::new().expect("a folder can be made");
    let projections = SqliteProjections::new_standard();
    let path = folder.path().join("ledger.db");
    let (clock, hook) = (Arc::new(Ticks::default()), Again::new(&projections));
    let options = SqliteOptions { path, clock, ids: Arc::new(SystemIds), hook: Some(hook) };
    let store = SqliteStore::open(options).await.expect("the folder is there");
    let model = SqliteReadModel::attach(projections, store.clone()).await.expect("the file is ours");
    let twice = World { folder, store, model };
    play(&*twice.store, steps).await;
    same_rows(&once, &twice, "delivered twice").await;

    // Followed, made again, and followed again: the same.
    for _ in 0..2 {
        twice.model.catch_up().await.expect("nothing is behind");
        same_rows(&once, &twice, "caught up").await;
        for table in TABLES {
            let (progress, _unheard) = mpsc::channel(1);
            twice.model.rebuild(table, progress).await.expect("it can be rebuilt");
        }
        same_rows(&once, &twice, "rebuilt").await;
    }
    let head = twice.store.head().await.expect("the log can be read");
    assert_eq!(twice.positions().await, [head.0; 6]);
    in_memory(&once, steps).await;

    // Whoever follows the log by itself is told each event once from where it asks, however often it asks.
    for after in [Position::START, Position(head.0 / 2)] {
        let told = twice.store.read_all(after, Direction::Forwards, 4_096).await.expect("the log can be read");
        assert_eq!(told, twice.store.read_all(after, Direction::Forwards, 4_096).await.expect("the log can be read"));
        assert!(told.iter().zip(after.0 + 1..).all(|(event, position)| event.position.0 == position));
    }
}

async fn in_memory(once: &World, steps: &[crate::history::Step]) {
    let projections = MemoryProjections::new_standard();
    let clock = Ticks::default();
    // The SQLite store reads its clock once when it makes the file.
    lease_events::seam::Clock::now(&clock);
    let store = MemoryStore::new(Arc::new(clock), Some(Again::new(&projections)));
    let model = MemoryReadModel::attach(projections.clone(), store.clone());
    play(&*store, steps).await;
    for _ in 0..2 {
        for table in TABLES {
            assert_eq!(once.rows(table).await, projections.rows(table).expect("it is known"), "{table}: in memory");
            assert_eq!(model.verify(table).await.expect("it can be verified").differences, []);
        }
        model.catch_up().await.expect("nothing is behind");
    }
}

async fn same_rows(once: &World, twice: &World, how: &str) {
    for table in TABLES {
        assert_eq!(once.rows(table).await, twice.rows(table).await, "{table}: {how}");
        assert_eq!(twice.stalled(table).await, None, "{table}: {how}");
        assert_eq!(twice.model.verify(table).await.expect("it can be verified").differences, [], "{table}: {how}");
    }
}
