//! Leases on the wire.

use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::event::LeaseReuseDecided;
use lease_events::lease::state::LeaseState;
use lease_events::lease::vocabulary::{
    CleanupStatus, LeaseStatus, NextActionKind, Policy, Reason, ReleaseStatus, Verdict, WorkspaceKind,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::environment::Environment;
use super::{Moment, read, vocabulary as schema};
use crate::commands::acquire::AcquiredHow;

/// The right of one run to use one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The lease.
    #[schema(value_type = Uuid)]
    pub id: LeaseId,
    /// The tenant.
    #[schema(value_type = Uuid)]
    pub company_id: CompanyId,
    /// The environment.
    #[schema(value_type = Uuid)]
    pub environment_id: EnvironmentId,
    /// Its name when the lease was requested.
    pub environment_name: String,
    /// The key of the driver.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// What becomes of the provider lease at the end.
    #[schema(value_type = schema::Policy)]
    pub policy: Policy,
    /// Where it stands.
    #[schema(value_type = schema::LeaseStatus)]
    pub status: LeaseStatus,
    /// Where the obligation to leave nothing at the provider stands; `null` while there is none.
    #[schema(value_type = Option<schema::CleanupStatus>)]
    pub cleanup_status: Option<CleanupStatus>,
    /// How many cleanup attempts really reached the provider.
    pub cleanup_attempts: u32,
    /// Whether an operator must look.
    pub needs_attention: bool,
    /// The run that owns it; an ad-hoc lease has none.
    #[schema(value_type = Option<Uuid>)]
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
    /// The driver's config as it was when the lease was requested, secrets as references.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Which lease this is among those of one run and one reuse fingerprint, from 0.
    pub generation: u32,
    /// What the workspace is worth.
    #[schema(value_type = schema::WorkspaceKind)]
    pub workspace_kind: WorkspaceKind,
    /// The provider's name of what it holds or held.
    pub provider_lease_id: Option<String>,
    /// The token of its holding, which every mutation by its holder must show; `null` until the provider answered.
    pub fencing_token: Option<u64>,
    /// What the driver recorded of the provider lease.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// When it ends.
    pub expires_at: Option<Moment>,
    /// The end that the provider confirmed.
    pub provider_expires_at: Option<Moment>,
    /// Where commands start.
    pub cwd: Option<String>,
    /// The workspace realization record.
    #[schema(value_type = Option<Object>)]
    pub workspace_realization: Option<Value>,
    /// When it was requested.
    pub requested_at: Moment,
    /// When the provider answered.
    pub acquired_at: Option<Moment>,
    /// When its holder last did something with it.
    pub last_used_at: Moment,
    /// When it was over.
    pub ended_at: Option<Moment>,
    /// Why it ended.
    #[schema(value_type = Option<schema::Reason>)]
    pub end_reason: Option<Reason>,
    /// What failed, in words.
    pub failure_reason: Option<String>,
    /// The lease that took over what this one held.
    #[schema(value_type = Option<Uuid>)]
    pub claimed_by: Option<LeaseId>,
    /// The lease whose provider lease this one took over.
    #[schema(value_type = Option<Uuid>)]
    pub resumed_from: Option<LeaseId>,
    /// What happens next; `null` where nothing is due.
    pub next_action: Option<NextAction>,
    /// When it last changed.
    pub updated_at: Moment,
    /// The revision of its last event: its ETag.
    pub revision: u64,
    /// The position of its last event in the log: what `atLeast` may be given.
    pub position: u64,
}

/// What happens to a lease next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextAction {
    /// What.
    #[schema(value_type = schema::NextActionKind)]
    pub action: NextActionKind,
    /// When; `null` where it waits for somebody.
    pub at: Option<Moment>,
    /// Because of what.
    pub because: String,
}

/// A lease that was acquired, or was held already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcquiredLease {
    /// The environment as it was decided on.
    pub environment: Environment,
    /// The lease.
    pub lease: Lease,
    /// The execution workspace that it is for.
    pub lease_context: LeaseContext,
    /// How it came to its provider lease.
    #[schema(value_type = schema::AcquiredHow)]
    pub how: AcquiredHow,
}

/// The execution workspace that a lease is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseContext {
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// How it is used.
    pub execution_workspace_mode: Option<String>,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseAnswer {
    /// The lease.
    pub lease: Lease,
}

/// Leases, newest created first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseList {
    /// The leases.
    pub leases: Vec<Lease>,
    /// What to give as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// Why a lease has what it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseWhy {
    /// The lease as it is now.
    pub lease: Lease,
    /// Its reuse decisions, oldest first; none where its policy has no reuse.
    pub decisions: Vec<ReuseDecision>,
}

/// One reuse decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReuseDecision {
    /// When.
    pub at: Moment,
    /// The lease whose provider lease was to be resumed; `null` where a fresh one was to be acquired.
    #[schema(value_type = Option<Uuid>)]
    pub chosen: Option<LeaseId>,
    /// What was looked at, in that order.
    pub candidates: Vec<ReuseCandidate>,
}

/// One candidate of a reuse decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReuseCandidate {
    /// The lease that held it last.
    #[schema(value_type = Uuid)]
    pub lease_id: LeaseId,
    /// What it held.
    pub provider_lease_id: Option<String>,
    /// What was decided.
    #[schema(value_type = schema::Verdict)]
    pub verdict: Verdict,
    /// The rest of the reason.
    pub detail: Option<String>,
}

/// Which lease is wanted, of which environment, for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcquireLease {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// The environment.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub environment_id: EnvironmentId,
    /// The run that will own it; without one the lease is ad hoc, and always ephemeral.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
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
    /// When the caller wants it to end.
    pub requested_expires_at: Option<Moment>,
}

