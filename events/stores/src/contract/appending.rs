//! Appends: expected revisions, all or nothing, limits, positions under concurrency.

use std::sync::Arc;

use lease_events::record::Position;
use lease_events::store::{AppendError, Direction, EVENT_BYTES_MAX, EVENTS_PER_APPEND_MAX, Expected, READ_EVENTS_MAX};

use super::Place;
use super::fixture::{append, append_from_many, event, history, ids, ids_of, positions_of, stream, whole_log};

/// Appenders at once in the cases of concurrency.
const WRITERS: usize = 64;

/// A new store has no stream, no event and no head.
pub async fn an_empty_store_holds_nothing(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.head().await, Ok(Position::START));
    for direction in [Direction::Forwards, Direction::Backwards] {
        assert_eq!(store.read_all(Position::START, direction, READ_EVENTS_MAX).await, Ok(vec![]));
        assert_eq!(store.read_all(Position(u64::MAX), direction, READ_EVENTS_MAX).await, Ok(vec![]));
        assert_eq!(store.read_stream(&stream("absent"), 0, direction, READ_EVENTS_MAX).await, Ok(vec![]));
        assert_eq!(store.read_stream(&stream("absent"), u64::MAX, direction, READ_EVENTS_MAX).await, Ok(vec![]));
    }
}

/// "No stream" is a reservation: it succeeds for one, and a second one with other events is told what is there.
pub async fn no_stream_succeeds_once(place: &dyn Place) {
    let store = place.open().await;
    let first = store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    assert!(!first.repeated);
    assert_eq!((first.events[0].stream_revision, Ok(first.position())), (0, store.head().await));
    assert_eq!(
        store.append(append("a", Expected::NoStream, &["two"])).await,
        Err(AppendError::WrongExpectedRevision { stream: stream("a"), expected: Expected::NoStream, actual: Some(0) })
    );
    assert_eq!(ids_of(&whole_log(&*store).await), ids(&["one"]));
}

/// An append that names the last revision comes right behind it.
pub async fn exact_follows_the_end(place: &dyn Place) {
    let store = place.open().await;
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.expect("the stream is new");
    store.append(append("b", Expected::NoStream, &["other"])).await.expect("the stream is new");
    let appended = store.append(append("a", Expected::Exact(1), &["three", "four"])).await.expect("it is at 1");
    let revisions: Vec<_> = appended.events.iter().map(|event| event.stream_revision).collect();
    assert_eq!(revisions, [2, 3]);
    assert_eq!(whole_log(&*store).await[3..], appended.events);
    assert_eq!(ids_of(&history(&*store, "a").await), ids(&["one", "two", "three", "four"]));
}

/// Too low, too high, or for a stream that is not there: refused with what is there, and nothing is written.
pub async fn a_wrong_revision_is_refused_and_named(place: &dyn Place) {
    let store = place.open().await;
    store.append(append("a", Expected::NoStream, &["one", "two", "three"])).await.expect("the stream is new");
    for (name, expected, actual) in [
        ("a", Expected::NoStream, Some(2)),
        ("a", Expected::Exact(0), Some(2)),
        ("a", Expected::Exact(1), Some(2)),
        ("a", Expected::Exact(3), Some(2)),
        ("a", Expected::Exact(u64::MAX), Some(2)),
        ("absent", Expected::Exact(0), None),
    ] {
        assert_eq!(
            store.append(append(name, expected, &["new"])).await,
            Err(AppendError::WrongExpectedRevision { stream: stream(name), expected, actual }),
        );
    }
    assert_eq!(whole_log(&*store).await.len(), 3);
}

/// All events of an append stand together, or none of them is there.
pub async fn an_append_is_all_or_nothing(place: &dyn Place) {
    let store = place.open().await;
    let names: Vec<String> = (0..EVENTS_PER_APPEND_MAX).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let appended = store.append(append("a", Expected::NoStream, &names)).await.expect("the limit itself is allowed");
    assert_eq!(ids_of(&appended.events), ids(&names));
    let refused = store.append(append("a", Expected::Exact(0), &["x", "y", "z"])).await;
    assert!(matches!(refused, Err(AppendError::WrongExpectedRevision { .. })), "{refused:?}");
    assert_eq!(ids_of(&whole_log(&*store).await), ids(&names));
}

