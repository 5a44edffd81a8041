//! What the cases are made of: events that differ, and the checks that many of them share.

use std::sync::Arc;

use lease_events::id::{CompanyId, EventId};
use lease_events::record::{NewEvent, Position, RecordedEvent, StreamId};
use lease_events::store::{Append, Direction, EventStore, Expected};

/// An event that is known by `name`.
#[must_use]
pub fn event(name: &str) -> NewEvent {
    NewEvent {
        event_id: EventId::derived(&["contract", name]),
        event_type: "contract-tested",
        schema_version: 1,
        company_id: CompanyId::derived(&["contract"]),
        data: format!(r#"{{"name":"{name}"}}"#).into(),
        metadata: r#"{"$correlationId":"contract"}"#.into(),
    }
}

/// The stream of a test's subject.
#[must_use]
pub fn stream(name: &str) -> StreamId {
    StreamId::parse(&format!("contract-{name}")).expect("a test's stream has a category and an id")
}

/// An append of the events of these names to the stream of that name.
#[must_use]
pub fn append(stream_name: &str, expected: Expected, events: &[&str]) -> Append {
    Append { stream: stream(stream_name), expected, events: events.iter().map(|name| event(name)).collect() }
}

/// The ids of the events, in their order.
#[must_use]
pub fn ids_of(events: &[RecordedEvent]) -> Vec<EventId> {
    events.iter().map(|event| event.event_id).collect()
}

/// The ids of the events of these names.
pub(super) fn ids(names: &[&str]) -> Vec<EventId> {
    names.iter().map(|name| event(name).event_id).collect()
}

/// A stream from its start.
pub(super) async fn history(store: &dyn EventStore, stream_name: &str) -> Vec<RecordedEvent> {
    let read = store.read_stream(&stream(stream_name), 0, Direction::Forwards, usize::MAX).await;
    read.expect("a stream can be read")
}

/// The whole log, read page by page; it holds that positions rise (as 1, 2, 3 where the store says so), and that revisions
/// are 0, 1, 2 in each stream.
pub(super) async fn whole_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let last = events.last().map_or(Position::START, |event| event.position);
        let page = store.read_all(last, Direction::Forwards, usize::MAX).await.expect("the log can be read");
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    let mut lengths = std::collections::HashMap::<&StreamId, u64>::new();
    let is_gap_free = store.capabilities().gap_free_positions;
    let mut last = Position::START;
    for event in &events {
        assert!(event.position > last, "positions rise: {} is behind {last}", event.position);
        assert!(!is_gap_free || event.position == last.next(), "positions are gap-free from 1");
        last = event.position;
        let length = lengths.entry(&event.stream_id).or_default();
        assert_eq!(event.stream_revision, *length, "revisions of {} are gap-free from 0", event.stream_id);
        *length += 1;
    }
    assert_eq!(store.head().await, Ok(last));
    events
}

/// The positions of the events, in their order.
pub(super) fn positions_of(events: &[RecordedEvent]) -> Vec<Position> {
    events.iter().map(|event| event.position).collect()
}

/// Appends `count` events, one an append, to a stream of each of `writers` tasks, all at once; each must succeed.
/// The task's store is the one at its number, around and around.
pub(super) async fn append_from_many(stores: &[Arc<dyn EventStore>], writers: usize, count: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let store = Arc::clone(&stores[writer % stores.len()]);
        tasks.spawn(async move {
            let mut expected = Expected::NoStream;
            for number in 0..count {
                let name = format!("{writer}-{number}");
                let appended = store.append(append(&format!("writer{writer}"), expected, &[&name])).await;
                let appended = appended.expect("nobody else writes to this stream");
                expected = Expected::after(appended.events.last().map(|event| event.stream_revision));
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a writer does not panic");
    }
}
