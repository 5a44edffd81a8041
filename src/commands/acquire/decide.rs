//! What an acquire is decided on. Pure: state and readings go in, an event or a refusal comes out.

use chrono::{DateTime, Utc};
use lease_events::environment::{EnvironmentState, EnvironmentStatus};
use lease_events::id::{LeaseId, LedgerId};
use lease_events::lease::event::LeaseRequested;

use super::AcquireRequest;
use crate::commands::error::{CommandError, moment};
use crate::drivers::{LeasePlan, LeaseScope};

/// Longest issue, agent, workspace or adapter name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// What the request does not say.
pub(super) struct Facts {
    pub(super) ledger_id: LedgerId,
    pub(super) lease_id: LeaseId,
    pub(super) generation: u32,
    pub(super) owner: String,
    pub(super) now: DateTime<Utc>,
    pub(super) settle_at: DateTime<Utc>,
}

/// Refuses what can never be right, whatever the environment.
pub(super) fn check_request(request: &AcquireRequest, now: DateTime<Utc>) -> Result<(), CommandError> {
    let names: [(&'static str, &Option<String>); 5] = [
        ("issueId", &request.issue_id),
        ("agentId", &request.agent_id),
        ("executionWorkspaceId", &request.execution_workspace_id),
        ("executionWorkspaceMode", &request.execution_workspace_mode),
        ("adapterType", &request.adapter_type),
    ];
    for (field, name) in names {
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            let sentence = format!("\"{field}\" must have 1 to {NAME_BYTES_MAX} bytes, or be left out.");
            return Err(CommandError::Invalid { field, sentence });
        }
    }
    match request.requested_expires_at {
        Some(at) if at <= now => Err(CommandError::Invalid {
            field: "requestedExpiresAt",
            sentence: format!("\"requestedExpiresAt\" {} is not in the future; it is {} now.", moment(at), moment(now)),
        }),
        _ => Ok(()),
    }
}

/// Refuses an environment that gives no leases (B1).
pub(super) fn check_environment(environment: &EnvironmentState) -> Result<(), CommandError> {
    match environment.status {
        EnvironmentStatus::Active => Ok(()),
        EnvironmentStatus::Archived => Err(CommandError::EnvironmentNotActive { name: environment.name.clone() }),
    }
}

/// The intent.
pub(super) fn requested(
    request: &AcquireRequest,
    environment: &EnvironmentState,
    plan: &LeasePlan,
    reuse_fingerprint: Option<String>,
    facts: Facts,
) -> LeaseRequested {
    LeaseRequested {
        lease_id: facts.lease_id,
        company_id: request.company_id,
        ledger_id: facts.ledger_id,
        environment_id: environment.environment_id,
        environment_name: environment.name.clone(),
        environment_revision: environment.revision,
        driver: environment.driver.clone(),
        provider: plan.provider.clone(),
        policy: plan.policy,
        run_id: request.run_id,
        issue_id: request.issue_id.clone(),
        agent_id: request.agent_id.clone(),
        execution_workspace_id: request.execution_workspace_id.clone(),
        execution_workspace_mode: request.execution_workspace_mode.clone(),
        adapter_type: request.adapter_type.clone(),
        requested_expires_at: request.requested_expires_at,
        config: plan.config.clone(),
        reuse_fingerprint,
        generation: facts.generation,
        workspace_kind: plan.workspace_kind,
        owner: facts.owner,
        requested_at: facts.now,
        settle_at: facts.settle_at,
    }
}

/// Who the driver's acquire is for: the intent, word for word.
pub(super) fn scope_of(requested: &LeaseRequested, fencing_token: u64) -> LeaseScope {
    LeaseScope {
        ledger_id: requested.ledger_id,
        company_id: requested.company_id,
        environment_id: requested.environment_id,
        lease_id: requested.lease_id,
        run_id: requested.run_id,
        issue_id: requested.issue_id.clone(),
        agent_id: requested.agent_id.clone(),
        execution_workspace_id: requested.execution_workspace_id.clone(),
        execution_workspace_mode: requested.execution_workspace_mode.clone(),
        adapter_type: requested.adapter_type.clone(),
        config: requested.config.clone(),
        fencing_token,
        attempt: 1,
    }
}
