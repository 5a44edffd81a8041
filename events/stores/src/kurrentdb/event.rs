//! An event on its way to the server and back.
//!
//! **Invariant:** `data` and the event's own metadata are bytes to the server; nothing here writes them anew.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use eventstore::EventData;
use lease_events::id::EventId;
use lease_events::record::{NewEvent, Position, RecordedEvent, StreamId};
use lease_events::store::ReadError;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::metadata::{Stamp, stamped, unstamped};

/// An event as the client sends it, written by the append of this id at this time.
pub(super) fn to_server(event: &NewEvent, append_id: Uuid, recorded_at: DateTime<Utc>) -> EventData {
    let (company_id, schema_version) = (event.company_id, event.schema_version);
    let stamp = Stamp { company_id, schema_version, recorded_at, append_id: Some(append_id) };
    let metadata = stamped(&stamp, &event.metadata).into_bytes();
    with_data(event).id(event.event_id.0).metadata(metadata.into())
}

/// JSON goes as JSON, which KurrentDB's own projections read; the port takes other texts too, and they go as bytes.
fn with_data(event: &NewEvent) -> EventData {
    // A raw value is cut to its JSON, so a text with spaces around it is not sent as one.
    let raw = serde_json::from_str::<&RawValue>(&event.data).ok().filter(|raw| raw.get().len() == event.data.len());
    raw.and_then(|raw| EventData::json(event.event_type, &raw).ok())
        .unwrap_or_else(|| EventData::binary(event.event_type, event.data.as_bytes().to_vec().into()))
}

/// An event as it was read, with the id of the append that wrote it.
pub(super) fn from_server(read: eventstore::RecordedEvent) -> Result<(RecordedEvent, Option<Uuid>), ReadError> {
    let position = Position(read.position.commit);
    let corrupt = |column, cause: String| ReadError::Corrupt { position, column, cause };
    if read.position.commit != read.position.prepare {
        return Err(corrupt("position", "it was written by a transaction, which no ledger uses".to_owned()));
    }
    let text = |column, bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Arc::<str>::from(text)),
        Err(error) => Err(corrupt(column, error.to_string())),
    };
    let stream_id = StreamId::parse(&read.stream_id).map_err(|error| corrupt("stream", error.to_string()))?;
    let data = text("data", &read.data)?;
    let (stamp, metadata) =
        unstamped(&text("metadata", &read.custom_metadata)?).map_err(|error| corrupt("metadata", error.to_string()))?;
    let event = RecordedEvent {
        event_id: EventId(read.id),
        stream_id,
        stream_revision: read.revision,
        position,
        event_type: read.event_type.into(),
        schema_version: stamp.schema_version,
        company_id: stamp.company_id,
        recorded_at: stamp.recorded_at,
        data,
        metadata,
    };
    Ok((event, stamp.append_id))
}
