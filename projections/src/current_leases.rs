//! `current_leases`: one row a lease, whatever its status. Beside it, from the same fold, `reusable_leases`.
//!
//! **Invariant:** a lease's row is the fold of its stream, and nothing else; the events are interpreted in
//! `lease_events` alone.

use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::fold::StreamState;
use lease_events::id::{LeaseId, LedgerId};
use lease_events::lease::state::{InFlight, LeaseState, NextAction, ProviderLease, ReleaseIntent};
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, Reason, WorkspaceKind};
use lease_events::record::RecordedEvent;
use serde::Serialize;
use serde_json::Value as Json;

use crate::projection::ColumnKind::{self, Boolean, Integer, Text, Timestamp};
use crate::projection::{Column, Fold, Index, Row, STATE_COLUMN, Table, Value, View};
use crate::reusable_leases;

/// What is still to be settled: an open lease, or something that it may hold at the provider after its end.
pub const UNSETTLED: &str = "is_open = 1 OR cleanup_status IN ('pending', 'failed')";

/// The table.
pub const TABLE: Table = Table {
    name: "current_leases",
    version: 2,
    about: "One row a lease, open or over, as it is now.",
    columns: &[
        Column::new("lease_id", Text, "The lease (UUID).").holds("leaseId").fixed(),
        Column::new("company_id", Text, "The tenant (UUID).").holds("companyId").fixed(),
        Column::new("environment_id", Text, "The environment (UUID).").holds("environmentId").fixed(),
        Column::new("environment_name", Text, "The environment's name when the lease was requested.")
            .holds("environmentName")
            .fixed(),
        Column::new("driver", Text, "The driver: `local`, `ssh`, `sandbox` or `plugin`.").holds("driver").fixed(),
        Column::new("provider", Text, "The provider, such as `local` or `bubblewrap`.").holds("provider").fixed(),
        Column::new(
            "policy",
            Text,
            "What becomes of the provider lease at the end: `ephemeral`, `reuse_by_environment`, \
             `reuse_by_execution_workspace` or `retain_on_failure`.",
        )
        .holds("policy")
        .fixed(),
        Column::new("run_id", Text, "The run that owns it (UUID); NULL for an ad-hoc lease.")
            .holds("runId")
            .nullable()
            .fixed(),
        Column::new("issue_id", Text, "The issue that the run works on.").holds("issueId").nullable().fixed(),
        Column::new("agent_id", Text, "The agent.").holds("agentId").nullable().fixed(),
        Column::new("execution_workspace_id", Text, "The execution workspace.")
            .holds("executionWorkspaceId")
            .nullable()
            .fixed(),
        Column::new("execution_workspace_mode", Text, "How the workspace is used.")
            .holds("executionWorkspaceMode")
            .nullable()
            .fixed(),
        Column::new("adapter_type", Text, "The kind of agent adapter.").holds("adapterType").nullable().fixed(),
        Column::new(
            "status",
            Text,
            "`requested`, `effect_unknown`, `active`, `releasing`, `released`, `expired`, `failed`, `retained` or \
             `pending_cleanup`.",
        )
        .holds("status"),
        Column::new("is_open", Boolean, "1 while its run has, or may get, the use of it."),
        Column::new(
            "cleanup_status",
            Text,
            "`pending` (something is kept, or about to be removed), `failed` (it will be tried again) or `success` \
             (nothing is left); NULL while there is no such obligation.",
        )
        .holds("cleanupStatus")
        .nullable(),
        Column::new("needs_attention", Boolean, "1 where an operator must look.").holds("needsAttention"),
        Column::new("provider_lease_id", Text, "The provider's name of what it holds or held.").nullable(),
        Column::new("fencing_token", Integer, "The token of its holding; NULL until the provider answered.").nullable(),
        Column::new("expires_at", Timestamp, "When it ends, where it has an end.").nullable(),
        Column::new("requested_at", Timestamp, "When it was requested.").fixed(),
        Column::new("acquired_at", Timestamp, "When the provider first answered.").holds("acquiredAt").nullable(),
        Column::new("last_used_at", Timestamp, "When its holder last did something with it."),
        Column::new("ended_at", Timestamp, "When it was over.").holds("endedAt").nullable(),
        Column::new("end_reason", Text, "Why it ended, a word of the closed vocabulary of reasons.")
            .holds("endReason")
            .nullable(),
        Column::new("failure_reason", Text, "What failed, in words.").holds("failureReason").nullable(),
        Column::new(
            "next_action",
            Text,
            "What happens next: `settle-acquire`, `expire`, `finish-release`, `retry-cleanup`, `await-reuse` or \
             `await-operator`.",
        )
        .nullable(),
        Column::new("next_action_at", Timestamp, "When that happens; NULL where it waits for somebody.").nullable(),
        Column::new("next_action_because", Text, "Because of what, in words.").nullable(),
        Column::new(
            "in_flight_owner",
            Text,
            "The process that runs the effect under way; NULL where none is, or where its outcome is known to be unknown.",
        )
        .nullable(),
        Column::new("claimed_by", Text, "The lease that took over what this one held (UUID).")
            .holds("claimedBy")
            .nullable(),
        Column::new("resumed_from", Text, "The lease whose holding this one took over (UUID).")
            .holds("resumedFrom")
            .nullable(),
        Column::new("reuse_fingerprint", Text, "What a kept holding must have in common to be reused.")
            .holds("reuseFingerprint")
            .nullable()
            .fixed(),
        Column::new("generation", Integer, "Which lease of its run and fingerprint it is, from 0.")
            .holds("generation")
            .fixed(),
        Column::new("revision", Integer, "The revision of its last event, from 0.").holds("revision"),
        Column::new("created_position", Integer, "The log position of its first event: newer leases have higher ones.")
            .holds("createdPosition")
            .fixed(),
        Column::new("position", Integer, "The log position of its last event.").holds("position"),
        Column::new("updated_at", Timestamp, "When its last event was recorded.").holds("updatedAt"),
        Column::new(STATE_COLUMN, ColumnKind::Json, "Internal snapshot, no contract: do not read it."),
    ],
    stored_by: Some("created_position"),
    indexes: &[
        Index { name: "company", columns: &["company_id", "created_position"], condition: None },
        Index { name: "environment", columns: &["environment_id", "created_position"], condition: None },
        Index { name: "run", columns: &["run_id", "reuse_fingerprint"], condition: Some("run_id IS NOT NULL") },
        Index { name: "due", columns: &["next_action_at"], condition: Some("next_action_at IS NOT NULL") },
        Index {
            name: "next",
            columns: &["next_action", "next_action_at", "lease_id"],
            condition: Some("next_action_at IS NOT NULL"),
        },
        Index { name: "claim", columns: &["claimed_by"], condition: Some("claimed_by IS NOT NULL") },
        Index { name: "unsettled", columns: &["environment_id", "created_position"], condition: Some(UNSETTLED) },
        Index { name: "open", columns: &["created_position"], condition: Some("is_open = 1") },
        Index { name: "attention", columns: &["created_position"], condition: Some("needs_attention = 1") },
    ],
};

