//! A reader that knows nothing of transactions: it asks for what is behind the last position that it saw.

use std::process::{Command, Stdio};
use std::sync::Arc;

use lease_events::record::Position;
use lease_events::store::{Direction, EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::postgres::{PostgresOptions, PostgresStore};

/// Names the database to the second process, which is this test binary.
const DATABASE: &str = "LEASE_STORES_TEST_DATABASE";
const WRITERS_EACH: usize = 8;
const EVENTS_EACH: u64 = 1_250;
const EVENTS: u64 = 2 * WRITERS_EACH as u64 * EVENTS_EACH;

async fn write(store: &Arc<PostgresStore>, process: &str) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS_EACH {
        let (store, name) = (Arc::clone(store), format!("{process}{writer}"));
        tasks.spawn(async move {
            for number in 0..EVENTS_EACH {
                let sent = append(&name, Expected::after(number.checked_sub(1)), &[&format!("{name}-{number}")]);
                store.append(sent).await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_reader_sees_what_sixteen_writers_in_two_processes_append_once_and_in_order() {
    if let Ok(url) = std::env::var(DATABASE) {
        let options = PostgresOptions { url, ..PostgresPlace::new().options() };
        let store = PostgresStore::open(options).await.unwrap();
        write(&store, "second").await;
        return store.close().await;
    }
    let place = PostgresPlace::new();
    let store = place.store().await;
    let name = "postgres::readers::a_naive_reader_sees_what_sixteen_writers_in_two_processes_append_once_and_in_order";
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(DATABASE, place.url())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { write(&store, "first").await }
    });
    let mut last = Position::START;
    while last.0 < EVENTS {
        for event in store.read_all(last, Direction::Forwards, 1_000).await.unwrap() {
            assert_eq!(event.position, last.next(), "what was not there before comes behind what was");
            last = event.position;
        }
    }
    writing.await.unwrap();
    let ended = tokio::task::spawn_blocking(move || second.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(store.head().await, Ok(Position(EVENTS)));
}
