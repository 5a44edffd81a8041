//! A driver's config as it is typed: `KEY=VALUE` pairs, a JSON text, or a file of it. Pure but for reading the file.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::exit::CliError;

/// One `KEY=VALUE`. A value that reads as JSON is that; anything else is a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    key: String,
    value: Value,
}

impl Entry {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
                Ok(Self { key: key.to_owned(), value })
            }
            _ => Err(format!("\"{text}\" is not KEY=VALUE, such as reuseLease=true")),
        }
    }
}

/// What a config is typed as.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// A key of the config; a VALUE that reads as JSON (true, 5, {"a":1}) is that, anything else is a text
    #[arg(long = "config", value_name = "KEY=VALUE")]
    pub entries: Vec<Entry>,
    /// The whole config as a JSON object, or @FILE to read it from a file; --config adds to it
    #[arg(long = "config-json", value_name = "JSON|@FILE")]
    pub whole: Option<String>,
}

impl ConfigArgs {
    /// Whether anything was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.whole.is_none()
    }

    /// The config as one JSON object.
    pub fn object(&self) -> Result<Map<String, Value>, CliError> {
        let mut object = match &self.whole {
            None => Map::new(),
            Some(text) => whole("--config-json", text)?,
        };
        add(&mut object, &self.entries)?;
        Ok(object)
    }
}

/// Adds typed entries to a config; a key that is typed twice is refused.
pub fn add(object: &mut Map<String, Value>, entries: &[Entry]) -> Result<(), CliError> {
    let mut typed = std::collections::BTreeSet::new();
    for entry in entries {
        if !typed.insert(&entry.key) {
            return Err(CliError::Usage(format!("--config {} is given twice; give it once.", entry.key)));
        }
        object.insert(entry.key.clone(), entry.value.clone());
    }
    Ok(())
}

/// A config that is typed whole, as the value of `option`: JSON, or `@FILE`.
pub(super) fn whole(option: &str, text: &str) -> Result<Map<String, Value>, CliError> {
    let read = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| CliError::Usage(format!("{option}: {path} cannot be read ({error}).")))?,
    };
    match serde_json::from_str(&read) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(CliError::Usage(format!("{option} is not a JSON object, such as {{\"reuseLease\":true}}."))),
        Err(error) => Err(CliError::Usage(format!("{option} is not JSON ({error})."))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(entries: &[&str], json: Option<&str>) -> Result<Value, String> {
        let entries = entries.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?;
        let config = ConfigArgs { entries, whole: json.map(str::to_owned) };
        config.object().map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_json_where_they_read_as_json() {
        let entries = ["a=true", "b=5", "c=five", "d={\"e\":1}", "f=", "g=x=y"];
        let expected = json!({ "a": true, "b": 5, "c": "five", "d": { "e": 1 }, "f": "", "g": "x=y", "h": 1 });
        assert_eq!(read(&entries, Some("{\"a\":false,\"h\":1}")), Ok(expected));
    }

    #[test]
    fn what_is_no_config_is_refused_in_a_sentence() {
        assert!(read(&["x"], None).unwrap_err().contains("\"x\" is not KEY=VALUE"));
        assert!(read(&["x=1", "x=2"], None).unwrap_err().contains("--config x is given twice"));
        assert!(read(&[], Some("[]")).unwrap_err().contains("is not a JSON object"));
        assert!(read(&[], Some("{")).unwrap_err().contains("is not JSON"));
        assert!(read(&[], Some("@/nowhere/at/all")).unwrap_err().contains("/nowhere/at/all cannot be read"));
    }
}
