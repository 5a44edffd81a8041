//! The events of a lease stream, `lease-<uuid>`. One struct an event; every field is stored and never renamed.
//!
//! Each event that starts or plans something carries its own deadline, so that a change of policy is never
//! retroactive. None holds a secret: config holds references, commands lose their arguments, faults are sanitised.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::vocabulary::{
    CleanupStatus, Effect, ExecutionOutcome, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown,
    Verdict, WorkspaceKind,
};
use crate::events_of_category;
use crate::failure::Fault;
use crate::id::{CommandId, CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};

events_of_category! {
    /// A transition of a lease.
    LeaseEvent, upcasters: super::upcast::UPCASTERS;
    Requested(LeaseRequested) = "lease-requested" v 1;
    ReuseClaimed(LeaseReuseClaimed) = "lease-reuse-claimed" v 1;
    ReuseDecided(LeaseReuseDecided) = "lease-reuse-decided" v 1;
    ProviderAcquired(LeaseProviderAcquired) = "lease-provider-acquired" v 1;
    Resumed(LeaseResumed) = "lease-resumed" v 1;
    AcquireFailed(LeaseAcquireFailed) = "lease-acquire-failed" v 1;
    EffectUnknown(LeaseEffectUnknown) = "lease-effect-unknown" v 1;
    Realized(LeaseRealized) = "lease-realized" v 1;
    Renewed(LeaseRenewed) = "lease-renewed" v 1;
    CommandStarted(LeaseCommandStarted) = "lease-command-started" v 1;
    CommandExecuted(LeaseCommandExecuted) = "lease-command-executed" v 1;
    ReleaseRequested(LeaseReleaseRequested) = "lease-release-requested" v 1;
    Released(LeaseReleased) = "lease-released" v 1;
    CleanupFailed(LeaseCleanupFailed) = "lease-cleanup-failed" v 1;
    CleanupSucceeded(LeaseCleanupSucceeded) = "lease-cleanup-succeeded" v 1;
    CleanupEscalated(LeaseCleanupEscalated) = "lease-cleanup-escalated" v 1;
    CleanupWaived(LeaseCleanupWaived) = "lease-cleanup-waived" v 1;
    Destroyed(LeaseDestroyed) = "lease-destroyed" v 1;
}

/// The intent, durable before any side effect: who wants what, under which policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRequested {
    /// The lease.
    pub lease_id: LeaseId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The ledger: what labels at the provider bear.
    pub ledger_id: LedgerId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its name when the lease was requested.
    pub environment_name: String,
    /// The revision of the environment's stream that was decided on.
    pub environment_revision: u64,
    /// The key of the driver.
    pub driver: String,
    /// The provider, such as `local` or `bubblewrap`.
    pub provider: String,
    /// What becomes of the provider lease at the end.
    pub policy: Policy,
    /// The run that owns it; an ad-hoc acquire has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The issue that the run works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_id: Option<String>,
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The execution workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_workspace_id: Option<String>,
    /// How the workspace is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_workspace_mode: Option<String>,
    /// The kind of agent adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_type: Option<String>,
    /// When the caller wants it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_expires_at: Option<DateTime<Utc>>,
    /// The driver's config, secrets as references: all that release and destroy will need.
    pub config: Value,
    /// What a kept provider lease must have in common to be reused; absent where the policy has no reuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_fingerprint: Option<String>,
    /// Which lease this is among those of one run and one fingerprint, from 0.
    pub generation: u32,
    /// What the workspace is worth.
    pub workspace_kind: WorkspaceKind,
    /// The process that runs the effect.
    pub owner: String,
    /// When the request was taken.
    pub requested_at: DateTime<Utc>,
    /// When an acquire without an outcome counts as lost, and is settled.
    pub settle_at: DateTime<Utc>,
}

/// On the stream of the lease that gives up its provider lease: which lease takes it. At most one ever does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReuseClaimed {
    /// The lease that takes over.
    pub by_lease_id: LeaseId,
    /// Its run.
    pub by_run_id: RunId,
    /// What is taken over.
    pub provider_lease_id: String,
    /// The fencing token that the resume will carry: higher than any before it on this provider lease.
    pub next_fencing_token: u64,
}

/// Which candidates were looked at, and for each why it was or was not taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReuseDecided {
    /// What was looked at, in that order; at most a few.
    pub candidates: Vec<Candidate>,
    /// The lease whose provider lease is resumed next; absent where a fresh one is acquired, or the acquire fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<LeaseId>,
}

/// One candidate of a reuse decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The lease that held it last.
    pub lease_id: LeaseId,
    /// What it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_lease_id: Option<String>,
    /// What was decided.
    pub verdict: Verdict,
    /// The rest of the reason, such as the names of the config keys that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The provider answered: the lease holds something from here on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseProviderAcquired {
    /// The provider's name of it; `null` where the provider has none.
    pub provider_lease_id: Option<String>,
    /// What the driver records of it, secrets removed.
    pub metadata: Map<String, Value>,
    /// The end that the provider confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Who holds the highest token of a provider lease holds the provider lease. Below 2^53.
    pub fencing_token: u64,
}

