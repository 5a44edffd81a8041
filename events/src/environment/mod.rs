//! The environment: a named, configured place where agent work runs. Its events and their fold. Pure.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::{DomainEvent, decode};
use crate::events_of_category;
use crate::fold::{FoldError, StreamState};
use crate::id::{CompanyId, EnvironmentId};
use crate::record::{Position, RecordedEvent, StreamId};

events_of_category! {
    /// A transition of an environment.
    EnvironmentEvent, upcasters: &[];
    Created(EnvironmentCreated) = "environment-created" v 1;
    Updated(EnvironmentUpdated) = "environment-updated" v 1;
    Probed(EnvironmentProbed) = "environment-probed" v 1;
    Archived(EnvironmentArchived) = "environment-archived" v 1;
}

/// The environment is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentCreated {
    /// The environment: derived from company, driver, name and generation.
    pub environment_id: EnvironmentId,
    /// The tenant.
    pub company_id: CompanyId,
    /// Unique together with the driver among the company's active environments.
    pub name: String,
    /// The key of the driver.
    pub driver: String,
    /// The driver's config, secrets as references.
    pub config: Value,
    /// Which environment of this company, driver and name it is, from 0: archived ones leave the name free.
    pub generation: u32,
}

/// The config is another one; leases that are there keep theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentUpdated {
    /// The whole new config.
    pub config: Value,
}

/// The driver was asked whether the environment would work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentProbed {
    /// Whether it would.
    pub ok: bool,
    /// One line.
    pub summary: String,
}

/// No new lease is given on it; its history stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentArchived {
    /// The caller's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whether leases are given on an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentStatus {
    /// They are.
    Active,
    /// They are not, for good.
    Archived,
}

impl EnvironmentStatus {
    /// As it is spelled in events, tables and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }
}

/// An environment, folded from its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentState {
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The tenant.
    pub company_id: CompanyId,
    /// Unique together with the driver among the company's active environments.
    pub name: String,
    /// The key of the driver.
    pub driver: String,
    /// Whether leases are given on it.
    pub status: EnvironmentStatus,
    /// The driver's config, secrets as references.
    pub config: Value,
    /// Which environment of this company, driver and name it is.
    pub generation: u32,
    /// The last probe, where there was one.
    pub last_probe: Option<ProbeRecord>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was archived.
    pub archived_at: Option<DateTime<Utc>>,
    /// The revision of the last event folded.
    pub revision: u64,
    /// The position of its first event.
    pub created_position: Position,
    /// The position of the last event folded.
    pub position: Position,
    /// When the last event folded was recorded.
    pub updated_at: DateTime<Utc>,
}

/// What a probe found, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeRecord {
    /// Whether the environment would work.
    pub ok: bool,
    /// One line.
    pub summary: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl StreamState for EnvironmentState {
    fn apply(state: Option<Self>, recorded: &RecordedEvent) -> Result<Self, FoldError> {
        let event: EnvironmentEvent = decode(recorded)?;
        let status = state.as_ref().map(|state| state.status);
        let illegal = || FoldError::IllegalInEnvironment {
            stream: recorded.stream_id.to_string(),
            revision: recorded.stream_revision,
            status,
            event_type: event.event_type(),
        };
        let mut next = match (state, &event) {
            (None, EnvironmentEvent::Created(created)) => Self {
                environment_id: created.environment_id,
                company_id: created.company_id,
                name: created.name.clone(),
                driver: created.driver.clone(),
                status: EnvironmentStatus::Active,
                config: created.config.clone(),
                generation: created.generation,
                last_probe: None,
                created_at: recorded.recorded_at,
                archived_at: None,
                revision: 0,
                created_position: recorded.position,
                position: recorded.position,
                updated_at: recorded.recorded_at,
            },
            (Some(state), EnvironmentEvent::Updated(updated)) if state.status == EnvironmentStatus::Active => {
                Self { config: updated.config.clone(), ..state }
            }
            (Some(state), EnvironmentEvent::Probed(probed)) => {
                let probe = ProbeRecord { ok: probed.ok, summary: probed.summary.clone(), at: recorded.recorded_at };
                Self { last_probe: Some(probe), ..state }
            }
            (Some(state), EnvironmentEvent::Archived(_)) if state.status == EnvironmentStatus::Active => {
                Self { status: EnvironmentStatus::Archived, archived_at: Some(recorded.recorded_at), ..state }
            }
            _ => return Err(illegal()),
        };
        next.revision = recorded.stream_revision;
        next.position = recorded.position;
        next.updated_at = recorded.recorded_at;
        Ok(next)
    }

    fn stream_id(&self) -> StreamId {
        StreamId::environment(self.environment_id)
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}