/// By what right a lease is changed: `fencingToken` (its holder) or `reason` (an operator).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeLease {
    /// The tenant, where the caller is bound to one.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The holder's token.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "read::whole_number_option")]
    pub fencing_token: Option<u64>,
    /// An operator's reason, which goes on record.
    pub reason: Option<String>,
}

/// The end of a lease's cleanup without the provider's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaiveCleanup {
    /// The tenant, where the caller is bound to one.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The operator's reason, which goes on record.
    pub reason: String,
}

/// The workspace to make ready.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RealizeLease {
    /// The tenant, where the caller is bound to one.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The holder's token.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "read::whole_number_option")]
    pub fencing_token: Option<u64>,
    /// An operator's reason, which goes on record.
    pub reason: Option<String>,
    /// The workspace.
    #[serde(default, deserialize_with = "read::object")]
    pub workspace: Workspace,
}

/// The workspace that a run wants to work in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workspace {
    /// Where it is on the orchestrator's machine.
    pub local_path: Option<String>,
    /// Where it is on the environment.
    pub remote_path: Option<String>,
    /// How it is used.
    pub mode: Option<String>,
    /// Whatever else the orchestrator knows.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// A new end of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewLease {
    /// The tenant, where the caller is bound to one.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The holder's token.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "read::whole_number_option")]
    pub fencing_token: Option<u64>,
    /// An operator's reason, which goes on record.
    pub reason: Option<String>,
    /// The new end: in the future, and not beyond what the provider confirmed.
    pub expires_at: Moment,
}

/// The end of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseLease {
    /// The tenant, where the caller is bound to one.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The holder's token.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    #[serde(default, deserialize_with = "read::whole_number_option")]
    pub fencing_token: Option<u64>,
    /// An operator's reason, which goes on record.
    pub reason: Option<String>,
    /// How it shall end; `released` where absent.
    #[schema(value_type = Option<schema::ReleaseStatus>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub status: Option<ReleaseStatus>,
}

/// Which leases are asked for; what is absent does not narrow.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseQuery {
    /// The tenant.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The environment.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub environment_id: Option<EnvironmentId>,
    /// The run.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub run_id: Option<RunId>,
    /// The statuses, separated by commas.
    #[param(example = "active,releasing")]
    pub status: Option<String>,
    /// Only those that are open: requested, `effect_unknown`, active or releasing.
    #[param(value_type = Option<bool>)]
    #[serde(default, deserialize_with = "read::bool_in_query")]
    pub open: Option<bool>,
    /// Only those that an operator must look at.
    #[param(value_type = Option<bool>)]
    #[serde(default, deserialize_with = "read::bool_in_query")]
    pub needs_attention: Option<bool>,
    /// Most rows wanted: 1 to 1000; 100 where absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub limit: Option<usize>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
    /// Answers from projections that have seen at least this position; waits a few seconds for them.
    #[param(value_type = Option<u64>, minimum = 0)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub at_least: Option<u64>,
}

/// Whose lease is meant, and as it was when.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseAtQuery {
    /// The tenant, where the caller is bound to one.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// A position of the log, or a moment in RFC 3339: the lease as it was then. Now where absent.
    #[param(example = "2026-01-31T12:00:00Z")]
    pub at: Option<String>,
}

/// Whose lease is meant.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseScope {
    /// The tenant, where the caller is bound to one.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
}

impl From<LeaseState> for Lease {
    fn from(state: LeaseState) -> Self {
        let (provider_lease_id, fencing_token, metadata, provider_expires_at) = match state.provider_lease {
            Some(held) => (held.provider_lease_id, Some(held.fencing_token), Some(held.metadata), held.expires_at),
            None => (None, None, None, None),
        };
        Self {
            id: state.lease_id,
            company_id: state.company_id,
            environment_id: state.environment_id,
            environment_name: state.environment_name,
            driver: state.driver,
            provider: state.provider,
            policy: state.policy,
            status: state.status,
            cleanup_status: state.cleanup_status,
            cleanup_attempts: state.cleanup_attempts,
            needs_attention: state.needs_attention,
            run_id: state.run_id,
            issue_id: state.issue_id,
            agent_id: state.agent_id,
            execution_workspace_id: state.execution_workspace_id,
            execution_workspace_mode: state.execution_workspace_mode,
            adapter_type: state.adapter_type,
            config: state.config,
            generation: state.generation,
            workspace_kind: state.workspace_kind,
            provider_lease_id,
            fencing_token,
            metadata,
            expires_at: state.expires_at.map(Moment),
            provider_expires_at: provider_expires_at.map(Moment),
            cwd: state.cwd,
            workspace_realization: state.realization,
            requested_at: state.requested_at.into(),
            acquired_at: state.acquired_at.map(Moment),
            last_used_at: state.last_used_at.into(),
            ended_at: state.ended_at.map(Moment),
            end_reason: state.end_reason,
            failure_reason: state.failure_reason,
            claimed_by: state.claimed_by,
            resumed_from: state.resumed_from,
            next_action: state.next_action.map(|next| NextAction {
                action: next.action,
                at: next.at.map(Moment),
                because: next.because,
            }),
            updated_at: state.updated_at.into(),
            revision: state.revision,
            position: state.position.0,
        }
    }
}

impl ReuseDecision {
    /// A decision as it stands on the lease's stream.
    pub(crate) fn recorded(at: Moment, decided: LeaseReuseDecided) -> Self {
        let candidates = decided.candidates.into_iter().map(|candidate| ReuseCandidate {
            lease_id: candidate.lease_id,
            provider_lease_id: candidate.provider_lease_id,
            verdict: candidate.verdict,
            detail: candidate.detail,
        });
        Self { at, chosen: decided.chosen, candidates: candidates.collect() }
    }
}
