//! Bytes to typed events and back. The one place that decodes and upcasts; stored bytes are never rewritten.
//!
//! Decoding is in two stages: a store hands over the envelope with the data as text, and the event's type decides
//! what the text is. (`#[serde(tag)]` and `#[serde(flatten)]` would both parse and so lose the bytes.)

use std::sync::Arc;

use serde_json::Value;

use crate::id::{CommandId, CompanyId, EventId};
use crate::record::{Metadata, NewEvent, RecordedEvent, StreamId};

/// The typed events of one category of streams. Implemented by [`crate::events_of_category!`] alone.
pub trait DomainEvent: Sized {
    /// The stable type name.
    fn event_type(&self) -> &'static str;
    /// The version that is written now.
    fn schema_version(&self) -> u16;
    /// The data as JSON text.
    fn data(&self) -> Arc<str>;
    /// The typed event of a stored type, version and data; older versions are upcast first.
    fn decode(event_type: &str, version: u16, data: &str) -> Result<Self, DecodeFailure>;
}

/// Why stored data is no event that this program knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFailure {
    /// The type is not one of this category.
    #[error("the type \"{event_type}\" is not known to this version of lease-ledger; use a newer one")]
    UnknownType {
        /// As stored.
        event_type: String,
    },
    /// The version is newer than this program.
    #[error("version {version} of \"{event_type}\" is newer than this lease-ledger, which reads up to {known}")]
    NewerVersion {
        /// As stored.
        event_type: String,
        /// As stored.
        version: u16,
        /// The newest that can be read.
        known: u16,
    },
    /// The data does not have the shape of its type and version.
    #[error("the data of a \"{event_type}\" (version {version}) does not have its shape: {cause}")]
    Malformed {
        /// As stored.
        event_type: String,
        /// As stored.
        version: u16,
        /// What the parser said.
        cause: String,
    },
}

/// A stored event that cannot be decoded: where it stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {} of stream {stream} (position {position}) cannot be decoded: {failure}", .revision)]
pub struct DecodeError {
    /// The stream.
    pub stream: StreamId,
    /// The revision in the stream.
    pub revision: u64,
    /// The position in the log.
    pub position: u64,
    /// Why.
    pub failure: DecodeFailure,
}

/// The typed event of a recorded one.
pub fn decode<E: DomainEvent>(event: &RecordedEvent) -> Result<E, DecodeError> {
    E::decode(&event.event_type, event.schema_version, &event.data).map_err(|failure| DecodeError {
        stream: event.stream_id.clone(),
        revision: event.stream_revision,
        position: event.position.0,
        failure,
    })
}

/// The typed metadata of a recorded event.
pub fn decode_metadata(event: &RecordedEvent) -> Result<Metadata, DecodeError> {
    serde_json::from_str(&event.metadata).map_err(|error| DecodeError {
        stream: event.stream_id.clone(),
        revision: event.stream_revision,
        position: event.position.0,
        failure: DecodeFailure::Malformed {
            event_type: format!("metadata of {}", event.event_type),
            version: event.schema_version,
            cause: error.to_string(),
        },
    })
}

/// Events of one command for one stream, ready to append. `first_index` numbers the first of them among all that
/// the command writes to this stream, so that each has its own deterministic id.
#[must_use]
pub fn encode<E: DomainEvent>(
    events: &[E],
    stream: &StreamId,
    company: CompanyId,
    command: CommandId,
    first_index: usize,
    metadata: &Metadata,
) -> Vec<NewEvent> {
    let metadata = json_text(metadata);
    events
        .iter()
        .enumerate()
        .map(|(index, event)| NewEvent {
            event_id: EventId::of_command(command, stream.as_str(), first_index + index),
            event_type: event.event_type(),
            schema_version: event.schema_version(),
            company_id: company,
            data: event.data(),
            metadata: metadata.clone(),
        })
        .collect()
}

/// The JSON text of a value whose types cannot fail to serialise.
///
/// # Panics
/// Never for event types: they hold only strings, numbers, lists and string-keyed maps.
#[expect(clippy::expect_used, reason = "event types hold only strings, numbers, lists and string-keyed maps")]
pub fn json_text<T: serde::Serialize>(value: &T) -> Arc<str> {
    serde_json::to_string(value).expect("an event's types always serialise").into()
}