/// An existing provider lease was resumed for this lease, under a new and higher token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseResumed {
    /// The provider's name of it.
    pub provider_lease_id: String,
    /// What the driver records of it, secrets removed.
    pub metadata: Map<String, Value>,
    /// The end that the provider confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Higher than every token before it on this provider lease. Below 2^53.
    pub fencing_token: u64,
    /// The lease that it was taken over from; absent where a lease resumed its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_lease_id: Option<LeaseId>,
}

/// The acquire came to nothing, and nothing of it is at the provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseAcquireFailed {
    /// Why.
    pub reason: Reason,
    /// What the driver said, where it was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// An effect may or may not have happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseEffectUnknown {
    /// Which effect.
    pub effect: Effect,
    /// What is known of it.
    pub fault: Fault,
    /// How it will be settled, in the driver's words.
    pub settle_by: String,
    /// When it will be settled; where somebody is at it, when that counts as lost.
    pub settle_at: DateTime<Utc>,
    /// The process that is settling it, where one is: nobody else may begin to before `settle_at`, while that one lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// The workspace is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRealized {
    /// Where commands start.
    pub cwd: String,
    /// The workspace realization record, version 1.
    pub realization: Value,
}

/// The lease lasts until a new moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRenewed {
    /// The new end.
    pub expires_at: DateTime<Utc>,
}

/// The intent to run a command in the workspace, durable before it begins. Never its arguments, environment or input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseCommandStarted {
    /// The ledger's command that runs it: its end names the same one.
    pub command_id: CommandId,
    /// The program.
    pub command: String,
    /// How many arguments it was given.
    pub argument_count: u32,
    /// The process that runs it.
    pub owner: String,
    /// When a command without an end on record counts as lost.
    pub settle_at: DateTime<Utc>,
}

/// A command in the workspace came to its end, or nobody knows. Never its arguments, environment, input or output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseCommandExecuted {
    /// The ledger's command that ran it, as its start names it; absent where no start is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The program.
    pub command: String,
    /// How many arguments it was given.
    pub argument_count: u32,
    /// How far the ledger knows what became of it.
    pub outcome: ExecutionOutcome,
    /// Its exit code, where it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, such as `SIGKILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether its time ran out.
    pub timed_out: bool,
    /// The limit that ended it, such as `output`, `memory` or `processes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, where it was not done or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// The intent to end the lease, durable before the provider is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReleaseRequested {
    /// How it shall end.
    pub status: ReleaseStatus,
    /// What shall become of the provider lease.
    pub teardown: Teardown,
    /// Why.
    pub reason: Reason,
    /// The operator's own words, where an operator asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The process that runs the effect.
    pub owner: String,
    /// When a release without an outcome counts as lost, and is tried again.
    pub settle_at: DateTime<Utc>,
}

/// The lease is over. On a lease that is over and was claimed: what was claimed comes back, as `released` where nobody had
/// touched it and another may claim it, as `retained` where it could not be resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReleased {
    /// `released`, `expired`, `failed` or `retained`.
    pub status: LeaseStatus,
    /// Why.
    pub reason: Reason,
    /// Where cleanup stands; absent where nothing was ever held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup_status: Option<CleanupStatus>,
    /// What failed, where it ended as `failed` or `retained`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// What the provider said, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// What a provider says is there after a release or destroy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// What is there now.
    pub state: ReceiptState,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_lease_id: Option<String>,
}

/// An attempt to leave nothing at the provider failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseCleanupFailed {
    /// The number of the attempt, from 1, among those in which the provider was really called.
    pub attempt: u32,
    /// Whether the provider was really called; only then does the attempt count.
    pub charged: bool,
    /// What went wrong.
    pub fault: Fault,
    /// When it is tried next; absent where only an operator can go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<DateTime<Utc>>,
}

/// The provider's receipt: nothing of the lease is left there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseCleanupSucceeded {
    /// What the provider said.
    pub receipt: Receipt,
}

/// Retrying will not do: an operator must look. It is still tried daily.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseCleanupEscalated {
    /// How many attempts really reached the provider.
    pub attempts: u32,
    /// Why it was given to an operator.
    pub fault: Fault,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<DateTime<Utc>>,
}

/// An operator gave the cleanup up: the only end without a receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseCleanupWaived {
    /// The operator's own words.
    pub note: String,
}

/// The provider lease was torn down on request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseDestroyed {
    /// How the lease ended.
    pub status: LeaseStatus,
    /// Why.
    pub reason: Reason,
    /// What the provider said.
    pub receipt: Receipt,
}
