//! Reads a driver's config key by key and collects every fault of it, each a sentence that names the key. Pure.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::InvalidConfig;

/// A reader of one JSON object. Each method reads one key and thereby makes it known; [`Fields::finish`] refuses all others.
pub(super) struct Fields<'a> {
    owner: &'a str,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<String>,
}

impl<'a> Fields<'a> {
    /// A reader of `map`, the config of `owner` (such as `driver "local"`).
    pub(super) fn new(owner: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { owner, map, known: Vec::new(), faults: Vec::new() }
    }

    /// A flag; `default` where it is absent.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.read(key) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                self.fault(format!("\"{key}\" is {other}; it must be true or false."));
                default
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.read(key)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = range.into_inner();
            self.fault(format!("\"{key}\" is {value}; it must be a whole number from {low} to {high}."));
        }
        number
    }

    /// One word of a closed list.
    pub(super) fn word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.read(key)?;
        let word = words.iter().copied().find(|word| value == word);
        if word.is_none() {
            self.fault(format!("\"{key}\" is {value}; it must be one of {}.", words.join(", ")));
        }
        word
    }

    /// A text, whatever it says.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.read(key)?;
        if value.as_str().is_none() {
            self.fault(format!("\"{key}\" is {value}; it must be a text."));
        }
        value.as_str()
    }

    /// A value of any kind, which the caller reads, and finds the fault of, itself.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read(key)
    }

    /// An object, whatever is in it.
    pub(super) fn object(&mut self, key: &'static str) -> Option<&'a Map<String, Value>> {
        let value = self.read(key)?;
        if value.as_object().is_none() {
            // Its text is not shown: it may be a secret that stands in the wrong place.
            self.fault(format!("\"{key}\" must be an object, such as {{}}."));
        }
        value.as_object()
    }

    /// A fault that the caller found itself.
    pub(super) fn fault(&mut self, sentence: String) {
        self.faults.push(sentence);
    }

    /// The keys that nobody has read, with their values.
    pub(super) fn rest(&self) -> Map<String, Value> {
        let unread = self.map.iter().filter(|(key, _)| !self.known.contains(&key.as_str()));
        unread.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Every fault so far; keys that nobody has read are somebody else's.
    pub(super) fn faults(self) -> Vec<String> {
        self.faults
    }

    /// No fault, and no key that nobody has read.
    pub(super) fn finish(mut self) -> Result<(), InvalidConfig> {
        for key in self.rest().keys() {
            let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
            self.faults.push(format!("\"{key}\" is no config key of {}; its keys are: {known}.", self.owner));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(InvalidConfig { faults: self.faults }) }
    }

    /// `null` counts as absent: that is how JSON callers leave a key out.
    fn read(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.map.get(key).filter(|value| !value.is_null())
    }
}

/// The config as a JSON object.
pub(super) fn object(config: &Value) -> Result<&Map<String, Value>, InvalidConfig> {
    config
        .as_object()
        .ok_or_else(|| InvalidConfig { faults: vec!["The config must be a JSON object, such as {}.".to_owned()] })
}
