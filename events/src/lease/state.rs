//! What a lease is now: the fold of its events.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::LeaseEvent;
use super::vocabulary::{
    CleanupStatus, Effect, LeaseStatus, NextActionKind, Policy, Reason, ReleaseStatus, Teardown, WorkspaceKind,
};
use crate::codec::decode;
use crate::failure::Fault;
use crate::fold::{FoldError, StreamState};
use crate::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use crate::record::{Position, RecordedEvent, StreamId};

/// A lease, folded from its stream.
///
/// It is also kept in the `state` column of `current_leases`, as a snapshot that any rebuild makes again; its JSON
/// shape is no contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseState {
    /// The lease.
    pub lease_id: LeaseId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The ledger that made it.
    pub ledger_id: LedgerId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its name when the lease was requested.
    pub environment_name: String,
    /// The key of the driver.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// What becomes of the provider lease at the end.
    pub policy: Policy,
    /// The run that owns it; an ad-hoc lease has none.
    pub run_id: Option<RunId>,
    /// The issue that the run works on.
    pub issue_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// How the workspace is used.
    pub execution_workspace_mode: Option<String>,
    /// The kind of agent adapter.
    pub adapter_type: Option<String>,
    /// The driver's config as it was, secrets as references.
    pub config: Value,
    /// What a kept provider lease must have in common to be reused.
    pub reuse_fingerprint: Option<String>,
    /// Which lease this is among those of one run and one fingerprint.
    pub generation: u32,
    /// What the workspace is worth.
    pub workspace_kind: WorkspaceKind,
    /// Where it stands.
    pub status: LeaseStatus,
    /// The status that it ended with; absent while it is open.
    pub ended_as: Option<LeaseStatus>,
    /// Where the obligation to leave nothing at the provider stands; absent while there is none.
    pub cleanup_status: Option<CleanupStatus>,
    /// What it holds, or held, at the provider.
    pub provider_lease: Option<ProviderLease>,
    /// The lease whose provider lease this one took over.
    pub resumed_from: Option<LeaseId>,
    /// The lease whose provider lease is being resumed for this one.
    pub resuming_from: Option<LeaseId>,
    /// The effect that an intent began and no outcome ended.
    pub in_flight: Option<InFlight>,
    /// The release that was asked for.
    pub release: Option<ReleaseIntent>,
    /// The lease that took over what this one held, or tried to.
    pub claimed_by: Option<LeaseId>,
    /// The end that the caller wants.
    pub requested_expires_at: Option<DateTime<Utc>>,
    /// When it ends: the earlier of the wanted end and the provider's.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where commands start.
    pub cwd: Option<String>,
    /// The workspace realization record.
    pub realization: Option<Value>,
    /// Why it ended.
    pub end_reason: Option<Reason>,
    /// What failed, in words.
    pub failure_reason: Option<String>,
    /// Cleanup attempts that really reached the provider.
    pub cleanup_attempts: u32,
    /// Whether an operator must look.
    pub needs_attention: bool,
    /// The last thing that went wrong at the provider.
    pub last_fault: Option<Fault>,
    /// What happens next, when, and why; absent where nothing is due.
    pub next_action: Option<NextAction>,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// When the provider answered.
    pub acquired_at: Option<DateTime<Utc>>,
    /// When its holder last did something with it.
    pub last_used_at: DateTime<Utc>,
    /// When it was over.
    pub ended_at: Option<DateTime<Utc>>,
    /// The revision of the last event folded.
    pub revision: u64,
    /// The position of its first event.
    pub created_position: Position,
    /// The position of the last event folded.
    pub position: Position,
    /// When the last event folded was recorded.
    pub updated_at: DateTime<Utc>,
}

/// What a lease holds at the provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderLease {
    /// The provider's name of it.
    pub provider_lease_id: Option<String>,
    /// What the driver recorded of it.
    pub metadata: Map<String, Value>,
    /// The end that the provider confirmed.
    pub expires_at: Option<DateTime<Utc>>,
    /// The token of this holding.
    pub fencing_token: u64,
}

/// An effect that an intent began and no outcome ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Which effect.
    pub effect: Effect,
    /// The process that runs it, or settles it; `None` where nobody is at it.
    #[serde(default)]
    pub owner: Option<String>,
    /// When it counts as lost.
    pub settle_at: DateTime<Utc>,
}

/// A release that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseIntent {
    /// How the lease shall end.
    pub status: ReleaseStatus,
    /// What shall become of the provider lease.
    pub teardown: Teardown,
    /// Why.
    pub reason: Reason,
}

/// What happens to a lease next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextAction {
    /// What.
    pub action: NextActionKind,
    /// When; absent where it waits for somebody.
    pub at: Option<DateTime<Utc>>,
    /// Because of what.
    pub because: String,
}

impl StreamState for LeaseState {
    fn apply(state: Option<Self>, recorded: &RecordedEvent) -> Result<Self, FoldError> {
        let event: LeaseEvent = decode(recorded)?;
        Self::evolve(state, &event, recorded).map_err(|illegal| FoldError::Illegal {
            stream: recorded.stream_id.to_string(),
            revision: recorded.stream_revision,
            illegal,
        })
    }

    fn stream_id(&self) -> StreamId {
        StreamId::lease(self.lease_id)
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl LeaseState {
    /// Whether something of it is, or may be, kept at the provider after its end, in its own name.
    #[must_use]
    pub fn keeps_something(&self) -> bool {
        matches!(self.cleanup_status, Some(CleanupStatus::Pending | CleanupStatus::Failed))
    }

    /// Whether another lease may claim what it keeps.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        matches!(self.status, LeaseStatus::Released | LeaseStatus::Retained)
            && self.policy.allows_reuse()
            && self.cleanup_status == Some(CleanupStatus::Pending)
            && self.claimed_by.is_none()
            && self.run_id.is_some()
            && self.provider_lease_id().is_some()
    }

    /// Whether what it held is another lease's now, and that one's to clean up: claimed, and not come back.
    #[must_use]
    pub fn is_claimed_away(&self) -> bool {
        !self.status.is_open() && self.claimed_by.is_some() && self.cleanup_status.is_none()
    }

    /// The provider's name of what it holds or held.
    #[must_use]
    pub fn provider_lease_id(&self) -> Option<&str> {
        self.provider_lease.as_ref().and_then(|held| held.provider_lease_id.as_deref())
    }

    /// The highest token known of its provider lease, from the moment the provider answered: that of its holding,
    /// or of the claim that took it over.
    #[must_use]
    pub fn fencing_token(&self) -> Option<u64> {
        self.provider_lease.as_ref().map(|held| held.fencing_token)
    }
}
