//! The secrets port, in the drivers' words: config holds references, and a driver asks for the value at the moment
//! that it needs it.
//!
//! **Invariants:** a value is only ever in memory, in a [`SecretString`]; every read is put on record by whoever
//! implements this, without the value.

use std::fmt;

use async_trait::async_trait;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A reference to a secret, as config spells it: `{"type":"secret_ref","secretId":UUID,"version":"latest"|N}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Tagged", into = "Tagged")]
pub struct SecretRef {
    /// The secret.
    pub secret_id: Uuid,
    /// Which version of it.
    pub version: SecretVersion,
}

/// A reference as JSON spells it: serde checks the tag of an enum, not of a struct.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Tagged {
    SecretRef {
        secret_id: Uuid,
        #[serde(default)]
        version: SecretVersion,
    },
}

impl From<Tagged> for SecretRef {
    fn from(tagged: Tagged) -> Self {
        let Tagged::SecretRef { secret_id, version } = tagged;
        Self { secret_id, version }
    }
}

impl From<SecretRef> for Tagged {
    fn from(reference: SecretRef) -> Self {
        Self::SecretRef { secret_id: reference.secret_id, version: reference.version }
    }
}

/// Which version of a secret: `"latest"`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Spelled", into = "Spelled")]
pub enum SecretVersion {
    /// The newest at the moment of the read.
    #[default]
    Latest,
    /// This one, from 1.
    Number(u32),
}

/// A version as JSON spells it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled {
    Word(String),
    Number(u32),
}

impl TryFrom<Spelled> for SecretVersion {
    type Error = String;

    fn try_from(spelled: Spelled) -> Result<Self, String> {
        match spelled {
            Spelled::Word(word) if word == "latest" => Ok(Self::Latest),
            Spelled::Number(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err("a secret's version is \"latest\" or a number from 1".to_owned()),
        }
    }
}

impl From<SecretVersion> for Spelled {
    fn from(version: SecretVersion) -> Self {
        match version {
            SecretVersion::Latest => Self::Word("latest".to_owned()),
            SecretVersion::Number(number) => Self::Number(number),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            SecretVersion::Latest => write!(formatter, "secret {} (latest)", self.secret_id),
            SecretVersion::Number(number) => write!(formatter, "secret {} (version {number})", self.secret_id),
        }
    }
}

/// For whom a secret is read: goes on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReader {
    /// The tenant; a secret of another is not there.
    pub company_id: CompanyId,
    /// The environment whose config names it.
    pub environment_id: Option<EnvironmentId>,
    /// The lease that it is read for.
    pub lease_id: Option<LeaseId>,
    /// What for, such as `acquire`.
    pub purpose: &'static str,
}

/// Why a secret could not be read. Never says anything of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none of this id and version in this company.
    #[error("There is no {reference}; set it with `lease-ledger secret set`.")]
    Unknown {
        /// As config names it.
        reference: SecretRef,
    },
    /// Where it is kept cannot be read now.
    #[error("The {reference} cannot be read: {cause}.")]
    Unavailable {
        /// As config names it.
        reference: SecretRef,
        /// What was seen.
        cause: String,
    },
}

/// Resolves references. Object-safe; it travels as `Arc<dyn SecretResolver>`.
#[async_trait]
pub trait SecretResolver: Send + Sync {
    /// The value, for this reader.
    async fn resolve(&self, reference: &SecretRef, reader: &SecretReader) -> Result<SecretString, SecretError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        for (text, version) in [
            (
                r#"{"type":"secret_ref","secretId":"0198c0de-0000-7000-8000-000000000001","version":"latest"}"#,
                SecretVersion::Latest,
            ),
            (
                r#"{"type":"secret_ref","secretId":"0198c0de-0000-7000-8000-000000000001","version":3}"#,
                SecretVersion::Number(3),
            ),
        ] {
            let reference: SecretRef = serde_json::from_str(text).expect("a reference");
            assert_eq!(reference.version, version);
            assert_eq!(serde_json::to_string(&reference).expect("text"), text);
        }
        assert!(serde_json::from_str::<SecretRef>(r#"{"type":"secret_ref","secretId":"x"}"#).is_err());
        let newest = r#"{"type":"secret_ref","secretId":"0198c0de-0000-7000-8000-000000000001","version":"newest"}"#;
        assert!(serde_json::from_str::<SecretRef>(newest).is_err());
    }
}
