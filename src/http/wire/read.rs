//! How single values of a request are read, so that what is wrong with one is said in words.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Unexpected, Visitor};

/// The largest whole number that every JSON reader keeps exactly: JavaScript's `Number.MAX_SAFE_INTEGER`.
pub(crate) const WHOLE_NUMBER_MAX: u64 = (1 << 53) - 1;

/// A text, parsed: ids, moments and words say themselves what a right one would be.
pub(crate) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// A text that may be absent, parsed.
pub(crate) fn parsed_option<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    match Option::<Cow<'de, str>>::deserialize(deserializer)? {
        Some(text) => text.parse().map(Some).map_err(de::Error::custom),
        None => Ok(None),
    }
}

/// A JSON object, read into a struct. By itself a struct would take a list too, its fields in order.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object(PhantomData))
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// A whole number in a query, which may be absent.
pub(crate) fn number_in_query<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let Some(text) = Option::<Cow<'de, str>>::deserialize(deserializer)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| de::Error::invalid_value(Unexpected::Str(&text), &"a whole number"))
}

/// `true` or `false` in a query, which may be absent.
pub(crate) fn bool_in_query<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let Some(text) = Option::<Cow<'de, str>>::deserialize(deserializer)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| de::Error::invalid_value(Unexpected::Str(&text), &"true or false"))
}

/// A whole number that may be absent. `7.0` is the number 7, as JSON Schema has it; `"7"` is none: a token that came
/// back as a string compares unequal to every number.
pub(crate) fn whole_number_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(WholeNumber)
}

/// A whole number that must be there.
pub(crate) fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    whole_number_option(deserializer)?.ok_or_else(|| de::Error::invalid_type(Unexpected::Unit, &WholeNumber))
}

struct WholeNumber;

impl<'de> Visitor<'de> for WholeNumber {
    type Value = Option<u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a number, whole, from 0 to {WHOLE_NUMBER_MAX}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        if number <= WHOLE_NUMBER_MAX {
            Ok(Some(number))
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        // Written out without fraction or exponent, an integral float is the text of a whole number.
        match format!("{number:.0}").parse::<u64>() {
            Ok(whole) if number.fract() == 0.0 && whole <= WHOLE_NUMBER_MAX => Ok(Some(whole)),
            _ => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<u64>, String> {
        whole_number_option(&mut serde_json::Deserializer::from_str(json)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_integral_float_is_a_whole_number() {
        assert_eq!(read("7"), Ok(Some(7)));
        assert_eq!(read("7.0"), Ok(Some(7)));
        assert_eq!(read("1e3"), Ok(Some(1_000)));
        assert_eq!(read("null"), Ok(None));
        assert_eq!(read("9007199254740991"), Ok(Some(WHOLE_NUMBER_MAX)));
    }

    #[test]
    fn what_is_no_whole_number_is_refused() {
        for bad in ["\"7\"", "7.5", "-1", "-1.0", "9007199254740992", "1e300", "true", "[7]", "{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
