//! Takes secret values out of what a worker says: whatever it echoes, no value gets on.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// What stands where a value stood.
const REDACTED: &str = "[redacted]";
/// Shortest line of a secret of several lines that is looked for on its own: logs come line by line, and shorter ones
/// (such as `}`) stand everywhere.
const LINE_BYTES_MIN: usize = 8;

/// The values that must not get on. Cloning shares nothing; values are cleared from memory when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a value that holds another goes as a whole.
    values: Vec<SecretString>,
}

impl Redactor {
    /// A redactor of these values.
    #[must_use]
    pub fn new(values: &[SecretString]) -> Self {
        let mut found = Self::default();
        for value in values {
            found.add(value.expose_secret());
        }
        found
    }

    /// Adds what another one knows.
    pub fn extend(&mut self, other: &Self) {
        for value in &other.values {
            self.add(value.expose_secret());
        }
    }

    /// How many values it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The text without the values.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, value| text.replace(value.expose_secret(), REDACTED))
    }

    /// Takes the values out of every text in there, keys too.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(map) => self.map(map),
            Value::Number(number) if !self.is_empty() => {
                let text = number.to_string();
                if self.text(&text) != text {
                    *value = Value::from(REDACTED);
                }
            }
            _ => {}
        }
    }

    /// Takes the values out of every text in there, keys too.
    pub fn map(&self, map: &mut Map<String, Value>) {
        if self.is_empty() {
            return;
        }
        *map = std::mem::take(map)
            .into_iter()
            .map(|(key, mut value)| {
                self.value(&mut value);
                (self.text(&key), value)
            })
            .collect();
    }

    fn add(&mut self, value: &str) {
        let trimmed = value.trim_end_matches(['\r', '\n']);
        let lines = trimmed.lines().filter(|line| line.len() >= LINE_BYTES_MIN);
        for value in std::iter::once(trimmed).chain(lines) {
            if !value.is_empty() && !self.values.iter().any(|known| known.expose_secret() == value) {
                self.values.push(value.into());
            }
        }
        self.values.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_go_wherever_they_stand() {
        let redactor = Redactor::new(&["hunter2".into(), "hunter2-and-more".into(), "1234567".into()]);
        let mut value = json!({ "a": ["x hunter2-and-more y"], "hunter2": { "b": 91_234_567 }, "c": 7 });
        redactor.value(&mut value);
        let expected = json!({ "a": ["x [redacted] y"], "[redacted]": { "b": "[redacted]" }, "c": 7 });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_key_of_several_lines_goes_line_by_line() {
        let redactor = Redactor::new(&["-----BEGIN\nabcdefghij\n}\n".into()]);
        assert_eq!(redactor.text("see abcdefghij and }"), "see [redacted] and }");
        assert_eq!(redactor.text("-----BEGIN\nabcdefghij\n}"), "[redacted]");
        assert_eq!(Redactor::new(&["".into()]).text("x"), "x");
    }
}
