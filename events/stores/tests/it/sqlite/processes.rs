//! Two real processes on one file. The second is this test binary, told by its environment to be one.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use lease_events::record::Position;
use lease_events::store::{AppendError, Direction, EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};

use crate::support::SqlitePlace;

/// Names the ledger file to the second process.
const LEDGER: &str = "LEASE_STORES_TEST_LEDGER";
/// Appends that each process makes to the stream that both want.
const APPENDS: usize = 100;

/// Appends to the shared stream, again and again behind whatever is there, as two command handlers would.
async fn compete(store: &SqliteStore, name: &str) {
    let mut expected = Expected::NoStream;
    for number in 0..APPENDS {
        let event = format!("{name}-{number}");
        loop {
            match store.append(append("shared", expected, &[&event])).await {
                Ok(appended) => {
                    expected = Expected::after(appended.events.last().map(|event| event.stream_revision));
                    break;
                }
                Err(AppendError::WrongExpectedRevision { actual, .. }) => expected = Expected::after(actual),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn two_processes_share_one_log() {
    if let Some(path) = std::env::var_os(LEDGER).map(PathBuf::from) {
        let store = SqliteStore::open(SqliteOptions { path, ..SqlitePlace::new().options() }).await.unwrap();
        compete(&store, "second").await;
        return store.close().await;
    }
    let place = SqlitePlace::new();
    let store = place.store().await;
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::processes::two_processes_share_one_log"])
        .env(LEDGER, place.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    compete(&store, "first").await;
    let ended = tokio::task::spawn_blocking(move || second.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    let log = store.read_all(Position::START, Direction::Forwards, usize::MAX).await.unwrap();
    assert_eq!(log.len(), 2 * APPENDS);
    assert!(log.iter().zip(1..).all(|(event, position)| event.position == Position(position)));
    assert!(log.iter().zip(0..).all(|(event, revision)| event.stream_revision == revision));
}
