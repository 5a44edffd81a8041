//! The server crashes under load, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lease_events::record::Position;
use lease_events::store::{AppendError, Direction, EventStore, Expected};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::postgres_server::{Durability, PostgresServer};
use lease_stores::contract::{append, event, stream};
use lease_stores::postgres::PostgresStore;

const CRASHES: usize = 20;
const STREAMS: usize = 16;
/// Appends that succeed between two crashes, at least.
const APPENDS_BETWEEN: u64 = 64;

/// Appends until told to stop, and answers how many were acknowledged. A refusal is told again, as commands do.
async fn keep_appending(
    store: Arc<PostgresStore>,
    name: String,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
) -> u64 {
    let mut number = 0_u64;
    while stop.load(Ordering::Relaxed) == 0 {
        let sent = append(&name, Expected::after(number.checked_sub(1)), &[&format!("{name}-{number}")]);
        match store.append(sent).await {
            Ok(appended) => {
                assert_eq!(appended.events[0].stream_revision, number);
                number += 1;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(AppendError::Unavailable { .. } | AppendError::OutcomeUnknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_twenty_times_under_load_loses_and_doubles_nothing() {
    let mut server = PostgresServer::start(Durability::Fast).unwrap();
    let place = PostgresPlace::on(server.url("postgres"));
    let stores = [place.store().await, place.store().await];
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let appending: Vec<_> = (0..STREAMS)
        .map(|number| {
            let store = Arc::clone(&stores[number % stores.len()]);
            let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
            tokio::spawn(keep_appending(store, format!("s{number}"), acknowledged, stop))
        })
        .collect();
    for _ in 0..CRASHES {
        let wanted = acknowledged.load(Ordering::Relaxed) + APPENDS_BETWEEN;
        while acknowledged.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server = tokio::task::spawn_blocking(move || {
            server.crash().unwrap();
            server.run().unwrap();
            server
        })
        .await
        .unwrap();
    }
    stop.store(1, Ordering::Relaxed);
    let mut total = 0;
    for (number, task) in appending.into_iter().enumerate() {
        let count = task.await.unwrap();
        let name = format!("s{number}");
        let mut found = Vec::new();
        while let page =
            stores[0].read_stream(&stream(&name), found.len() as u64, Direction::Forwards, 1_000).await.unwrap()
            && !page.is_empty()
        {
            found.extend(page);
        }
        assert_eq!(found.len() as u64, count, "{name}");
        for (number, found) in found.iter().enumerate() {
            assert_eq!(found.event_id, event(&format!("{name}-{number}")).event_id);
        }
        total += count;
    }
    assert_eq!(stores[1].head().await, Ok(Position(total)));
}
