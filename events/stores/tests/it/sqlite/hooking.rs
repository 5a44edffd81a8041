//! The append hook and the writer's jobs: what runs inside the store's transactions, and what it is told of their end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{AppendError, EventStore, Expected};
use lease_stores::append_hook::{AppendHook, WriterJob};
use lease_stores::contract::append;
use lease_stores::sql::{SqlConnection, WriterJobError};
use lease_stores::sqlite::{CommitFault, CommitFaults, SqliteOptions, SqliteStore};
use sqlx::Connection;

use crate::support::SqlitePlace;

/// Writes the positions it sees to a table, and remembers what it is told.
#[derive(Default)]
struct Recording {
    told: Mutex<Vec<String>>,
    fails: AtomicBool,
}

impl Recording {
    fn tell(&self, what: &str) {
        self.told.lock().unwrap().push(what.to_owned());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

#[async_trait]
impl AppendHook for Recording {
    async fn on_append(&self, connection: &mut SqlConnection<'_>, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        let positions: Vec<String> = events.iter().map(|event| event.position.to_string()).collect();
        self.tell(&format!("events {}", positions.join(",")));
        // As an executor of projections does: a savepoint inside the store's transaction.
        let mut savepoint = connection.begin().await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS seen (position INTEGER)").execute(&mut *savepoint).await?;
        for event in events {
            let seen = sqlx::query("INSERT INTO seen VALUES (?)").bind(i64::try_from(event.position.0).unwrap());
            seen.execute(&mut *savepoint).await?;
        }
        savepoint.commit().await?;
        if self.fails.load(Ordering::SeqCst) { Err(sqlx::Error::WorkerCrashed) } else { Ok(()) }
    }

    fn committed(&self) {
        self.tell("committed");
    }

    fn rolled_back(&self) {
        self.tell("rolled back");
    }

    fn changed_elsewhere(&self) {
        self.tell("changed elsewhere");
    }
}

async fn hooked(place: &SqlitePlace, hook: &Arc<Recording>) -> Arc<SqliteStore> {
    SqliteStore::open(SqliteOptions { hook: Some(hook.clone()), ..place.options() }).await.unwrap()
}

async fn seen(store: &SqliteStore) -> Vec<i64> {
    sqlx::query_scalar("SELECT position FROM seen ORDER BY position").fetch_all(store.reader()).await.unwrap()
}

#[tokio::test]
async fn the_hook_writes_in_the_transaction_of_the_append() {
    let (place, hook) = (SqlitePlace::new(), Arc::new(Recording::default()));
    let store = hooked(&place, &hook).await;
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.unwrap();
    assert_eq!(hook.take(), ["changed elsewhere", "events 1,2", "committed"]);
    // A repetition and a refusal write nothing, and are none of the hook's business.
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.unwrap();
    store.append(append("a", Expected::NoStream, &["other"])).await.unwrap_err();
    assert!(hook.take().is_empty());
    store.append(append("a", Expected::Exact(1), &["three"])).await.unwrap();
    assert_eq!(hook.take(), ["events 3", "committed"]);
    assert_eq!(seen(&store).await, [1, 2, 3]);
    assert_eq!(store.fsyncs(), 2);
}

#[tokio::test]
async fn an_error_of_the_hook_rolls_all_of_it_back() {
    let (place, hook) = (SqlitePlace::new(), Arc::new(Recording::default()));
    let store = hooked(&place, &hook).await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    hook.take();
    hook.fails.store(true, Ordering::SeqCst);
    let refused = store.append(append("a", Expected::Exact(0), &["two"])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    assert_eq!(hook.take(), ["events 2", "rolled back"]);
    hook.fails.store(false, Ordering::SeqCst);
    store.append(append("a", Expected::Exact(0), &["two"])).await.unwrap();
    assert_eq!(seen(&store).await, [1, 2]);
}

#[tokio::test]
async fn a_failed_commit_is_told_to_the_hook() {
    struct Once(Mutex<Option<CommitFault>>);
    impl CommitFaults for Once {
        fn at_commit(&self) -> Option<CommitFault> {
            self.0.lock().unwrap().take()
        }
    }
    let (place, hook) = (SqlitePlace::new(), Arc::new(Recording::default()));
    let faults = Arc::new(Once(Mutex::new(Some(CommitFault { code: 13, written: false }))));
    let options = SqliteOptions { hook: Some(hook.clone()), ..place.options() };
    let store = SqliteStore::open_with_faults(options, faults).await.unwrap();
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap_err();
    assert_eq!(hook.take(), ["changed elsewhere", "events 1", "rolled back"]);
}

#[tokio::test]
async fn the_hook_is_told_when_another_connection_has_written() {
    let (place, hook) = (SqlitePlace::new(), Arc::new(Recording::default()));
    let store = hooked(&place, &hook).await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    hook.take();
    let other = place.store().await;
    other.append(append("a", Expected::Exact(0), &["two"])).await.unwrap();
    let appended = store.append(append("a", Expected::Exact(1), &["three"])).await.unwrap();
    assert_eq!(appended.position(), Position(3));
    assert_eq!(hook.take(), ["changed elsewhere", "events 3", "committed"]);
}

/// Counts events on the writer's connection, and notes it in a table.
#[derive(Debug, Default)]
struct CountEvents {
    counted: i64,
    fails: bool,
}

#[async_trait]
impl WriterJob for CountEvents {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        sqlx::query("CREATE TABLE IF NOT EXISTS counts (counted INTEGER)").execute(&mut *connection).await?;
        self.counted = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut *connection).await?;
        sqlx::query("INSERT INTO counts VALUES (?)").bind(self.counted).execute(&mut *connection).await?;
        if self.fails { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_job_runs_between_appends_and_comes_back() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    let first = store.append(append("a", Expected::NoStream, &["one"]));
    let job = store.run_on_writer(CountEvents::default());
    let second = store.append(append("b", Expected::NoStream, &["two"]));
    let (first, job, second) = tokio::join!(first, job, second);
    assert_eq!(
        (first.unwrap().position(), job.unwrap().counted, second.unwrap().position()),
        (Position(1), 1, Position(2))
    );
}

#[tokio::test]
async fn a_job_that_fails_leaves_nothing_and_stops_nothing() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    store.run_on_writer(CountEvents::default()).await.unwrap();
    let failed = store.run_on_writer(CountEvents { fails: true, ..CountEvents::default() }).await.unwrap_err();
    assert!(matches!(failed, WriterJobError::Failed { .. }), "{failed:?}");
    let counts: Vec<i64> = sqlx::query_scalar("SELECT counted FROM counts").fetch_all(store.reader()).await.unwrap();
    assert_eq!(counts, [0]);
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    let names: Vec<String> = (0..128).map(|number| number.to_string()).collect();
    let sent = names.iter().map(|name| store.append(append(name, Expected::NoStream, &[name])));
    assert!(futures_util::future::join_all(sent).await.iter().all(Result::is_ok));
    assert_eq!(store.fsyncs(), 1);
    assert_eq!(*store.head_changes().borrow(), Position(128));
}
