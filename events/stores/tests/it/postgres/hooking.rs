//! The append hook and the writer's jobs: what runs inside the store's transactions, and what it is told of their end.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{AppendError, EventStore, Expected};
use lease_stores::append_hook::{AppendHook, WriterJob};
use lease_stores::contract::append;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::postgres::{PostgresOptions, PostgresStore};
use lease_stores::sql::{SqlConnection, SqlStore, WriterJobError};

use super::proxy::{Cut, Proxy};

/// What a hook does beside remembering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    /// It overlooks a failure, and leaves a transaction that can only be rolled back.
    OverlookFailure,
}

struct Recording {
    told: Mutex<Vec<String>>,
    does: Mutex<Does>,
}

impl Recording {
    fn new() -> Arc<Self> {
        Arc::new(Self { told: Mutex::default(), does: Mutex::new(Does::Nothing) })
    }

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
        let connection = connection.postgres()?;
        let positions: Vec<String> = events.iter().map(|event| event.position.to_string()).collect();
        self.tell(&format!("events {}", positions.join(",")));
        // It sees what it follows.
        let stored: i64 = sqlx::query_scalar("SELECT max(position) FROM events").fetch_one(&mut *connection).await?;
        assert_eq!(stored.unsigned_abs(), events.last().unwrap().position.0);
        if *self.does.lock().unwrap() == Does::OverlookFailure {
            sqlx::query("SELECT nothing").execute(&mut *connection).await.unwrap_err();
        }
        Ok(())
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

async fn hooked(options: PostgresOptions, hook: &Arc<Recording>) -> Arc<PostgresStore> {
    PostgresStore::open(PostgresOptions { hook: Some(hook.clone()), ..options }).await.unwrap()
}

#[tokio::test]
async fn the_hook_is_told_how_each_transaction_began_and_ended() {
    let (place, hook) = (PostgresPlace::new(), Recording::new());
    let proxy = Proxy::to(&place.url()).await;
    let store = hooked(PostgresOptions { url: proxy.url(&place.url()), ..place.options() }, &hook).await;
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.unwrap();
    assert_eq!(hook.take(), ["changed elsewhere", "events 1,2", "committed"]);
    // A repetition and a refusal write nothing, and are none of the hook's business.
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.unwrap();
    store.append(append("a", Expected::NoStream, &["other"])).await.unwrap_err();
    assert!(hook.take().is_empty());
    let other = place.store().await;
    other.append(append("a", Expected::Exact(1), &["three"])).await.unwrap();
    store.append(append("a", Expected::Exact(2), &["four"])).await.unwrap();
    assert_eq!(hook.take(), ["changed elsewhere", "events 4", "committed"]);
    proxy.cut(Cut::Before);
    store.append(append("a", Expected::Exact(3), &["five"])).await.unwrap();
    assert_eq!(hook.take(), ["events 5", "rolled back", "changed elsewhere", "events 5", "committed"]);
    proxy.cut(Cut::After);
    store.append(append("a", Expected::Exact(4), &["six"])).await.unwrap();
    assert_eq!(hook.take(), ["events 6", "rolled back", "changed elsewhere"]);
}

#[tokio::test]
async fn a_failure_that_a_hook_overlooks_is_never_acknowledged() {
    let (place, hook) = (PostgresPlace::new(), Recording::new());
    let store = hooked(place.options(), &hook).await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    *hook.does.lock().unwrap() = Does::OverlookFailure;
    let appending = store.append(append("a", Expected::Exact(0), &["two"]));
    let mending = async {
        while !hook.told.lock().unwrap().iter().any(|told| told == "rolled back") {
            tokio::task::yield_now().await;
        }
        *hook.does.lock().unwrap() = Does::Nothing;
    };
    let (appended, ()) = tokio::join!(appending, mending);
    assert_eq!(appended.unwrap().position(), Position(2));
    assert_eq!(store.head().await, Ok(Position(2)));
}

/// Writes a row, the same however often it is run.
struct Upsert;

#[async_trait]
impl WriterJob for Upsert {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let sql = "CREATE TABLE IF NOT EXISTS marks (name text PRIMARY KEY); \
                   INSERT INTO marks VALUES ('it') ON CONFLICT DO NOTHING";
        sqlx::raw_sql(sql).execute(connection.postgres()?).await.map(drop)
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_job_that_may_be_run_again_outlasts_its_connection() {
    let place = PostgresPlace::new();
    let proxy = Proxy::to(&place.url()).await;
    let options = PostgresOptions { url: proxy.url(&place.url()), ..place.options() };
    let store = PostgresStore::open(options).await.unwrap();
    for cut in [Cut::Before, Cut::After] {
        proxy.cut(cut);
        store.run_on_writer(Upsert).await.unwrap();
        proxy.done().await;
    }
    let marks: i64 = sqlx::query_scalar("SELECT count(*) FROM marks").fetch_one(store.reader()).await.unwrap();
    assert_eq!(marks, 1);
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
        let connection = connection.postgres()?;
        sqlx::query("CREATE TABLE IF NOT EXISTS counts (counted bigint)").execute(&mut *connection).await?;
        self.counted = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut *connection).await?;
        sqlx::query("INSERT INTO counts VALUES ($1)").bind(self.counted).execute(&mut *connection).await?;
        if self.fails { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_job_runs_between_appends_and_comes_back_and_others_hear_that_something_changed() {
    let (place, hook) = (PostgresPlace::new(), Recording::new());
    let store = hooked(place.options(), &hook).await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    hook.take();
    let other: Arc<dyn SqlStore> = place.store().await;
    assert_eq!(other.run_on_writer(CountEvents::default()).await.unwrap().counted, 1);
    store.append(append("a", Expected::Exact(0), &["two"])).await.unwrap();
    assert_eq!(hook.take(), ["changed elsewhere", "events 2", "committed"]);
}

#[tokio::test]
async fn a_job_that_fails_or_breaks_off_leaves_nothing_and_stops_nothing() {
    let place = PostgresPlace::new();
    let proxy = Proxy::to(&place.url()).await;
    let options = PostgresOptions { url: proxy.url(&place.url()), ..place.options() };
    let store = PostgresStore::open(options).await.unwrap();
    store.run_on_writer(CountEvents::default()).await.unwrap();
    let failed = store.run_on_writer(CountEvents { fails: true, ..CountEvents::default() }).await.unwrap_err();
    assert!(matches!(failed, WriterJobError::Failed { .. }), "{failed:?}");
    proxy.cut(Cut::Before);
    let unknown = store.run_on_writer(CountEvents::default()).await.unwrap_err();
    assert!(matches!(unknown, WriterJobError::Store(AppendError::OutcomeUnknown { .. })), "{unknown:?}");
    let counts: Vec<i64> = sqlx::query_scalar("SELECT counted FROM counts").fetch_all(store.reader()).await.unwrap();
    assert_eq!(counts, [0]);
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
}
