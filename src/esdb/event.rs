//! An event as clients get it, and the link to one.

use std::collections::HashMap;
use std::sync::Arc;

use lease_events::id::EventId;
use lease_events::record::RecordedEvent;
use prost::bytes::Bytes;
use uuid::Uuid as AnyUuid;

use super::messages::streams::{Content, EventPosition, ReadEvent, RecordedEvent as OnWire};
use super::messages::{StreamIdentifier, Uuid};
use super::query::{Style, category_stream};

/// The type of a link.
const LINK: &str = "$>";

/// How an event's metadata is shown.
pub type MetadataOf = Arc<dyn Fn(&RecordedEvent) -> Bytes + Send + Sync>;

/// How the events of one answer are spelt.
pub(super) struct Speller {
    pub(super) style: Style,
    pub(super) metadata: MetadataOf,
}

impl Speller {
    /// The event itself.
    pub(super) fn event(&self, event: &RecordedEvent) -> Content {
        content(Some(self.on_wire(event)), None, event)
    }

    /// The `number`-th link of a category to an event, resolved where that was asked for.
    pub(super) fn link(&self, category: &str, number: u64, event: &RecordedEvent) -> Content {
        let link = self.link_on_wire(category, number, event);
        if self.style.resolve_links {
            content(Some(self.on_wire(event)), Some(link), event)
        } else {
            content(Some(link), None, event)
        }
    }

    fn on_wire(&self, event: &RecordedEvent) -> OnWire {
        OnWire {
            id: Some(self.uuid(event.event_id.0)),
            stream_identifier: Some(StreamIdentifier::of(event.stream_id.as_str())),
            stream_revision: event.stream_revision,
            prepare_position: event.position.0,
            commit_position: event.position.0,
            metadata: properties(&event.event_type, "application/json", event),
            custom_metadata: (self.metadata)(event),
            data: Bytes::copy_from_slice(event.data.as_bytes()),
        }
    }

    fn link_on_wire(&self, category: &str, number: u64, event: &RecordedEvent) -> OnWire {
        let stream = category_stream(category);
        OnWire {
            id: Some(self.uuid(EventId::derived(&["link", &stream, &number.to_string()]).0)),
            stream_identifier: Some(StreamIdentifier::of(&stream)),
            stream_revision: number,
            prepare_position: event.position.0,
            commit_position: event.position.0,
            metadata: properties(LINK, "application/octet-stream", event),
            custom_metadata: Bytes::new(),
            data: format!("{}@{}", event.stream_revision, event.stream_id).into(),
        }
    }

    fn uuid(&self, id: AnyUuid) -> Uuid {
        if self.style.structured_uuids { Uuid::structured(id) } else { Uuid::text(id) }
    }
}

fn content(event: Option<OnWire>, link: Option<OnWire>, original: &RecordedEvent) -> Content {
    let position = Some(EventPosition::Commit(original.position.0));
    Content::Event(ReadEvent { event, link, position })
}

fn properties(event_type: &str, content_type: &str, event: &RecordedEvent) -> HashMap<String, String> {
    // Ticks of 100 ns since 1970, as text.
    let created = event.recorded_at.timestamp_micros().saturating_mul(10);
    HashMap::from([
        ("type".to_owned(), event_type.to_owned()),
        ("content-type".to_owned(), content_type.to_owned()),
        ("created".to_owned(), created.to_string()),
    ])
}
