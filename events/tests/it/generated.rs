//! Files that are generated from the code and kept in the repository: compared by tests, written by
//! `cargo xtask generate` (which sets `UPDATE_GENERATED=1`).

use std::fs;
use std::path::{Path, PathBuf};

use lease_events::command::CommandEvent;
use lease_events::environment::EnvironmentEvent;
use lease_events::lease::LeaseEvent;
use lease_events::orphan::OrphanEvent;
use lease_events::run::RunEvent;
use lease_events::secret::SecretEvent;
use serde_json::Value;

/// An event type with its current version and the JSON Schema of its data.
pub(crate) struct EventSchema {
    pub(crate) category: &'static str,
    pub(crate) event_type: &'static str,
    pub(crate) version: u16,
    pub(crate) schema: Value,
}

impl EventSchema {
    /// `<type>.v<n>`: what its schema file and its golden folder are called.
    pub(crate) fn stem(&self) -> String {
        format!("{}.v{}", self.event_type, self.version)
    }
}

/// The events of all six categories.
pub(crate) fn event_schemas() -> Vec<EventSchema> {
    let categories = [
        ("lease", LeaseEvent::schemas()),
        ("environment", EnvironmentEvent::schemas()),
        ("secret", SecretEvent::schemas()),
        ("run", RunEvent::schemas()),
        ("orphan", OrphanEvent::schemas()),
        ("command", CommandEvent::schemas()),
    ];
    categories
        .into_iter()
        .flat_map(|(category, schemas)| {
            schemas.into_iter().map(move |(event_type, version, schema)| {
                let mut schema = schema.to_value();
                schema["$id"] = Value::from(format!("urn:lease-ledger:event:{event_type}:v{version}"));
                schema.sort_all_objects();
                EventSchema { category, event_type, version, schema }
            })
        })
        .collect()
}

/// Whether the files are to be written instead of compared.
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1")
}

/// A path below the events crate.
pub(crate) fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a file with what it should hold, or writes it.
#[track_caller]
pub(crate) fn compare(path: &Path, wanted: &str) {
    if updating() {
        fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("the folder can be made");
        fs::write(path, wanted).expect("the file can be written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is not what the code says; run `cargo xtask generate`", path.display());
}

/// The names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("names are UTF-8"))
        .collect();
    names.sort();
    names
}
