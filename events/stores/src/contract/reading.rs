//! Reads: both ways, with limits and bounds, and the bytes as they were.

use lease_events::record::{Position, RecordedEvent};
use lease_events::store::Direction::{Backwards, Forwards};
use lease_events::store::{EVENT_BYTES_MAX, EVENTS_PER_APPEND_MAX, EventStore, Expected, READ_EVENTS_MAX};

use super::Place;
use super::fixture::{append, history, stream, whole_log};

fn revisions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.stream_revision).collect()
}

fn positions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position.0).collect()
}

/// Six events, alternating between two streams: positions 1, 3, 5 are revisions 0, 1, 2 of "a".
async fn alternate(store: &dyn EventStore) {
    for number in 0..3_u64 {
        let expected = Expected::after(number.checked_sub(1));
        for name in ["a", "b"] {
            let sent = append(name, expected, &[&format!("{name}{number}")]);
            store.append(sent).await.expect("nobody else writes");
        }
    }
}

/// From a revision on, or from it down, the revision itself included.
pub async fn a_stream_is_read_both_ways(place: &dyn Place) {
    let store = place.open().await;
    alternate(&*store).await;
    let a = stream("a");
    for (from, direction, limit, expected) in [
        (0, Forwards, 10, &[0, 1, 2][..]),
        (1, Forwards, 10, &[1, 2]),
        (1, Forwards, 1, &[1]),
        (3, Forwards, 10, &[]),
        (u64::MAX, Forwards, 10, &[]),
        (u64::MAX, Backwards, 10, &[2, 1, 0]),
        (u64::MAX, Backwards, 1, &[2]),
        (1, Backwards, 10, &[1, 0]),
        (0, Backwards, 10, &[0]),
        (0, Forwards, 0, &[]),
    ] {
        let read = store.read_stream(&a, from, direction, limit).await.expect("a stream can be read");
        assert_eq!(revisions(&read), expected, "{direction:?} from {from}, at most {limit}");
        assert!(read.iter().all(|event| event.stream_id == a));
    }
}

/// Forwards it begins behind the position, backwards at it.
pub async fn the_log_is_read_both_ways(place: &dyn Place) {
    let store = place.open().await;
    alternate(&*store).await;
    // The n-th event's position: n where there is no gap.
    let known: Vec<u64> = std::iter::once(0).chain(positions(&whole_log(&*store).await)).collect();
    let of = |n: u64| usize::try_from(n).ok().and_then(|n| known.get(n)).copied().unwrap_or(n);
    for (from, direction, limit, expected) in [
        (0, Forwards, 10, &[1, 2, 3, 4, 5, 6][..]),
        (0, Forwards, 2, &[1, 2]),
        (4, Forwards, 10, &[5, 6]),
        (6, Forwards, 10, &[]),
        (u64::MAX, Forwards, 10, &[]),
        (u64::MAX, Backwards, 10, &[6, 5, 4, 3, 2, 1]),
        (4, Backwards, 2, &[4, 3]),
        (1, Backwards, 10, &[1]),
        (0, Backwards, 10, &[]),
    ] {
        let read = store.read_all(Position(of(from)), direction, limit).await.expect("the log can be read");
        let expected: Vec<u64> = expected.iter().copied().map(of).collect();
        assert_eq!(positions(&read), expected, "{direction:?} from {from}, at most {limit}");
    }
}

/// A read answers no more than the port allows, however much is asked for.
pub async fn reads_are_bounded(place: &dyn Place) {
    let store = place.open().await;
    let names: Vec<String> = (0..EVENTS_PER_APPEND_MAX).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let appends = READ_EVENTS_MAX / EVENTS_PER_APPEND_MAX + 1;
    for number in 0..appends {
        let expected = Expected::after((number * EVENTS_PER_APPEND_MAX).checked_sub(1).map(|last| last as u64));
        store.append(append("a", expected, &names)).await.expect("nobody else writes");
    }
    for direction in [Forwards, Backwards] {
        let from = if direction == Forwards { 0 } else { u64::MAX };
        let of_stream = store.read_stream(&stream("a"), from, direction, usize::MAX).await.expect("it can be read");
        let of_all = store.read_all(Position(from), direction, usize::MAX).await.expect("it can be read");
        assert_eq!((of_stream.len(), of_all.len()), (READ_EVENTS_MAX, READ_EVENTS_MAX));
    }
    assert_eq!(whole_log(&*store).await.len(), appends * EVENTS_PER_APPEND_MAX);
}

/// What an auditor hashes is what was written: spacing, key order, duplicates, big numbers, escapes, any character.
pub async fn bytes_are_kept_exactly(place: &dyn Place) {
    let store = place.open().await;
    let longest = format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX - 2));
    let texts = [
        "{ \"b\" : 1 ,\t\"a\":2,\n\"a\":3 }\r\n",
        r#"{"n":9007199254740993,"f":1.0e+30,"z":-0.0,"i":123456789012345678901234567890}"#,
        "{\"line\":\"\u{2028}\u{2029}\",\"emoji\":\"🦀\",\"nul\":\"\\u0000\",\"lone\":\"\\ud800\",\"bom\":\"\u{feff}\"}",
        "{\"raw unit separator\":\"\u{1f}\",\"quote\":\"' \\\" ; --\"}",
        "",
        "null",
        &longest,
    ];
    let mut sent = append("a", Expected::NoStream, &["0", "1", "2", "3", "4", "5", "6"]);
    for (event, text) in sent.events.iter_mut().zip(texts) {
        event.data = text.into();
        event.metadata = text.into();
    }
    store.append(sent).await.expect("the stream is new");
    for (event, text) in history(&*store, "a").await.iter().zip(texts) {
        assert_eq!((&*event.data, &*event.metadata), (text, text));
    }
    assert_eq!(whole_log(&*store).await.len(), texts.len());
}

/// The answer to an append is, field by field, what every read says later.
pub async fn what_is_answered_is_what_is_read(place: &dyn Place) {
    let store = place.open().await;
    let mut sent = append("a", Expected::NoStream, &["one", "two"]);
    sent.events[1].schema_version = u16::MAX;
    let appended = store.append(sent.clone()).await.expect("the stream is new").events;
    for (event, new) in appended.iter().zip(&sent.events) {
        assert_eq!(event.stream_id, sent.stream);
        assert_eq!((event.event_id, event.company_id), (new.event_id, new.company_id));
        assert_eq!((&*event.event_type, event.schema_version), (new.event_type, new.schema_version));
        assert_eq!((&event.data, &event.metadata), (&new.data, &new.metadata));
    }
    assert_eq!(history(&*store, "a").await, appended);
    assert_eq!(whole_log(&*store).await, appended);
}
