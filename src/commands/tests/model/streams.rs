//! The leases' streams as the model holds them: lists of real events, folded by the real fold, each list kept once.
//!
//! A list is named by a number, so that a state of the model is small, and two states are the same where their lists
//! hold the same events.

use std::sync::Arc;

use lease_events::codec::DomainEvent;
use lease_events::id::{CommandId, CompanyId, EventId, LeaseId};
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::record::{Position, RecordedEvent, StreamId};

use super::world::NOW;

/// A list of events.
pub(super) type Stream = u32;

/// The list of none.
pub(super) const EMPTY: Stream = 0;

/// Every list that was ever written.
pub(super) struct Streams(Vec<List>);

struct List {
    last: Option<LeaseEvent>,
    shorter: Stream,
    length: u64,
    /// The fold; of a list that holds an event which may not follow, the fold of what stands before it.
    state: Option<Arc<LeaseState>>,
    legal: bool,
    longer: Vec<Stream>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(vec![List { last: None, shorter: EMPTY, length: 0, state: None, legal: true, longer: Vec::new() }])
    }

    /// The lease as this list says.
    pub(super) fn state(&self, stream: Stream) -> Option<&Arc<LeaseState>> {
        self.0[stream as usize].state.as_ref()
    }

    /// Whether each event of the list may follow those before it.
    pub(super) fn is_legal(&self, stream: Stream) -> bool {
        self.0[stream as usize].legal
    }

    /// The list's events, the last one first.
    pub(super) fn history(&self, mut stream: Stream) -> Vec<LeaseEvent> {
        let mut events = Vec::new();
        while let Some(event) = &self.0[stream as usize].last {
            events.push(event.clone());
            stream = self.0[stream as usize].shorter;
        }
        events
    }

    /// The list with one more event.
    pub(super) fn with(&mut self, stream: Stream, event: &LeaseEvent) -> Stream {
        let list = &self.0[stream as usize];
        let known = list.longer.iter().find(|longer| self.0[**longer as usize].last.as_ref() == Some(event));
        if let Some(known) = known {
            return *known;
        }
        let before = list.state.clone();
        let folded = LeaseState::evolve(before.as_deref().cloned(), event, &recorded(event, list.length));
        let legal = list.legal && folded.is_ok();
        let state = folded.map(Arc::new).ok().or(before);
        let length = list.length + 1;
        let longer = List { last: Some(event.clone()), shorter: stream, length, state, legal, longer: Vec::new() };
        let name = Stream::try_from(self.0.len()).expect("far fewer lists");
        self.0.push(longer);
        self.0[stream as usize].longer.push(name);
        name
    }
}

/// An event as the fold wants it. Place and time are the same for all: no invariant hangs on them, and states that
/// differ in nothing else are one.
fn recorded(event: &LeaseEvent, revision: u64) -> RecordedEvent {
    let stream_id = StreamId::lease(LeaseId::derived(&["model"]));
    RecordedEvent {
        event_id: EventId::of_command(CommandId::derived(&["model"]), stream_id.as_str(), 0),
        stream_id,
        stream_revision: revision,
        position: Position(1),
        event_type: event.event_type().into(),
        schema_version: 1,
        company_id: CompanyId::derived(&["model"]),
        recorded_at: NOW,
        data: "{}".into(),
        metadata: "{}".into(),
    }
}
