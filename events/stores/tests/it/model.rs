//! Any sequence of appends, alone or several at once, ends as a tiny model says: for every store.
//!
//! Appends that are sent together are sent in order over one handle, so that the model can take them in that order,
//! however the store cuts them into transactions.

use std::collections::HashMap;

use futures_util::future::join_all;
use lease_events::id::EventId;
use lease_events::record::Position;
use lease_events::store::{Append, AppendError, Appended, Direction, EventStore, Expected};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::{Place, append, ids_of, stream};
use proptest::prelude::*;

use crate::support::{MemoryPlace, SqlitePlace};

/// Few streams, so that appends meet.
const STREAMS: [&str; 3] = ["a", "b", "c"];

/// One append, in terms of where the model's stream stands when it is sent.
#[derive(Debug, Clone)]
enum Step {
    /// New events, at the end of the stream or so many revisions beside it.
    Fresh { stream: usize, beside: i64, count: usize },
    /// An earlier append of the same test, as it was sent, chosen around and around.
    Again { earlier: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..STREAMS.len(), 1_usize..4).prop_map(|(stream, count)| Step::Fresh { stream, beside: 0, count }),
        1 => (0..STREAMS.len(), -2_i64..3, 1_usize..4)
            .prop_map(|(stream, beside, count)| Step::Fresh { stream, beside, count }),
        2 => (0_usize..64).prop_map(|earlier| Step::Again { earlier }),
    ]
}

/// What should be in the store: the ids of each stream, in order, and all of them in the order of the log.
#[derive(Default)]
struct Model {
    streams: HashMap<String, Vec<EventId>>,
    log: Vec<EventId>,
    sent: Vec<Append>,
}

impl Model {
    fn append_of(&mut self, step: &Step) -> Append {
        let sent = match step {
            Step::Again { earlier } if !self.sent.is_empty() => self.sent[earlier % self.sent.len()].clone(),
            Step::Again { .. } => append(STREAMS[0], Expected::NoStream, &["again"]),
            Step::Fresh { stream: number, beside, count } => {
                let name = STREAMS[*number];
                let length = self.streams.get(stream(name).as_str()).map_or(0, Vec::len) as u64;
                let expected = Expected::after(length.saturating_add_signed(*beside).checked_sub(1));
                let names: Vec<String> = (0..*count).map(|event| format!("{}-{event}", self.sent.len())).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                append(name, expected, &names)
            }
        };
        self.sent.push(sent.clone());
        sent
    }

    /// What the answer must be: the ids and whether they were there, or the last revision that refuses it.
    fn take(&mut self, append: &Append) -> Result<(Vec<EventId>, bool), Option<u64>> {
        let stored = self.streams.entry(append.stream.as_str().to_owned()).or_default();
        let ids: Vec<EventId> = append.events.iter().map(|event| event.event_id).collect();
        let first = usize::try_from(append.expected.first_revision()).expect("it is small");
        if first == stored.len() {
            stored.extend(&ids);
            self.log.extend(&ids);
            return Ok((ids, false));
        }
        match stored.get(first..first + ids.len()) {
            Some(there) if there == ids => Ok((ids, true)),
            _ => Err((stored.len() as u64).checked_sub(1)),
        }
    }
}

fn outcome(answer: Result<Appended, AppendError>) -> Result<(Vec<EventId>, bool), Option<u64>> {
    match answer {
        Ok(appended) => Ok((ids_of(&appended.events), appended.repeated)),
        Err(AppendError::WrongExpectedRevision { actual, .. }) => Err(actual),
        Err(other) => panic!("no append of the model is refused with: {other}"),
    }
}

async fn follow(place: &dyn Place, groups: &[Vec<Step>]) {
    let mut store = place.open().await;
    let mut model = Model::default();
    for group in groups {
        let mut appends = Vec::new();
        let mut expected = Vec::new();
        for step in group {
            let append = model.append_of(step);
            expected.push(model.take(&append));
            appends.push(append);
        }
        let answers = join_all(appends.into_iter().map(|append| store.append(append))).await;
        assert_eq!(answers.into_iter().map(outcome).collect::<Vec<_>>(), expected);
    }
    if store.capabilities().durable {
        store.close().await;
        store = place.open().await;
    }
    check(&*store, &model).await;
}

async fn check(store: &dyn EventStore, model: &Model) {
    let log = store.read_all(Position::START, Direction::Forwards, usize::MAX).await.expect("it can be read");
    assert_eq!(ids_of(&log), model.log);
    assert!(log.iter().zip(1..).all(|(event, position)| event.position == Position(position)));
    for name in STREAMS {
        let stored =
            store.read_stream(&stream(name), 0, Direction::Forwards, usize::MAX).await.expect("it can be read");
        let expected = model.streams.get(stream(name).as_str()).cloned().unwrap_or_default();
        assert_eq!(ids_of(&stored), expected);
        assert!(stored.iter().zip(0..).all(|(event, revision)| event.stream_revision == revision));
    }
}

fn in_a_runtime(place: &dyn Place, groups: &[Vec<Step>]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(follow(place, groups));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_memory_store_is_the_model(groups in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..12)) {
        in_a_runtime(&MemoryPlace, &groups);
    }
}

proptest! {
    // Fewer: each opens a file, and syncs it at each group.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_sqlite_store_is_the_model(groups in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..12)) {
        in_a_runtime(&SqlitePlace::new(), &groups);
    }
}

proptest! {
    // Fewer still: each makes a database.
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_postgres_store_is_the_model(groups in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..12)) {
        in_a_runtime(&PostgresPlace::new(), &groups);
    }
}
