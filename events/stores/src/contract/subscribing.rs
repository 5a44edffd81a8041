//! Subscriptions: every event once, in order, from any start, however slow the subscriber is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lease_events::record::Position;
use lease_events::store::{EventStore, Expected, ReadError, Subscription};

use super::Place;
use super::fixture::{append, append_from_many, positions_of, whole_log};

/// What any event may take to arrive before a case fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The next `count` positions, each within [`PATIENCE`].
async fn positions(subscription: &mut Subscription, count: usize) -> Vec<Position> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
        let event = next.expect("an event arrives in time").expect("a subscription does not end").expect("no error");
        seen.push(event.position);
    }
    seen
}

/// The positions of the whole log, from the `first`-th event on (from 1).
async fn log_from(store: &dyn EventStore, first: usize) -> Vec<Position> {
    positions_of(&whole_log(store).await)[first - 1..].to_vec()
}

/// From the start, opened before, while and after many append.
pub async fn a_subscription_sees_everything_once(place: &dyn Place) {
    let store = place.open().await;
    let total = 16 * 32;
    let mut before = store.subscribe(Position::START).await.expect("it can be subscribed to");
    let stores = [Arc::clone(&store)];
    let during = async {
        let mut during = store.subscribe(Position::START).await.expect("it can be subscribed to");
        positions(&mut during, total).await
    };
    let (seen_before, seen_during, ()) =
        tokio::join!(positions(&mut before, total), during, append_from_many(&stores, 16, 32));
    let mut after = store.subscribe(Position::START).await.expect("it can be subscribed to");
    let log = log_from(&*store, 1).await;
    assert_eq!(log.len(), total);
    assert_eq!((&seen_before, &seen_during), (&log, &log));
    assert_eq!(positions(&mut after, total).await, log);
}

/// From the middle, and from the head: what is behind that position, and then what comes, without a seam.
pub async fn a_subscription_starts_where_it_is_told(place: &dyn Place) {
    let store = place.open().await;
    let first = store.append(append("a", Expected::NoStream, &["1", "2", "3", "4"])).await.expect("the stream is new");
    let at = positions_of(&first.events);
    let mut middle = store.subscribe(at[1]).await.expect("it can be subscribed to");
    let mut head = store.subscribe(at[3]).await.expect("it can be subscribed to");
    assert_eq!(positions(&mut middle, 2).await, at[2..]);
    let then = store.append(append("a", Expected::Exact(3), &["5", "6"])).await.expect("it is at 3");
    let at = positions_of(&then.events);
    assert_eq!(positions(&mut middle, 2).await, at);
    assert_eq!(positions(&mut head, 2).await, at);
}

/// A subscriber that takes an event now and then loses none, and holds nobody up.
pub async fn a_slow_subscriber_misses_nothing(place: &dyn Place) {
    let store = place.open().await;
    let mut slow = store.subscribe(Position::START).await.expect("it can be subscribed to");
    let mut seen = Vec::new();
    for round in 0..8 {
        // More than it takes, and more than a page: it falls behind further each time.
        let expected = Expected::after((round * 64_u64).checked_sub(1));
        let names: Vec<String> = (0..64).map(|number| format!("{round}-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        store.append(append("a", expected, &names)).await.expect("nobody else writes");
        seen.extend(positions(&mut slow, 3).await);
    }
    seen.extend(positions(&mut slow, 8 * 64 - 8 * 3).await);
    assert_eq!(seen, log_from(&*store, 1).await);
}

/// A subscriber may name a position that is not there yet; it is given what comes behind it, and nothing before.
pub async fn a_subscriber_ahead_of_the_log_waits(place: &dyn Place) {
    let store = place.open().await;
    if !store.capabilities().gap_free_positions {
        // No position is known before it is there.
        return;
    }
    let mut ahead = store.subscribe(Position(2)).await.expect("it can be subscribed to");
    store.append(append("a", Expected::NoStream, &["1"])).await.expect("the stream is new");
    store.append(append("a", Expected::Exact(0), &["2", "3", "4"])).await.expect("it is at 0");
    assert_eq!(positions(&mut ahead, 2).await, [Position(3), Position(4)]);
}

/// Closing the store ends a subscription that waits with an error, its last item.
pub async fn a_subscription_ends_when_the_store_closes(place: &dyn Place) {
    let store = place.open().await;
    store.append(append("a", Expected::NoStream, &["1"])).await.expect("the stream is new");
    let mut subscription = store.subscribe(Position::START).await.expect("it can be subscribed to");
    assert_eq!(positions(&mut subscription, 1).await, log_from(&*store, 1).await);
    let (last, ()) = tokio::join!(tokio::time::timeout(PATIENCE, subscription.next()), store.close());
    assert!(matches!(last, Ok(Some(Err(ReadError::Unavailable { .. })))), "{last:?}");
    assert!(subscription.next().await.is_none());
}

/// What another process appends arrives too, among what this one does.
pub async fn a_subscription_sees_what_another_handle_appends(place: &dyn Place) {
    let store = place.open().await;
    if !store.capabilities().several_processes {
        return;
    }
    let other = place.open().await;
    let mut subscription = store.subscribe(Position::START).await.expect("it can be subscribed to");
    other.append(append("a", Expected::NoStream, &["1", "2"])).await.expect("the stream is new");
    assert_eq!(positions(&mut subscription, 2).await, log_from(&*store, 1).await);
    let stores = [Arc::clone(&store), other];
    let (seen, ()) = tokio::join!(positions(&mut subscription, 8 * 16), append_from_many(&stores, 8, 16));
    assert_eq!(seen, log_from(&*store, 3).await);
}
