//! The metadata of an event in KurrentDB: the event's own, with what KurrentDB has no field for written before it.
//!
//! **Invariant:** the event's own metadata comes back byte for byte. Where it is a JSON object, as all of the ledger's are, its
//! keys stay where KurrentDB looks for `$correlationId` and `$causationId`; anything else is kept as a text.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use lease_events::id::CompanyId;
use lease_events::record::RecordedEvent;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// How every such text begins.
const HEAD: &str = r#"{"leaseLedger":"#;

/// What stands beside an event's own metadata, under the key `leaseLedger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// The tenant.
    pub company_id: CompanyId,
    /// The version of the data's schema.
    pub schema_version: u16,
    /// When the ledger recorded it, to the microsecond: six digits, always.
    #[serde(serialize_with = "to_the_microsecond")]
    pub recorded_at: DateTime<Utc>,
    /// Which call wrote it: tells a repetition from the first time. Only events in KurrentDB have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_id: Option<Uuid>,
}

/// A stamp, with the event's own metadata where that is no object of its own.
#[derive(Serialize, Deserialize)]
struct Stamped {
    #[serde(flatten)]
    stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
}

/// A metadata that no ledger wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its metadata bears no stamp of a lease ledger: {cause}")]
pub struct Unstamped {
    /// What was seen.
    pub cause: String,
}

/// A stamp and the event's own metadata, as one JSON object.
#[must_use]
pub fn stamped(stamp: &Stamp, own: &Arc<str>) -> String {
    let beside = Stamped { stamp: stamp.clone(), metadata: None };
    let mut text = HEAD.to_owned() + &json(&beside);
    match own.strip_prefix('{') {
        Some(rest) if is_json(&format!(r#"{{"":0,{rest}"#)) => {
            text.push(',');
            text.push_str(rest);
        }
        _ => text = HEAD.to_owned() + &json(&Stamped { metadata: Some(own.to_string()), ..beside }) + "}",
    }
    text
}

/// The stamp, and the event's own metadata as it was.
pub fn unstamped(text: &str) -> Result<(Stamp, Arc<str>), Unstamped> {
    let said = |cause: &str| Unstamped { cause: cause.to_owned() };
    let rest = text.strip_prefix(HEAD).ok_or_else(|| said("it does not begin with one"))?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Stamped>();
    let Stamped { stamp, metadata } =
        values.next().ok_or_else(|| said("it ends early"))?.map_err(|error| said(&error.to_string()))?;
    let tail = &rest[values.byte_offset()..];
    let own = match (metadata, tail.strip_prefix(',')) {
        (Some(own), None) if tail == "}" => own.into(),
        (None, Some(keys)) => format!("{{{keys}").into(),
        _ => return Err(said("there is something behind it")),
    };
    Ok((stamp, own))
}

/// How a ledger shows the metadata of an event of any store, as if it were in KurrentDB.
#[must_use]
pub fn shown(event: &RecordedEvent) -> String {
    let stamp = Stamp {
        company_id: event.company_id,
        schema_version: event.schema_version,
        recorded_at: event.recorded_at,
        append_id: None,
    };
    stamped(&stamp, &event.metadata)
}

/// Whether a text is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn to_the_microsecond<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn json(stamped: &Stamped) -> String {
    serde_json::to_string(stamped).expect("texts, numbers and times can always be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            company_id: CompanyId::derived(&["metadata"]),
            schema_version: 7,
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            append_id: Some(Uuid::from_u128(9)),
        }
    }

    #[test]
    fn the_events_own_metadata_comes_back_to_the_byte() {
        for own in [
            r#"{"$correlationId":"a","actor":{"kind":"run"}}"#,
            "{ \"b\" : 1 ,\t\"a\":2,\n\"a\":3 }\r\n",
            r#"{"leaseLedger":{"companyId":1}}"#,
            "{}",
            "{ }",
            "{\"raw nul\":\"\u{0}\"}",
            "{\"open\":1",
            "[1]",
            "",
            "text",
        ] {
            let own: Arc<str> = own.into();
            let text = stamped(&stamp(), &own);
            assert!(is_json(&text), "{text}");
            assert_eq!(unstamped(&text), Ok((stamp(), own)), "{text}");
        }
    }

    #[test]
    fn the_keys_of_an_object_stay_where_kurrentdb_looks_for_them() {
        let text = stamped(&stamp(), &r#"{"$correlationId":"a"}"#.into());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["$correlationId"], "a");
        assert_eq!(read["leaseLedger"]["schemaVersion"], 7);
    }

    #[test]
    fn the_metadata_of_others_is_told_apart() {
        for text in ["", "{}", r#"{"leaseLedger":7}"#, r#"{"leaseLedger":{"companyId":"x"}}"#] {
            assert!(unstamped(text).is_err(), "{text}");
        }
    }
}