/// The fold of the leases, and its two tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leases;

impl Fold for Leases {
    type State = LeaseState;

    fn views(&self) -> &'static [View<LeaseState>] {
        &[
            View { table: &TABLE, row: |lease| Some(row(lease)) },
            View { table: &reusable_leases::TABLE, row: reusable_leases::row },
        ]
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        event.stream_id.as_str().strip_prefix("lease-").map(str::to_owned)
    }

    fn step(&self, state: Option<LeaseState>, event: &RecordedEvent) -> Result<Option<LeaseState>, String> {
        let next = LeaseState::apply(state, event).map_err(|error| error.to_string())?;
        // A row's key is its stream's id: a stream that speaks of another lease must not write that one's row.
        if event.stream_revision == 0 && next.stream_id() != event.stream_id {
            return Err(format!("stream {} begins with the request of lease {}", event.stream_id, next.lease_id));
        }
        Ok(Some(next))
    }
}

/// What the columns do not hold of a lease. Times that a caller gave are here, since columns cut them to microseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rest<'a> {
    ledger_id: LedgerId,
    config: &'a Json,
    workspace_kind: WorkspaceKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_as: Option<LeaseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_lease: &'a Option<ProviderLease>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resuming_from: Option<LeaseId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: &'a Option<InFlight>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: &'a Option<ReleaseIntent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    realization: &'a Option<Json>,
    cleanup_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fault: &'a Option<Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action: &'a Option<NextAction>,
    requested_at: DateTime<Utc>,
    last_used_at: DateTime<Utc>,
}

