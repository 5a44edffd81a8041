//! Keeps values out of what drivers, providers and workers say: errors, metadata, findings, logs.
//!
//! **Invariant:** whatever was handed out is searched for, as it is and in the spellings that a program
//! makes of it without meaning to: JSON, base64 at any offset, hex, percent signs, UTF-16, single lines. It is a net
//! under drivers that are written with care, not a licence to be careless: what is changed beyond that passes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::HEXLOWER;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::VALUE_BYTES_MIN;
use super::fields::HIDDEN;

/// How many values are searched for, the latest ones: more than an orchestrator has in use at a time, and each text
/// that a driver says costs a search a value.
const VALUES_MAX: usize = 512;

/// Values that were handed out: by this process, to one worker, or for one call.
#[derive(Default)]
pub struct Redactor(RwLock<Values>);

#[derive(Default)]
struct Values {
    latest: VecDeque<Arc<Handed>>,
    has_forgotten: bool,
}

/// A value, and its spellings, longest first.
struct Handed {
    value: SecretString,
    spellings: Vec<Zeroizing<String>>,
}

impl Redactor {
    /// Searches for these values.
    #[must_use]
    pub fn of(values: &[SecretString]) -> Self {
        let redactor = Self::default();
        for value in values {
            redactor.remember(value);
        }
        redactor
    }

    /// Searches for `value` from now on.
    pub fn remember(&self, value: &SecretString) {
        if value.expose_secret().len() >= VALUE_BYTES_MIN && !self.knows(value) {
            self.push(Arc::new(Handed { value: value.clone(), spellings: spellings(value.expose_secret()) }));
        }
    }

    /// Searches from now on for what `other` searches for.
    pub fn extend(&self, other: &Self) {
        let others = other.values().latest.clone();
        others.into_iter().filter(|handed| !self.knows(&handed.value)).for_each(|handed| self.push(handed));
    }

    /// Whether it was told more values than it searches for.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.values().has_forgotten
    }

    /// The text without any of the values.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for handed in &self.values().latest {
            for spelling in &handed.spellings {
                if text.contains(spelling.as_str()) {
                    text = text.replace(spelling.as_str(), HIDDEN);
                }
            }
        }
        text
    }

    /// The JSON value without any of the values, in its keys too.
    #[must_use]
    pub fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.json(item)).collect()),
            Value::Object(object) => Value::Object(self.object(object)),
            Value::Number(number) if self.is_in(&number.to_string()) => Value::from(HIDDEN),
            other => other,
        }
    }

    /// The object without any of the values.
    #[must_use]
    pub fn object(&self, object: Map<String, Value>) -> Map<String, Value> {
        object.into_iter().map(|(key, value)| (self.text(&key), self.json(value))).collect()
    }

    fn is_in(&self, text: &str) -> bool {
        self.text(text) != text
    }

    fn push(&self, handed: Arc<Handed>) {
        let mut values = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if values.latest.len() == VALUES_MAX {
            values.latest.pop_front();
            values.has_forgotten = true;
        }
        values.latest.push_back(handed);
    }

    fn knows(&self, value: &SecretString) -> bool {
        self.values().latest.iter().any(|known| known.value.expose_secret() == value.expose_secret())
    }

    fn values(&self) -> RwLockReadGuard<'_, Values> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spellings(value: &str) -> Vec<Zeroizing<String>> {
    let mut spellings = vec![value.to_owned(), json(value), percent(value), utf16(value)];
    spellings.extend(value.lines().map(str::trim).filter(|line| is_telling(line)).map(str::to_owned));
    let hex = HEXLOWER.encode(value.as_bytes());
    spellings.extend([hex.to_uppercase(), hex]);
    for offset in 0..3 {
        spellings.extend(base64(value, offset));
    }
    spellings.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    spellings.dedup();
    spellings.into_iter().map(Zeroizing::new).collect()
}

/// Whether a line of a longer value is worth hiding by itself: not one that every key file has.
fn is_telling(line: &str) -> bool {
    line.len() >= VALUE_BYTES_MIN && !line.starts_with("-----")
}

