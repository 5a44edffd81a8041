//! Repetitions: the same append, sent again however late, is the same append.

use lease_events::store::{AppendError, Expected};

use super::Place;
use super::fixture::{append, ids, ids_of, stream, whole_log};

/// Sent again, it is answered with the events as they are stored, and nothing is written.
pub async fn a_repetition_is_answered_with_what_is_stored(place: &dyn Place) {
    let store = place.open().await;
    let sent = append("a", Expected::NoStream, &["one", "two"]);
    let first = store.append(sent.clone()).await.expect("the stream is new");
    let again = store.append(sent).await.expect("it is a repetition");
    assert!(again.repeated && !first.repeated);
    assert_eq!(again.events, first.events);
    assert_eq!(whole_log(&*store).await, first.events);
}

/// A repetition is known without limit in time, wherever in its stream it stands.
pub async fn a_repetition_is_known_after_later_appends(place: &dyn Place) {
    let store = place.open().await;
    let first = append("a", Expected::NoStream, &["one", "two"]);
    let second = append("a", Expected::Exact(1), &["three"]);
    let stored_first = store.append(first.clone()).await.expect("the stream is new");
    let stored_second = store.append(second.clone()).await.expect("it is at 1");
    store.append(append("a", Expected::Exact(2), &["four", "five"])).await.expect("it is at 2");
    store.append(append("b", Expected::NoStream, &["other"])).await.expect("the stream is new");
    assert_eq!(store.append(first).await.expect("it is a repetition").events, stored_first.events);
    assert_eq!(store.append(second).await.expect("it is a repetition").events, stored_second.events);
    assert_eq!(whole_log(&*store).await.len(), 6);
}

/// Sent many times at once, and perhaps decided in one transaction, it is written once, and all are told the same.
pub async fn a_repetition_in_flight_is_written_once(place: &dyn Place) {
    let store = place.open().await;
    let answers = (0..32).map(|_| store.append(append("a", Expected::NoStream, &["one", "two"])));
    let answers = futures_util::future::join_all(answers).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("each is the same append")).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert!(answers.iter().all(|answer| answer.events == answers[0].events));
    assert_eq!(whole_log(&*store).await, answers[0].events);
}

/// Some of its events are there and others are not: it is not the same append, and is refused.
pub async fn a_partial_repetition_is_refused(place: &dyn Place) {
    let store = place.open().await;
    store.append(append("a", Expected::NoStream, &["one", "two", "three"])).await.expect("the stream is new");
    for (expected, names) in [
        (Expected::NoStream, &["one", "two", "three", "four"][..]),
        (Expected::NoStream, &["one", "other"]),
        (Expected::NoStream, &["two", "one"]),
        (Expected::Exact(0), &["one", "two"]),
        (Expected::Exact(1), &["three", "four"]),
        (Expected::Exact(1), &["two"]),
    ] {
        assert_eq!(
            store.append(append("a", expected, names)).await,
            Err(AppendError::WrongExpectedRevision { stream: stream("a"), expected, actual: Some(2) }),
            "{names:?}"
        );
    }
    let begun = store.append(append("a", Expected::NoStream, &["one", "two"])).await.expect("a beginning is there");
    assert!(begun.repeated);
    assert_eq!(ids_of(&whole_log(&*store).await), ids(&["one", "two", "three"]));
}

/// An event id is the append's own: the same one in another stream is another event.
pub async fn the_same_id_in_two_streams_is_two_events(place: &dyn Place) {
    let store = place.open().await;
    for name in ["a", "b"] {
        let appended = store.append(append(name, Expected::NoStream, &["one"])).await.expect("the stream is new");
        assert!(!appended.repeated);
    }
    assert_eq!(ids_of(&whole_log(&*store).await), ids(&["one", "one"]));
}

/// The process ended before the answer arrived: sent again to the reopened store, it is a repetition.
pub async fn a_repetition_is_known_after_reopening(place: &dyn Place) {
    let store = place.open().await;
    if !store.capabilities().durable {
        return;
    }
    let sent = append("a", Expected::NoStream, &["one", "two"]);
    let first = store.append(sent.clone()).await.expect("the stream is new");
    store.close().await;
    let again = place.open().await.append(sent).await.expect("it is a repetition");
    assert!(again.repeated);
    assert_eq!(again.events, first.events);
}

/// Sent again through another handle, which has seen nothing of it, it is a repetition.
pub async fn a_repetition_is_known_to_a_second_handle(place: &dyn Place) {
    let store = place.open().await;
    if !store.capabilities().several_processes {
        return;
    }
    let second = place.open().await;
    // The second handle has looked at this stream before, and found nothing.
    let absent = second.append(append("a", Expected::Exact(0), &["x"])).await;
    assert!(matches!(absent, Err(AppendError::WrongExpectedRevision { actual: None, .. })), "{absent:?}");
    let sent = append("a", Expected::NoStream, &["one", "two"]);
    let first = store.append(sent.clone()).await.expect("the stream is new");
    let again = second.append(sent).await.expect("it is a repetition");
    assert!(again.repeated);
    assert_eq!(again.events, first.events);
}
