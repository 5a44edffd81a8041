//! Typed ids. Pure; an id made here from the same parts is the same id, on any machine, for ever.
//!
//! Ids are UUIDs. Those that must be unique across streams are UUIDv5 of what they stand for, so that the stream
//! of that id, appended with "no stream", is the reservation; all others are UUIDv7 from [`crate::seam::Ids`].

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace under which every deterministic id of a ledger is made. Never changed: ids are stored.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f0d_6c1e_7a52_4c0b_9d3e_1ea5_e1ed_9e01);

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {what} id; give a UUID such as 0198c0de-0000-7000-8000-000000000001")]
pub struct InvalidId {
    /// What kind of id was wanted.
    pub what: &'static str,
    /// The text as given.
    pub text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The id that `parts` always give: UUIDv5 over the parts, joined by a byte that no part may hold.
            #[must_use]
            pub fn derived(parts: &[&str]) -> Self {
                Self(derive($what, parts))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($what, " {}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId { what: $what, text: text.to_owned() })
            }
        }
    )*};
}

ids! {
    /// One lease: the right of one run to use one environment.
    LeaseId, "lease";
    /// A named, configured place where agent work runs.
    EnvironmentId, "environment";
    /// The tenant. Nothing crosses from one company to another.
    CompanyId, "company";
    /// One wake-up of an agent (a heartbeat run); it owns the leases that it acquires.
    RunId, "run";
    /// One command, as its caller knows it: the same id is the same command, however often it is sent.
    CommandId, "command";
    /// One event; UUIDv5 of its command and index, so that a repeated append is the same append.
    EventId, "event";
    /// A name in a company under which a secret value is kept.
    SecretId, "secret";
    /// Something at a provider that bears this ledger's label and that no lease accounts for.
    OrphanId, "orphan";
    /// One ledger: what its labels at a provider bear, so that two ledgers may share one account.
    LedgerId, "ledger";
}

impl EventId {
    /// The id of the `index`-th event that `command` writes to `stream`.
    #[must_use]
    pub fn of_command(command: CommandId, stream: &str, index: usize) -> Self {
        Self(derive("event", &[&command.to_string(), stream, &index.to_string()]))
    }
}

fn derive(what: &str, parts: &[&str]) -> Uuid {
    let mut name = String::from(what);
    for part in parts {
        // The unit separator and a length: ["a", "bc"] and ["ab", "c"] are different names.
        name.push('\u{1f}');
        name.push_str(&part.len().to_string());
        name.push('\u{1f}');
        name.push_str(part);
    }
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_keep_their_parts_apart() {
        assert_ne!(LeaseId::derived(&["a", "bc"]), LeaseId::derived(&["ab", "c"]));
        assert_ne!(LeaseId::derived(&["a"]).0, RunId::derived(&["a"]).0);
        assert_eq!(LeaseId::derived(&["a", "b"]), LeaseId::derived(&["a", "b"]));
    }

    #[test]
    fn a_derived_id_never_changes() {
        // Stored ids depend on it: if this fails, every deterministic id of every existing ledger has changed.
        assert_eq!(LeaseId::derived(&["run", "fingerprint", "0"]).to_string(), "06765673-36f2-58e8-b08f-631cbb88568d");
    }

    #[test]
    fn a_text_that_is_no_id_says_what_would_be() {
        let error = "seven".parse::<LeaseId>().unwrap_err().to_string();
        assert!(error.contains("\"seven\" is not a lease id; give a UUID"), "{error}");
    }
}
