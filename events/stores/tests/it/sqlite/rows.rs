//! Rows that make no sense are named, events cannot be changed, and readers cannot write.

use futures_util::StreamExt;
use lease_events::record::Position;
use lease_events::store::{Direction, EventStore, Expected, ReadError};
use lease_stores::contract::{append, stream};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::support::SqlitePlace;

/// A ledger of three events, closed, and a connection to tamper with it.
async fn tampering(place: &SqlitePlace) -> SqliteConnection {
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one", "two", "three"])).await.unwrap();
    store.close().await;
    SqliteConnectOptions::new().filename(place.path()).connect().await.unwrap()
}

#[tokio::test]
async fn events_are_neither_changed_nor_deleted() {
    let place = SqlitePlace::new();
    let mut connection = tampering(&place).await;
    for (sql, refusal) in [
        ("UPDATE events SET data = '{}' WHERE position = 2", "events are never changed"),
        ("DELETE FROM events WHERE position = 2", "events are never deleted"),
    ] {
        let error = sqlx::query(sql).execute(&mut connection).await.unwrap_err().to_string();
        assert!(error.contains(refusal), "{error}");
    }
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_named() {
    for (column, value) in [
        ("event_id", "'seven'"),
        ("stream_id", "'nameless'"),
        ("type", "CAST(x'ff' AS TEXT)"),
        ("schema_version", "-1"),
        ("schema_version", "65536"),
        ("company_id", "''"),
        ("recorded_at", "'yesterday'"),
        ("data", "CAST(x'7bff7d' AS TEXT)"),
        ("metadata", "CAST(x'c328' AS TEXT)"),
    ] {
        let place = SqlitePlace::new();
        let mut connection = tampering(&place).await;
        let sql =
            format!("DROP TRIGGER events_are_not_changed; UPDATE events SET {column} = {value} WHERE position = 2");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let error = place.store().await.read_all(Position::START, Direction::Forwards, 10).await.unwrap_err();
        let ReadError::Corrupt { position, column: named, cause } = error else { panic!("{column}: {error}") };
        assert_eq!((position, named), (Position(2), column));
        assert!(!cause.is_empty());
    }
}

#[tokio::test]
async fn a_hole_in_the_log_ends_a_subscription() {
    let place = SqlitePlace::new();
    let mut connection = tampering(&place).await;
    let sql = "DROP TRIGGER events_are_not_deleted; DELETE FROM events WHERE position = 2";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let store = place.store().await;
    let seen: Vec<_> = store.subscribe(Position::START).await.unwrap().collect().await;
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].as_ref().unwrap().position, Position(1));
    assert_eq!(
        seen[1].as_ref().unwrap_err().to_string(),
        "the event at position 2 cannot be read: column position: the event is missing; the next one there is at 3"
    );
}

#[tokio::test]
async fn times_are_stored_as_text_that_sorts() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    let appended = store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    let text: String = sqlx::query_scalar("SELECT recorded_at FROM events").fetch_one(store.reader()).await.unwrap();
    assert_eq!(text, appended.events[0].recorded_at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
    assert_eq!(text.len(), "2026-01-02T03:04:05.000006Z".len());
}

#[tokio::test]
async fn readers_cannot_write() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    let refused = sqlx::query("DELETE FROM ledger").execute(store.reader()).await.unwrap_err().to_string();
    assert!(refused.contains("readonly"), "{refused}");
    assert_eq!(store.read_stream(&stream("a"), 0, Direction::Forwards, 1).await, Ok(vec![]));
}
