//! Commits that fail: what the caller hears, what is in the file, and what the store still takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lease_events::record::Position;
use lease_events::store::{AppendError, EventStore, Expected};
use lease_stores::append_hook::WriterJob;
use lease_stores::contract::append;
use lease_stores::sql::{SqlConnection, WriterJobError};
use lease_stores::sqlite::{CommitFault, CommitFaults, SqliteStore};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::SqlitePlace;

const SQLITE_FULL: i32 = 13;
const SQLITE_IOERR_FSYNC: i32 = 1034;

/// Fails the next commit once it is armed.
#[derive(Default)]
struct Armed(Mutex<Option<CommitFault>>);

impl CommitFaults for Armed {
    fn at_commit(&self) -> Option<CommitFault> {
        self.0.lock().unwrap().take()
    }
}

async fn with_faults(place: &SqlitePlace) -> (Arc<SqliteStore>, Arc<Armed>) {
    let faults = Arc::new(Armed::default());
    let store = SqliteStore::open_with_faults(place.options(), faults.clone()).await.unwrap();
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    (store, faults)
}

#[tokio::test]
async fn after_a_failed_sync_nothing_more_is_taken_until_reopened() {
    for written in [false, true] {
        let place = SqlitePlace::new();
        let (store, faults) = with_faults(&place).await;
        *faults.0.lock().unwrap() = Some(CommitFault { code: SQLITE_IOERR_FSYNC, written });
        let sent = append("a", Expected::Exact(0), &["two"]);
        let unknown = store.append(sent.clone()).await;
        assert!(matches!(unknown, Err(AppendError::OutcomeUnknown { .. })), "{unknown:?}");
        for later in [sent.clone(), append("b", Expected::NoStream, &["other"])] {
            let refused = store.append(later).await;
            let Err(poisoned @ AppendError::Poisoned { .. }) = refused else { panic!("{refused:?}") };
            assert!(poisoned.to_string().contains("restart lease-ledger"), "{poisoned}");
        }
        // Reads go on, and a subscriber is not shown what was never acknowledged as committed here.
        assert_eq!(*store.head_changes().borrow(), Position(1));
        store.close().await;

        let again = place.store().await;
        assert_eq!(again.head().await, Ok(Position(1 + u64::from(written))));
        let appended = again.append(sent).await.unwrap();
        assert_eq!((appended.repeated, appended.position()), (written, Position(2)));
    }
}

#[tokio::test]
async fn a_poisoned_store_runs_no_job() {
    let place = SqlitePlace::new();
    let (store, faults) = with_faults(&place).await;
    *faults.0.lock().unwrap() = Some(CommitFault { code: SQLITE_IOERR_FSYNC, written: false });
    for _ in 0..2 {
        let refused = store.run_on_writer(Sql("CREATE TABLE t (x)")).await.map(|_| ());
        let Err(WriterJobError::Store(error)) = refused else { panic!("{refused:?}") };
        assert!(matches!(error, AppendError::OutcomeUnknown { .. } | AppendError::Poisoned { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_commit_refuses_and_recovers() {
    let place = SqlitePlace::new();
    let (store, faults) = with_faults(&place).await;
    *faults.0.lock().unwrap() = Some(CommitFault { code: SQLITE_FULL, written: false });
    let refused = store.append(append("a", Expected::Exact(0), &["two"])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    let appended = store.append(append("a", Expected::Exact(0), &["two"])).await.unwrap();
    assert_eq!((appended.repeated, appended.position()), (false, Position(2)));
}

/// A statement to run on the writer's connection.
struct Sql(&'static str);

#[async_trait]
impl WriterJob for Sql {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        sqlx::raw_sql(self.0).execute(connection).await.map(|_| ())
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_an_insert_refuses_and_recovers() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    // SQLite's own limit for this connection: no page more than there is, as on a full disk.
    store.run_on_writer(Sql("PRAGMA max_page_count = 1")).await.unwrap();
    let mut large = append("a", Expected::Exact(0), &["two"]);
    large.events[0].data = format!("\"{}\"", "x".repeat(100_000)).into();
    let refused = store.append(large.clone()).await;
    let Err(AppendError::Unavailable { cause }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains("full"), "{cause}");
    // The next connection has no such limit: there is space again.
    let appended = store.append(large).await.unwrap();
    assert_eq!((appended.repeated, appended.position()), (false, Position(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_waits_for_another_process_to_let_go() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    let mut other = SqliteConnectOptions::new().filename(place.path()).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let released = AtomicBool::new(false);
    let appending = async {
        let appended = store.append(append("a", Expected::NoStream, &["one"])).await;
        (appended, released.load(Ordering::SeqCst))
    };
    let releasing = async {
        // The store was asked first: it has begun to wait, or will find the lock held.
        tokio::task::yield_now().await;
        released.store(true, Ordering::SeqCst);
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    };
    let ((appended, after_release), ()) = tokio::join!(appending, releasing);
    assert_eq!(appended.unwrap().position(), Position(1));
    assert!(after_release);
}
