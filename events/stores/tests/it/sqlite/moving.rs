//! The ledger file goes away under an open store: nothing is acknowledged that nobody would find again.

use std::fs;
use std::path::PathBuf;

use lease_events::record::Position;
use lease_events::store::{AppendError, EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::sqlite::SqliteStore;

use crate::support::SqlitePlace;

/// The refusal of an append that would otherwise be taken.
async fn refusal(store: &SqliteStore) -> String {
    match store.append(append("a", Expected::Exact(0), &["two"])).await {
        Err(AppendError::Unavailable { cause }) => cause,
        other => panic!("{other:?}"),
    }
}

fn beside(place: &SqlitePlace, name: &str) -> PathBuf {
    place.path().with_file_name(name)
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_taken_again_when_it_is_back() {
    for name in ["ledger.db", "ledger.db-wal"] {
        let place = SqlitePlace::new();
        let store = place.store().await;
        store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
        fs::rename(beside(&place, name), beside(&place, "elsewhere")).unwrap();
        // Twice: with the connection that was open, and when it would be opened again.
        for _ in 0..2 {
            let cause = refusal(&store).await;
            assert!(cause.contains(name) && cause.contains("is not there any more; put it back"), "{cause}");
        }
        assert!(!beside(&place, name).exists(), "nothing is made in its place");
        fs::rename(beside(&place, "elsewhere"), beside(&place, name)).unwrap();
        let appended = store.append(append("a", Expected::Exact(0), &["two"])).await.unwrap();
        assert_eq!((appended.repeated, appended.position()), (false, Position(2)));
        store.close().await;
        assert_eq!(place.store().await.head().await, Ok(Position(2)));
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_is_not_written_to() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "another").unwrap();
    for _ in 0..2 {
        let cause = refusal(&store).await;
        assert!(cause.contains("is another file than the one that was opened; restart on it"), "{cause}");
    }
    assert_eq!(fs::read(place.path()).unwrap(), b"another");
    assert_eq!(store.head().await, Ok(Position(1)), "what was read before can still be read");
}
