//! Delivery at least once: whatever follows the log is told the same events again, and nothing changes.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::Direction;
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_projections::read_model::ReadModel;
use lease_projections::sql::{Database, SqlProjections};
use lease_stores::append_hook::{AppendHook, MemoryAppendHook};
use lease_stores::memory::MemoryStore;
use lease_stores::sql::SqlConnection;
use proptest::prelude::*;
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
impl AppendHook for Again<SqlProjections> {
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

/// Plays random histories on `on`, so many of them.
fn deliver_twice(on: Database, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps(60))| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(check(on, &steps));
    });
}

#[test]
fn every_event_delivered_twice_changes_nothing() {
    deliver_twice(Database::Sqlite, 12);
}

#[test]
fn every_event_delivered_twice_on_postgres_changes_nothing() {
    deliver_twice(Database::Postgres, 3);
}

async fn check(on: Database, steps: &[crate::history::Step]) {
    let once = World::new(on).await;
    play(&*once.store, steps).await;
    let twice = World::hooked(on, lease_projections::standard(), |projections| Again::new(projections)).await;
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
    // A store on a disk reads its clock once when it makes its place.
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
