//! The memory store: the contract, and that it needs no time of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use lease_events::record::{Position, RecordedEvent};
use lease_events::seam::Clock;
use lease_events::store::{EventStore, Expected};
use lease_stores::append_hook::MemoryAppendHook;
use lease_stores::contract::append;
use lease_stores::memory::MemoryStore;

mod contract {
    lease_stores::store_contract!(crate::support::MemoryPlace);
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> DateTime<Utc> {
        // Finer than the microseconds that a store keeps.
        DateTime::from_timestamp_nanos(1_700_000_000_123_456_789)
    }
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl MemoryAppendHook for Counting {
    fn on_append(&self, events: &[RecordedEvent]) {
        self.0.fetch_add(events.len(), Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_waits_without_time_passing() {
    let store = MemoryStore::new(Arc::new(StoppedClock), None);
    let started = tokio::time::Instant::now();
    let mut subscription = store.subscribe(Position::START).await.unwrap();
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::time::sleep(Duration::from_hours(1)).await;
    let appended = store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().unwrap(), appended.events[0]);
    // A store with a timer of its own would have moved the paused clock.
    assert_eq!(started.elapsed(), Duration::from_hours(1));
}

#[tokio::test]
async fn the_hook_sees_each_append_once_and_no_repetition() {
    let hook = Arc::new(Counting::default());
    let store = MemoryStore::new(Arc::new(StoppedClock), Some(hook.clone()));
    for _ in 0..2 {
        store.append(append("a", Expected::NoStream, &["one", "two"])).await.unwrap();
    }
    store.append(append("a", Expected::NoStream, &["other"])).await.unwrap_err();
    assert_eq!(hook.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn times_are_cut_to_the_microsecond() {
    let store = MemoryStore::new(Arc::new(StoppedClock), None);
    let appended = store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    assert_eq!(appended.events[0].recorded_at.timestamp_subsec_nanos(), 123_456_000);
}
