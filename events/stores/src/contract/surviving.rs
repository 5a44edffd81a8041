//! The end of a store: what was acknowledged is there after it, and nothing is taken by a closed one.

use std::sync::Arc;

use lease_events::store::{AppendError, Expected};

use super::Place;
use super::fixture::{append, append_from_many, whole_log};

/// What was acknowledged is there when the store is opened again, to the byte.
pub async fn acknowledged_events_survive_reopening(place: &dyn Place) {
    let store = place.open().await;
    if !store.capabilities().durable {
        return;
    }
    append_from_many(&[Arc::clone(&store)], 8, 16).await;
    let log = whole_log(&*store).await;
    store.close().await;
    let again = place.open().await;
    assert_eq!(whole_log(&*again).await, log);
    let next = again.append(append("new", Expected::NoStream, &["new"])).await.expect("the stream is new");
    assert_eq!(whole_log(&*again).await[log.len()..], next.events);
}

/// Appends that were sent before the close are answered, one way or the other, and the answer is true.
pub async fn closing_finishes_what_waits(place: &dyn Place) {
    let store = place.open().await;
    let names: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    let sent = names.iter().map(|name| store.append(append(name, Expected::NoStream, &[name])));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(sent), store.close());
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    for answer in answers.iter().filter(|answer| answer.is_err()) {
        assert!(matches!(answer, Err(AppendError::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(taken, 64, "they were all sent first");
    if store.capabilities().durable {
        assert_eq!(whole_log(&*place.open().await).await.len(), taken);
    }
}

/// Later appends are refused as unavailable, and closing again is nothing.
pub async fn a_closed_store_refuses(place: &dyn Place) {
    let store = place.open().await;
    store.close().await;
    let refused = store.append(append("a", Expected::NoStream, &["one"])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    store.close().await;
}