/// As it stands between the quotes of a JSON text.
fn json(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As a URL has it.
fn percent(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().fold(String::new(), |mut text, byte| {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// As UTF-16 looks that was read byte by byte; the zero around it stays.
fn utf16(value: &str) -> String {
    let spread: String = value.chars().flat_map(|letter| [letter, '\0']).collect();
    spread.trim_end_matches('\0').to_owned()
}

/// The characters of base64 that only the value decides, where it begins `offset` bytes behind a whole group; in both
/// alphabets.
fn base64(value: &str, offset: usize) -> [String; 2] {
    let bytes = Zeroizing::new([&[0; 3][..offset], value.as_bytes()].concat());
    // Of the first group, the characters that the bytes before have a part in; of the last, the one that those behind
    // have.
    let (first, shared) = ([0, 2, 3][offset], usize::from(bytes.len() % 3 != 0));
    [STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|alphabet| {
        let text = Zeroizing::new(alphabet.encode(&*bytes));
        text[first..text.len() - shared].to_owned()
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    use data_encoding::HEXUPPER;

    use super::*;

    const VALUE: &str = "c4n@ry \"value\"/of\\the\ttest";

    fn redactor(value: &str) -> Redactor {
        Redactor::of(&[value.into()])
    }

    #[test]
    fn a_value_is_found_in_every_spelling() {
        let redactor = redactor(VALUE);
        let utf16: String = VALUE.chars().flat_map(|letter| [letter, '\0']).collect();
        for said in [
            VALUE.to_owned(),
            format!("{VALUE}{VALUE}"),
            json!({ "key": VALUE }).to_string(),
            STANDARD.encode(VALUE),
            HEXLOWER.encode(VALUE.as_bytes()),
            HEXUPPER.encode(VALUE.as_bytes()),
            percent(VALUE),
            utf16,
        ] {
            let shown = redactor.text(&format!("before {said} after"));
            assert!(shown.starts_with("before ") && shown.ends_with(" after"), "{shown}");
            assert!(shown.contains(HIDDEN) && !shown.contains("c4n"), "{said}: {shown}");
        }
        assert_eq!(redactor.text("nothing of it"), "nothing of it");
    }

    #[test]
    fn keys_and_values_of_json_are_searched_at_any_depth() {
        let redactor = Redactor::of(&[VALUE.into(), "12345678".into()]);
        let told = json!({ "deep": [{ VALUE: [1, VALUE, null] }], "n": 7, "m": 9_123_456_780_u64 });
        let shown = json!({ "deep": [{ HIDDEN: [1, HIDDEN, null] }], "n": 7, "m": HIDDEN });
        assert_eq!(redactor.json(told), shown);
    }

    #[test]
    fn what_another_one_knows_is_known_once() {
        let (one, other) = (redactor(VALUE), Redactor::of(&[VALUE.into(), "another value".into()]));
        one.extend(&other);
        assert_eq!(one.values().latest.len(), 2);
        assert_eq!(one.text(&format!("{VALUE} another value")), format!("{HIDDEN} {HIDDEN}"));
    }

    #[test]
    fn a_single_line_of_a_key_is_found_and_its_frame_is_not_a_secret() {
        let key = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXk\nMIIEpAIBAAKCAQEA\n-----END KEY-----\n";
        let shown = redactor(key).text("bad line 3: MIIEpAIBAAKCAQEA in -----BEGIN KEY-----");
        assert_eq!(shown, "bad line 3: [secret] in -----BEGIN KEY-----");
    }

    #[test]
    fn the_oldest_values_are_forgotten() {
        let redactor = redactor(VALUE);
        for number in 0..VALUES_MAX {
            redactor.remember(&format!("another value {number}").into());
            redactor.remember(&format!("another value {number}").into());
        }
        assert!(redactor.has_forgotten());
        assert_eq!(redactor.text(VALUE), VALUE);
        assert_eq!(redactor.text("another value 0"), HIDDEN);
    }

    proptest! {
        #[test]
        fn base64_is_found_at_any_offset(
            value in "[a-z]{8,40}", before in "[A-Z]{0,7}", behind in "[A-Z]{0,7}",
        ) {
            let text = STANDARD.encode(format!("{before}{value}{behind}"));
            let shown = redactor(&value).text(&text);
            prop_assert!(shown.contains(HIDDEN), "{} of {} in {}", text, value, shown);
        }
    }
}