/// No event, too many, or too large a one: refused as invalid, and nothing is written.
pub async fn what_breaks_a_limit_is_refused(place: &dyn Place) {
    let store = place.open().await;
    let many: Vec<String> = (0..=EVENTS_PER_APPEND_MAX).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut large = append("a", Expected::NoStream, &["large"]);
    large.events[0].data = format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX)).into();
    // No JSON text holds a raw NUL, and not every database can.
    let mut nul = append("a", Expected::NoStream, &["nul"]);
    nul.events[0].metadata = "{\"nul\":\"\u{0}\"}".into();
    let none = append("a", Expected::NoStream, &[]);
    for refused in [none, append("a", Expected::NoStream, &many), large, nul] {
        let error = store.append(refused).await;
        assert!(matches!(error, Err(AppendError::Invalid { .. })), "{error:?}");
    }
    assert_eq!(store.head().await, Ok(Position::START));
}

/// However many append at once, positions have no gap and no event is lost.
pub async fn concurrent_appends_leave_no_gap(place: &dyn Place) {
    let store = place.open().await;
    append_from_many(&[Arc::clone(&store)], WRITERS, 8).await;
    assert_eq!(whole_log(&*store).await.len(), WRITERS * 8);
}

/// Of many that append to one stream at the same revision, one wins, and all others learn what is there.
pub async fn one_of_many_wins_a_stream(place: &dyn Place) {
    let store = place.open().await;
    let names: Vec<String> = (0..WRITERS).map(|number| format!("claim{number}")).collect();
    let claims = names.iter().map(|name| store.append(append("claimed", Expected::NoStream, &[name])));
    let answers = futures_util::future::join_all(claims).await;
    let winners = answers.iter().filter(|answer| answer.is_ok()).count();
    let lost =
        AppendError::WrongExpectedRevision { stream: stream("claimed"), expected: Expected::NoStream, actual: Some(0) };
    let losers = answers.iter().filter(|answer| answer.as_ref() == Err(&lost)).count();
    assert_eq!((winners, losers), (1, WRITERS - 1));
    assert_eq!(whole_log(&*store).await.len(), 1);
}

/// Of appends sent together, and perhaps committed together, each stands or falls by itself.
pub async fn a_conflict_fails_only_itself(place: &dyn Place) {
    let store = place.open().await;
    store.append(append("taken", Expected::NoStream, &["first"])).await.expect("the stream is new");
    let names: Vec<String> = (0..WRITERS).map(|number| number.to_string()).collect();
    let sent = names.iter().enumerate().map(|(number, name)| {
        // Every third one conflicts.
        let stream_name = if number % 3 == 0 { "taken" } else { name };
        store.append(append(stream_name, Expected::NoStream, &[name]))
    });
    let answers = futures_util::future::join_all(sent).await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_err(), number % 3 == 0, "append {number}: {answer:?}");
    }
    assert_eq!(whole_log(&*store).await.len(), 1 + answers.iter().filter(|answer| answer.is_ok()).count());
}

/// A reader that asks again and again for what is behind the last position it saw, while many append, sees every
/// event once and in order: nothing ever appears below what it has seen.
pub async fn positions_are_in_commit_order(place: &dyn Place) {
    let store = place.open().await;
    let total = WRITERS * 8;
    let reading = async {
        let mut seen: Vec<Position> = Vec::new();
        while seen.len() < total {
            let last = seen.last().copied().unwrap_or_default();
            let page = store.read_all(last, Direction::Forwards, 50).await.expect("the log can be read");
            seen.extend(page.into_iter().map(|event| event.position));
            tokio::task::yield_now().await;
        }
        seen
    };
    let stores = [Arc::clone(&store)];
    let (seen, ()) = tokio::join!(reading, append_from_many(&stores, WRITERS, 8));
    // And it was not the naive reader's luck: the same log, read whole.
    let log = whole_log(&*store).await;
    assert_eq!((seen, log.len()), (positions_of(&log), total));
    assert_eq!(event("0-0").event_id, history(&*store, "writer0").await[0].event_id);
}
