//! The secret: a name in a company under which a value is kept elsewhere. Its events and their fold. Pure.
//!
//! **Invariant:** no event of a secret holds its value, or anything that the value could be guessed from: only which
//! versions there are, where each is kept, and who read which.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::{DomainEvent, decode};
use crate::events_of_category;
use crate::fold::{FoldError, StreamState};
use crate::id::{CompanyId, EnvironmentId, LeaseId, SecretId};
use crate::record::{Position, RecordedEvent, StreamId};

events_of_category! {
    /// A transition of a secret.
    SecretEvent, upcasters: &[];
    Created(SecretCreated) = "secret-created" v 1;
    VersionAdded(SecretVersionAdded) = "secret-version-added" v 1;
    Read(SecretRead) = "secret-read" v 1;
    Removed(SecretRemoved) = "secret-removed" v 1;
}

/// The secret is there; its first version follows in the same append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretCreated {
    /// The secret: derived from company, name and generation.
    pub secret_id: SecretId,
    /// The tenant.
    pub company_id: CompanyId,
    /// Unique among the company's secrets that are there.
    pub name: String,
    /// Which secret of this company and name it is, from 0: removed ones leave the name free.
    pub generation: u32,
}

/// There is one more version, and it is the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersionAdded {
    /// Its number, from 1, without a gap.
    pub version: u32,
    /// What keeps the value.
    pub provider: SecretProviderKind,
    /// Where the provider keeps it; never the value.
    pub locator: String,
}

/// The value was handed out; it is recorded before that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRead {
    /// Which version.
    pub version: u32,
    /// The environment whose config names the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// The lease that it was read for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<LeaseId>,
    /// What for, such as `acquire`.
    pub purpose: String,
}

/// The secret is gone: it is read no more, and what the ledger itself kept of it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRemoved {
    /// The caller's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What keeps a secret's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretProviderKind {
    /// The ledger's own database, encrypted.
    Ledger,
    /// A variable of the ledger's process.
    Environment,
    /// A file below a folder that the operator grants.
    File,
}

impl SecretProviderKind {
    /// As it is spelled in events, tables and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Environment => "environment",
            Self::File => "file",
        }
    }
}

/// Whether a secret can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretStatus {
    /// It can.
    Active,
    /// It cannot, for good.
    Removed,
}

impl SecretStatus {
    /// As it is spelled in events, tables and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Removed => "removed",
        }
    }
}

/// A secret, folded from its stream. It holds no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretState {
    /// The secret.
    pub secret_id: SecretId,
    /// The tenant.
    pub company_id: CompanyId,
    /// Unique among the company's secrets that are there.
    pub name: String,
    /// Whether it can be read.
    pub status: SecretStatus,
    /// Which secret of this company and name it is.
    pub generation: u32,
    /// Its versions; the first is number 1.
    pub versions: Vec<SecretVersionState>,
    /// How often it was read.
    pub reads: u64,
    /// When it was last read.
    pub last_read_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was removed.
    pub removed_at: Option<DateTime<Utc>>,
    /// The revision of the last event folded.
    pub revision: u64,
    /// The position of its first event.
    pub created_position: Position,
    /// The position of the last event folded.
    pub position: Position,
    /// When the last event folded was recorded.
    pub updated_at: DateTime<Utc>,
}

/// One version of a secret: where its value is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersionState {
    /// Its number, from 1.
    pub version: u32,
    /// What keeps the value.
    pub provider: SecretProviderKind,
    /// Where the provider keeps it.
    pub locator: String,
    /// When it was added.
    pub added_at: DateTime<Utc>,
}

impl StreamState for SecretState {
    fn apply(state: Option<Self>, recorded: &RecordedEvent) -> Result<Self, FoldError> {
        let event: SecretEvent = decode(recorded)?;
        let status = state.as_ref().map(|state| state.status);
        let illegal = || FoldError::IllegalInSecret {
            stream: recorded.stream_id.to_string(),
            revision: recorded.stream_revision,
            status,
            event_type: event.event_type(),
        };
        let mut next = match (state, &event) {
            (None, SecretEvent::Created(created)) => Self::begin(created, recorded),
            (Some(mut state), _) if state.status == SecretStatus::Active => {
                if !state.evolve(&event, recorded.recorded_at) {
                    return Err(illegal());
                }
                state
            }
            _ => return Err(illegal()),
        };
        next.revision = recorded.stream_revision;
        next.position = recorded.position;
        next.updated_at = recorded.recorded_at;
        Ok(next)
    }

    fn stream_id(&self) -> StreamId {
        StreamId::secret(self.secret_id)
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl SecretState {
    /// The version of this number; `None` asks for the latest.
    #[must_use]
    pub fn version(&self, number: Option<u32>) -> Option<&SecretVersionState> {
        match number {
            None => self.versions.last(),
            Some(number) => self.versions.iter().find(|version| version.version == number),
        }
    }

    /// The number that the next version gets.
    #[must_use]
    pub fn next_version(&self) -> u32 {
        self.versions.last().map_or(1, |latest| latest.version + 1)
    }

    fn begin(created: &SecretCreated, recorded: &RecordedEvent) -> Self {
        Self {
            secret_id: created.secret_id,
            company_id: created.company_id,
            name: created.name.clone(),
            status: SecretStatus::Active,
            generation: created.generation,
            versions: Vec::new(),
            reads: 0,
            last_read_at: None,
            created_at: recorded.recorded_at,
            removed_at: None,
            revision: 0,
            created_position: recorded.position,
            position: recorded.position,
            updated_at: recorded.recorded_at,
        }
    }

    /// What `event` makes of a secret that is there; whether it may follow.
    fn evolve(&mut self, event: &SecretEvent, at: DateTime<Utc>) -> bool {
        match event {
            SecretEvent::Created(_) => return false,
            SecretEvent::VersionAdded(added) if added.version != self.next_version() => return false,
            SecretEvent::VersionAdded(added) => self.versions.push(SecretVersionState {
                version: added.version,
                provider: added.provider,
                locator: added.locator.clone(),
                added_at: at,
            }),
            SecretEvent::Read(read) if self.version(Some(read.version)).is_none() => return false,
            SecretEvent::Read(_) => {
                self.reads += 1;
                self.last_read_at = Some(at);
            }
            SecretEvent::Removed(_) => {
                self.status = SecretStatus::Removed;
                self.removed_at = Some(at);
            }
        }
        true
    }
}
