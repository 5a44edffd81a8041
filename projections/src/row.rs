//! Rows and their values, and how a row gives its state back. Pure.

use std::sync::Arc;

use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};
use lease_events::codec::json_text;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::projection::{ColumnKind, STATE_COLUMN, Table};

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number; booleans are 0 and 1.
    Integer(i64),
    /// Text; timestamps and JSON too.
    Text(Arc<str>),
}

impl Value {
    /// Text, or NULL.
    #[must_use]
    pub fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }

    /// A UUID, or NULL.
    #[must_use]
    pub fn id(id: Option<Uuid>) -> Self {
        id.map_or(Self::Null, |id| Self::from(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer())))
    }

    /// A time, or NULL.
    #[must_use]
    pub fn time(at: Option<DateTime<Utc>>) -> Self {
        at.map_or(Self::Null, |at| Self::Text(time_text(at)))
    }

    /// The JSON text of `value`.
    #[must_use]
    pub fn json<T: Serialize>(value: &T) -> Self {
        Self::Text(json_text(value))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    /// Positions, revisions and tokens stay below 2^53.
    fn from(value: u64) -> Self {
        Self::Integer(value.cast_signed())
    }
}

/// A row: one value a column, in the table's order.
pub type Row = Vec<Value>;

/// The state that a row of a fold's first table holds: [`STATE_COLUMN`], and the columns that hold a field of it.
pub fn restore<S: DeserializeOwned>(table: &Table, row: &Row) -> Result<S, String> {
    let json = table.index_of(STATE_COLUMN).and_then(|at| row.get(at));
    let Some(Value::Text(json)) = json else { return Err(format!("{} keeps no state", table.name)) };
    let mut fields: serde_json::Map<String, Json> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for (column, value) in table.columns.iter().zip(row) {
        let Some(field) = column.holds else { continue };
        let value = match (value, column.kind) {
            (Value::Null, _) => Json::Null,
            (Value::Integer(number), ColumnKind::Boolean) => Json::Bool(*number != 0),
            (Value::Integer(number), _) => Json::from(*number),
            (Value::Text(text), ColumnKind::Json) => serde_json::from_str(text).map_err(|error| error.to_string())?,
            (Value::Text(text), _) => Json::from(&**text),
        };
        fields.insert(field.to_owned(), value);
    }
    serde_json::from_value(Json::Object(fields)).map_err(|error| error.to_string())
}

/// RFC 3339 with microseconds and `Z`. By hand: a row has up to nine times, and the general formatter is ten times
/// slower.
fn time_text(at: DateTime<Utc>) -> Arc<str> {
    let (date, time) = (at.date_naive(), at.time());
    let Ok(year @ 0..=9_999) = u32::try_from(date.year()) else {
        return at.to_rfc3339_opts(SecondsFormat::Micros, true).into();
    };
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut digits = |to: usize, count: usize, mut number: u32| {
        for place in text[to..to + count].iter_mut().rev() {
            *place = b'0' + (number % 10).to_le_bytes()[0];
            number /= 10;
        }
    };
    digits(0, 4, year);
    digits(5, 2, date.month());
    digits(8, 2, date.day());
    digits(11, 2, time.hour());
    digits(14, 2, time.minute());
    digits(17, 2, time.second());
    // A leap second counts on in the nanoseconds; it is shown as the last moment before.
    digits(20, 6, (time.nanosecond() / 1_000).min(999_999));
    String::from_utf8_lossy(&text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_the_general_formatter_does() {
        for micros in
            [0, 1, 86_399_999_999, 1_732_368_000_123_456, 253_402_300_799_999_999, -1, 300_000_000_000_000_000]
        {
            let at = DateTime::from_timestamp_micros(micros).expect("it is a time");
            assert_eq!(Value::time(Some(at)), Value::from(&*at.to_rfc3339_opts(SecondsFormat::Micros, true)));
        }
    }
}