impl<'a> Rest<'a> {
    fn of(lease: &'a LeaseState) -> Self {
        Self {
            ledger_id: lease.ledger_id,
            config: &lease.config,
            workspace_kind: lease.workspace_kind,
            ended_as: lease.ended_as,
            provider_lease: &lease.provider_lease,
            resuming_from: lease.resuming_from,
            in_flight: &lease.in_flight,
            release: &lease.release,
            requested_expires_at: lease.requested_expires_at,
            expires_at: lease.expires_at,
            cwd: &lease.cwd,
            realization: &lease.realization,
            cleanup_attempts: lease.cleanup_attempts,
            last_fault: &lease.last_fault,
            next_action: &lease.next_action,
            requested_at: lease.requested_at,
            last_used_at: lease.last_used_at,
        }
    }
}

/// The process whose effect is under way: it alone knows how it goes, as long as it lives.
pub(crate) fn in_flight_owner(lease: &LeaseState) -> Option<&str> {
    lease.in_flight.as_ref()?.owner.as_deref()
}

/// The row of a lease.
fn row(lease: &LeaseState) -> Row {
    let next = lease.next_action.as_ref();
    vec![
        Value::id(Some(lease.lease_id.0)),
        Value::id(Some(lease.company_id.0)),
        Value::id(Some(lease.environment_id.0)),
        Value::from(lease.environment_name.as_str()),
        Value::from(lease.driver.as_str()),
        Value::from(lease.provider.as_str()),
        Value::from(lease.policy.as_str()),
        Value::id(lease.run_id.map(|id| id.0)),
        Value::text(lease.issue_id.as_deref()),
        Value::text(lease.agent_id.as_deref()),
        Value::text(lease.execution_workspace_id.as_deref()),
        Value::text(lease.execution_workspace_mode.as_deref()),
        Value::text(lease.adapter_type.as_deref()),
        Value::from(lease.status.as_str()),
        Value::from(lease.status.is_open()),
        Value::text(lease.cleanup_status.map(CleanupStatus::as_str)),
        Value::from(lease.needs_attention),
        Value::text(lease.provider_lease_id()),
        lease.fencing_token().map_or(Value::Null, Value::from),
        Value::time(lease.expires_at),
        Value::time(Some(lease.requested_at)),
        Value::time(lease.acquired_at),
        Value::time(Some(lease.last_used_at)),
        Value::time(lease.ended_at),
        Value::text(lease.end_reason.map(Reason::as_str)),
        Value::text(lease.failure_reason.as_deref()),
        Value::text(next.map(|next| next.action.as_str())),
        Value::time(next.and_then(|next| next.at)),
        Value::text(next.map(|next| next.because.as_str())),
        Value::text(in_flight_owner(lease)),
        Value::id(lease.claimed_by.map(|id| id.0)),
        Value::id(lease.resumed_from.map(|id| id.0)),
        Value::text(lease.reuse_fingerprint.as_deref()),
        Value::from(u64::from(lease.generation)),
        Value::from(lease.revision),
        Value::from(lease.created_position.0),
        Value::from(lease.position.0),
        Value::time(Some(lease.updated_at)),
        Value::json(&Rest::of(lease)),
    ]
}
