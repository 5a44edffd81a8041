//! What a check has shown of a plugin's driver, kept beside the plugin. Pure.
//!
//! **Invariants:** what was not shown is not assumed: the default is to trust with nothing. What was shown holds for the
//! very plugin that was checked, known by a digest of all that its worker is made of.

use std::time::Duration;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::registry::InstalledPlugin;

/// What a driver may be trusted with. Every fact is false, or absent, until it was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent yes-or-no facts, not a state")]
pub struct Trust {
    /// A repeated acquire of the same lease and attempt gives the same thing.
    pub idempotent_acquire: bool,
    /// Its listing shows what is there, rightly labelled, and what is gone no more.
    pub can_list: bool,
    /// It says *gone* of what is gone, and of nothing else.
    pub can_confirm_absence: bool,
    /// What a lease leaves may be resumed for another, also by another worker process.
    pub supports_reuse: bool,
    /// It refuses a call under a lower fencing token than it has seen.
    pub fencing: bool,
    /// It refuses a call of another ledger.
    pub ownership: bool,
    /// How long a new thing may stay out of its listing, in milliseconds.
    pub visibility_delay_ms: Option<u64>,
}

impl Trust {
    /// How long a new thing may stay out of its listing, where that was measured.
    #[must_use]
    pub fn visibility_delay(&self) -> Option<Duration> {
        self.visibility_delay_ms.map(Duration::from_millis)
    }
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checked {
    /// Of what: [`digest`] of the plugin then.
    pub digest: String,
    /// When.
    pub checked_at: DateTime<Utc>,
    /// The names of the cases that failed.
    pub failed: Vec<String>,
    /// What was shown.
    pub trust: Trust,
}

/// SHA-256, in hexadecimal, of what a worker is made of: manifest with its version, start command, grants, config.
#[must_use]
pub fn digest(plugin: &InstalledPlugin) -> String {
    let parts = serde_json::json!([plugin.manifest.raw, plugin.start, plugin.grants, plugin.config]);
    HEXLOWER.encode(&Sha256::digest(parts.to_string().as_bytes()))
}