/// One step from an old version of an event's data to the next.
pub struct Upcaster {
    /// The type.
    pub event_type: &'static str,
    /// The version that it reads; it gives the next one.
    pub from_version: u16,
    /// The pure change.
    pub upcast: fn(Value) -> Value,
}

/// Data of `version` as data of `current`, through every step between.
pub fn upcast(
    upcasters: &[Upcaster],
    event_type: &str,
    version: u16,
    current: u16,
    data: &str,
) -> Result<Value, DecodeFailure> {
    let malformed = |cause: String| DecodeFailure::Malformed { event_type: event_type.to_owned(), version, cause };
    if version > current {
        return Err(DecodeFailure::NewerVersion { event_type: event_type.to_owned(), version, known: current });
    }
    let mut value: Value = serde_json::from_str(data).map_err(|error| malformed(error.to_string()))?;
    for step in version..current {
        let upcaster = upcasters
            .iter()
            .find(|upcaster| upcaster.event_type == event_type && upcaster.from_version == step)
            .ok_or_else(|| malformed(format!("nothing upcasts version {step} to the next")))?;
        value = (upcaster.upcast)(value);
    }
    Ok(value)
}

/// Declares the events of one category: the enum, its type names and versions, and its codec.
///
/// A new event is one struct and one line here; a new version is the struct changed, the number raised and one
/// [`Upcaster`] registered.
#[macro_export]
macro_rules! events_of_category {
    (
        $(#[$doc:meta])* $name:ident, upcasters: $upcasters:expr;
        $($variant:ident($data:ident) = $event_type:literal v $version:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $(#[doc = concat!("`", $event_type, "`")] $variant($data),)*
        }

        $(impl From<$data> for $name {
            fn from(data: $data) -> Self {
                Self::$variant(data)
            }
        })*

        impl $name {
            /// Every type name with its current version and the JSON Schema of its data.
            #[must_use]
            pub fn schemas() -> Vec<(&'static str, u16, schemars::Schema)> {
                vec![$(($event_type, $version, schemars::schema_for!($data)),)*]
            }
        }

        impl $crate::codec::DomainEvent for $name {
            fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => $event_type,)* }
            }

            fn schema_version(&self) -> u16 {
                match self { $(Self::$variant(_) => $version,)* }
            }

            fn data(&self) -> std::sync::Arc<str> {
                match self { $(Self::$variant(data) => $crate::codec::json_text(data),)* }
            }

            fn decode(event_type: &str, version: u16, data: &str) -> Result<Self, $crate::codec::DecodeFailure> {
                use $crate::codec::DecodeFailure;
                let malformed = |error: serde_json::Error| DecodeFailure::Malformed {
                    event_type: event_type.to_owned(),
                    version,
                    cause: error.to_string(),
                };
                match event_type {
                    $($event_type if version == $version => {
                        serde_json::from_str::<$data>(data).map(Self::$variant).map_err(malformed)
                    }
                    $event_type => {
                        let value = $crate::codec::upcast($upcasters, event_type, version, $version, data)?;
                        serde_json::from_value::<$data>(value).map(Self::$variant).map_err(malformed)
                    })*
                    _ => Err(DecodeFailure::UnknownType { event_type: event_type.to_owned() }),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Upcaster] = &[
        Upcaster {
            event_type: "thing-done",
            from_version: 1,
            upcast: |mut value| {
                value["name"] = value["title"].take();
                value
            },
        },
        Upcaster {
            event_type: "thing-done",
            from_version: 2,
            upcast: |mut value| {
                value["loud"] = Value::Bool(false);
                value
            },
        },
    ];

    #[test]
    fn old_versions_are_upcast_through_every_step() {
        let value = upcast(STEPS, "thing-done", 1, 3, r#"{"title":"x"}"#).expect("both steps are there");
        assert_eq!(value["name"], "x");
        assert_eq!(value["loud"], false);
    }

    #[test]
    fn a_missing_step_and_a_newer_version_are_errors() {
        let missing = upcast(&STEPS[1..], "thing-done", 1, 3, "{}").unwrap_err();
        assert!(missing.to_string().contains("nothing upcasts version 1"), "{missing}");
        let newer = upcast(STEPS, "thing-done", 4, 3, "{}").unwrap_err();
        assert!(newer.to_string().contains("newer than this lease-ledger"), "{newer}");
    }
}
