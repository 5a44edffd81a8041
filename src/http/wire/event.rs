//! Recorded events on the wire: an envelope around `data` and `metadata`, which stay byte for byte what was stored.

use std::sync::Arc;

use lease_events::id::{CompanyId, EventId};
use lease_events::record;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{Moment, read};

/// An event as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedEvent {
    /// The event.
    #[schema(value_type = Uuid)]
    pub event_id: EventId,
    /// The stream it stands in, such as `lease-UUID`.
    pub stream_id: String,
    /// Its number in the stream: from 0, no gap.
    pub stream_revision: u64,
    /// Its number in the whole log: from 1, in commit order.
    pub position: u64,
    /// The stable type name, such as `lease-requested`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The version of the data's schema, from 1.
    pub schema_version: u16,
    /// The tenant.
    #[schema(value_type = Uuid)]
    pub company_id: CompanyId,
    /// When the store took it. Order by `position`, never by this.
    pub recorded_at: Moment,
    /// What happened, byte for byte as it is stored; its JSON Schema is that of `type` and `schemaVersion`.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
    /// Who did it and why, byte for byte as it is stored.
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
}

/// The events of one lease, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseEvents {
    /// The events.
    pub events: Vec<RecordedEvent>,
}

/// Which events of the log are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events behind this position; 0, or absent, is from the first.
    #[param(value_type = Option<u64>, minimum = 0)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub after: Option<u64>,
    /// Most events of a page: 1 to 4096; 1000 where absent. A stream that follows has no limit.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 4096)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub limit: Option<usize>,
    /// Whether to go on with the events to come.
    #[param(value_type = Option<bool>)]
    #[serde(default, deserialize_with = "read::bool_in_query")]
    pub follow: Option<bool>,
}

impl TryFrom<record::RecordedEvent> for RecordedEvent {
    type Error = serde_json::Error;

    /// # Errors
    /// The stored data or metadata is no JSON.
    fn try_from(recorded: record::RecordedEvent) -> Result<Self, serde_json::Error> {
        let raw = |text: Arc<str>| RawValue::from_string(String::from(&*text));
        Ok(Self {
            event_id: recorded.event_id,
            stream_id: recorded.stream_id.to_string(),
            stream_revision: recorded.stream_revision,
            position: recorded.position.0,
            event_type: String::from(&*recorded.event_type),
            schema_version: recorded.schema_version,
            company_id: recorded.company_id,
            recorded_at: recorded.recorded_at.into(),
            data: raw(recorded.data)?,
            metadata: raw(recorded.metadata)?,
        })
    }
}
