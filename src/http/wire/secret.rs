//! Secrets on the wire. A value comes in, and never goes out.

use std::fmt;

use lease_events::id::{CompanyId, SecretId};
use lease_events::secret::{SecretProviderKind, SecretState, SecretStatus};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::{Moment, read, vocabulary as schema};

/// A value on its way to the ledger: it is shown to nobody, and zeroed when it is dropped.
#[derive(Clone)]
pub struct Plaintext(pub SecretString);

impl fmt::Debug for Plaintext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// For the client, which has to send it.
impl Serialize for Plaintext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Plaintext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|value| Self(value.into()))
    }
}

/// A name under which a value is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The secret: what a reference in a config names as `secretId`.
    #[schema(value_type = Uuid)]
    pub id: SecretId,
    /// The tenant.
    #[schema(value_type = Uuid)]
    pub company_id: CompanyId,
    /// Unique among the company's secrets that are there.
    pub name: String,
    /// Whether it can be read.
    #[schema(value_type = schema::SecretStatus)]
    pub status: SecretStatus,
    /// Which secret of this company and name it is, from 0.
    pub generation: u32,
    /// Its versions, oldest first.
    pub versions: Vec<SecretVersion>,
    /// How often it was read.
    pub reads: u64,
    /// When it was last read.
    pub last_read_at: Option<Moment>,
    /// When it was created.
    pub created_at: Moment,
    /// When it was removed.
    pub removed_at: Option<Moment>,
    /// When it last changed, or was read.
    pub updated_at: Moment,
    /// The revision of its last event: its ETag.
    pub revision: u64,
    /// The position of its last event in the log.
    pub position: u64,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersion {
    /// Its number, from 1.
    pub version: u32,
    /// What keeps its value.
    #[schema(value_type = schema::SecretProvider)]
    pub provider: SecretProviderKind,
    /// Where the provider keeps it.
    pub locator: String,
    /// When it was added.
    pub added_at: Moment,
}

/// Secrets, newest created first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretList {
    /// The secrets.
    pub secrets: Vec<Secret>,
    /// What to give as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// A secret by its name: it is created, or given a new version. One of `value`, `variable` and `file` is given.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetSecret {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// Unique among the company's secrets that are there; 1 to 300 bytes.
    pub name: String,
    /// The value, of 8 to 65536 bytes: it is sealed and kept by the ledger.
    #[schema(value_type = Option<String>, format = Password, write_only)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Plaintext>,
    /// The name of a variable that the operator has set: the variable is the prefix `LEASE_SECRET_`, the company's id
    /// without hyphens in capitals, `_`, and this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// The path of a file below the company's folder in the folder that the operator grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A new version of a secret that is there. One of `value`, `variable` and `file` is given.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateSecret {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// The value, of 8 to 65536 bytes: it is sealed and kept by the ledger.
    #[schema(value_type = Option<String>, format = Password, write_only)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Plaintext>,
    /// The name of a variable that the operator has set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// The path of a file below the company's folder in the folder that the operator grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// The end of a secret: it is read no more, and what the ledger kept of it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoveSecret {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// The caller's own words, for the record.
    pub note: Option<String>,
}

/// Another master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RekeySecrets {
    /// The file of the new key, on the ledger's machine: 32 bytes in base64, readable by its owner only.
    pub new_key_file: String,
}

/// The secrets are sealed with another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RekeyedSecrets {
    /// How many versions are sealed with it.
    pub versions: u64,
}

/// Whose secret is meant.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SecretScope {
    /// The tenant.
    #[param(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
}

/// Which secrets are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SecretQuery {
    /// The tenant.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The name.
    pub name: Option<String>,
    /// The status.
    #[param(value_type = Option<schema::SecretStatus>)]
    pub status: Option<SecretStatus>,
    /// Most rows wanted: 1 to 1000; 100 where absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub limit: Option<usize>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
}

impl From<SecretState> for Secret {
    fn from(state: SecretState) -> Self {
        let versions = state.versions.into_iter().map(|version| SecretVersion {
            version: version.version,
            provider: version.provider,
            locator: version.locator,
            added_at: version.added_at.into(),
        });
        Self {
            id: state.secret_id,
            company_id: state.company_id,
            name: state.name,
            status: state.status,
            generation: state.generation,
            versions: versions.collect(),
            reads: state.reads,
            last_read_at: state.last_read_at.map(Moment),
            created_at: state.created_at.into(),
            removed_at: state.removed_at.map(Moment),
            updated_at: state.updated_at.into(),
            revision: state.revision,
            position: state.position.0,
        }
    }
}
