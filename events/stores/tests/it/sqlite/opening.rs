//! Which files are opened as a ledger, and how those that are not are refused.

use std::fs;
use std::path::Path;

use lease_events::store::{EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::sqlite::{OpenError, SqliteOptions, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::support::SqlitePlace;

async fn refusal(place: &SqlitePlace, path: &Path) -> OpenError {
    let options = SqliteOptions { path: path.to_owned(), ..place.options() };
    SqliteStore::open(options).await.err().expect("it is refused")
}

/// Runs SQL on the file as any other program would, and leaves the file closed.
async fn with_sqlite(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_ledger_keeps_its_id() {
    let place = SqlitePlace::new();
    let first = place.store().await;
    let id = first.ledger_id();
    first.close().await;
    assert_eq!(place.store().await.ledger_id(), id);
    assert_ne!(SqlitePlace::new().store().await.ledger_id(), id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_make_one_file_at_once_make_one_ledger() {
    let place = SqlitePlace::new();
    let stores = futures_util::future::join_all((0..8).map(|_| place.store())).await;
    assert!(stores.iter().all(|store| store.ledger_id() == stores[0].ledger_id()));
    for (number, store) in stores.iter().enumerate() {
        let appended = store.append(append(&number.to_string(), Expected::NoStream, &["one"])).await.unwrap();
        assert_eq!(appended.position().0, number as u64 + 1);
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_ledger() {
    let place = SqlitePlace::new();
    fs::write(place.path(), "").unwrap();
    place.store().await.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
}

#[tokio::test]
async fn a_folder_is_refused() {
    let place = SqlitePlace::new();
    let folder = place.path().parent().unwrap().to_owned();
    let error = refusal(&place, &folder).await;
    assert_eq!(error, OpenError::Folder { path: folder.clone() });
    assert_eq!(
        error.to_string(),
        format!("{0} is a folder, not a ledger file; give the path of a file, such as {0}/ledger.db", folder.display())
    );
}

#[tokio::test]
async fn a_file_in_a_folder_that_is_not_there_is_refused() {
    let place = SqlitePlace::new();
    let path = place.path().join("deeper").join("ledger.db");
    assert_eq!(refusal(&place, &path).await, OpenError::NoFolder { path: path.clone() });
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let place = SqlitePlace::new();
    let letter = "Dear Sir or Madam, ".repeat(100);
    fs::write(place.path(), &letter).unwrap();
    assert_eq!(refusal(&place, &place.path()).await, OpenError::NotADatabase { path: place.path() });
    assert_eq!(fs::read_to_string(place.path()).unwrap(), letter);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_alone() {
    for sql in ["CREATE TABLE events (id)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"] {
        let place = SqlitePlace::new();
        with_sqlite(&place.path(), sql).await;
        let before = fs::read(place.path()).unwrap();
        let error = refusal(&place, &place.path()).await;
        assert_eq!(error, OpenError::Foreign { path: place.path() });
        assert!(error.to_string().contains("is a SQLite database of another program"), "{error}");
        assert_eq!(fs::read(place.path()).unwrap(), before, "{sql}");
        assert_eq!(fs::read_dir(place.path().parent().unwrap()).unwrap().count(), 1, "nothing was left beside it");
    }
}

#[tokio::test]
async fn a_ledger_of_a_newer_format_is_refused() {
    let place = SqlitePlace::new();
    place.store().await.close().await;
    with_sqlite(&place.path(), "PRAGMA user_version = 99").await;
    let error = refusal(&place, &place.path()).await;
    assert_eq!(error, OpenError::NewerFormat { path: place.path(), found: 99, known: 3 });
    assert!(
        error
            .to_string()
            .ends_with("has format 99, and this lease-ledger knows formats up to 3; use a newer lease-ledger")
    );
}

#[tokio::test]
async fn a_ledger_of_the_first_format_is_brought_to_the_newest_and_keeps_what_it_has() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    let id = store.ledger_id();
    store.close().await;
    with_sqlite(&place.path(), "DROP TABLE mirror; DROP TABLE secret_versions; PRAGMA user_version = 1").await;
    let store = place.store().await;
    assert_eq!((store.ledger_id(), store.head().await.unwrap().0), (id, 1));
    let values: i64 =
        sqlx::query_scalar("SELECT count(*) FROM secret_versions").fetch_one(store.reader()).await.unwrap();
    assert_eq!(values, 0);
}

#[tokio::test]
async fn a_name_that_sqlite_reads_otherwise_is_only_a_name() {
    let place = SqlitePlace::new();
    for name in ["file:x?mode=memory", ":memory:", "with space & \"quote\".db"] {
        let path = place.path().with_file_name(name);
        let store = SqliteStore::open(SqliteOptions { path: path.clone(), ..place.options() }).await.unwrap();
        store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
        store.close().await;
        assert!(path.is_file(), "{name}");
    }
}

#[tokio::test]
async fn a_closed_ledger_is_one_file() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    store.close().await;
    assert_eq!(fs::read_dir(place.path().parent().unwrap()).unwrap().count(), 1, "the WAL was moved into it");
}
