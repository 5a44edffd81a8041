//! What goes over the wire, written by hand from the protocol's public definition: only what this face reads or sends.
//!
//! **Invariant:** tags and types are those of the protocol; a field that is left out here is left alone on the wire.

pub(super) mod features;
pub(super) mod gossip;
pub(super) mod streams;

use ::uuid::Uuid as AnyUuid;
use prost::bytes::Bytes;

/// A UUID, in either of the two spellings that clients use.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Uuid {
    /// Which spelling.
    #[prost(oneof = "uuid::Value", tags = "1, 2")]
    pub value: Option<uuid::Value>,
}

/// The spellings of a UUID.
pub mod uuid {
    /// Two halves, as .NET and Java have them.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Structured {
        /// The first eight bytes.
        #[prost(int64, tag = "1")]
        pub most_significant_bits: i64,
        /// The last eight.
        #[prost(int64, tag = "2")]
        pub least_significant_bits: i64,
    }

    /// The one or the other.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        /// Two halves.
        #[prost(message, tag = "1")]
        Structured(Structured),
        /// The text.
        #[prost(string, tag = "2")]
        Text(String),
    }
}

impl Uuid {
    /// As its text.
    #[must_use]
    pub fn text(id: AnyUuid) -> Self {
        Self { value: Some(uuid::Value::Text(id.to_string())) }
    }

    /// As its halves.
    #[must_use]
    pub fn structured(id: AnyUuid) -> Self {
        let (most, least) = id.as_u64_pair();
        let halves =
            uuid::Structured { most_significant_bits: most.cast_signed(), least_significant_bits: least.cast_signed() };
        Self { value: Some(uuid::Value::Structured(halves)) }
    }

    /// What it is, in either spelling; nothing where it is none.
    #[must_use]
    pub fn read(&self) -> Option<AnyUuid> {
        match self.value.as_ref()? {
            uuid::Value::Structured(halves) => Some(AnyUuid::from_u64_pair(
                halves.most_significant_bits.cast_unsigned(),
                halves.least_significant_bits.cast_unsigned(),
            )),
            uuid::Value::Text(text) => AnyUuid::parse_str(text).ok(),
        }
    }
}

/// The name of a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamIdentifier {
    /// UTF-8.
    #[prost(bytes = "bytes", tag = "3")]
    pub stream_name: Bytes,
}

impl StreamIdentifier {
    /// Of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { stream_name: Bytes::copy_from_slice(name.as_bytes()) }
    }
}

/// What holds nothing.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_in_both_spellings() {
        let id = AnyUuid::from_u128(0xfedc_ba98_7654_3210_8000_0000_0000_0001);
        for spelling in [Uuid::text(id), Uuid::structured(id)] {
            assert_eq!(spelling.read(), Some(id), "{spelling:?}");
        }
        assert_eq!(Uuid { value: Some(uuid::Value::Text("seven".to_owned())) }.read(), None);
        assert_eq!(Uuid { value: None }.read(), None);
    }
}
