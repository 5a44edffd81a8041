//! `reusable_leases`: the leases that are over and whose holding another run may take over.
//!
//! It shows the state that `current_leases` folds: a row is there exactly while [`LeaseState::is_reusable`] holds.

use chrono::{DateTime, Utc};
use lease_events::id::{CompanyId, EnvironmentId, LeaseId};
use lease_events::lease::state::LeaseState;
use lease_events::lease::vocabulary::Policy;
use serde_json::Value as Config;

use crate::projection::ColumnKind::{Integer, Json, Text, Timestamp};
use crate::projection::{Column, Index, Row, Table, Value};

/// The table.
pub const TABLE: Table = Table {
    name: "reusable_leases",
    version: 1,
    about: "One row a lease that is over and keeps something at its provider that another run may take over. The row \
            goes when it is claimed, cleaned up or destroyed.",
    columns: &[
        Column::new("lease_id", Text, "The lease that keeps it (UUID).").fixed(),
        Column::new("company_id", Text, "The tenant (UUID).").fixed(),
        Column::new("environment_id", Text, "The environment (UUID).").fixed(),
        Column::new("provider", Text, "The provider.").fixed(),
        Column::new("driver", Text, "The driver.").fixed(),
        Column::new("policy", Text, "`reuse_by_environment` or `reuse_by_execution_workspace`.").fixed(),
        Column::new("execution_workspace_id", Text, "The execution workspace.").nullable().fixed(),
        Column::new("agent_id", Text, "The agent.").nullable().fixed(),
        Column::new("adapter_type", Text, "The kind of agent adapter.").nullable().fixed(),
        Column::new("reuse_fingerprint", Text, "What an acquire must have in common with it.").nullable().fixed(),
        Column::new("provider_lease_id", Text, "The provider's name of what is kept."),
        Column::new("fencing_token", Integer, "The token of its last holding; a claim carries a higher one."),
        Column::new("released_at", Timestamp, "When the lease was over."),
        Column::new("config", Json, "The driver's config, secrets as references.").fixed(),
        Column::new("position", Integer, "The log position of the lease's last event."),
    ],
    stored_by: None,
    indexes: &[
        Index { name: "fingerprint", columns: &["reuse_fingerprint", "released_at"], condition: None },
        Index { name: "environment", columns: &["environment_id", "released_at"], condition: None },
    ],
};

/// What another run may take over.
#[derive(Debug, Clone, PartialEq)]
pub struct ReusableLease {
    /// The lease that keeps it.
    pub lease_id: LeaseId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The provider.
    pub provider: String,
    /// The driver.
    pub driver: String,
    /// Who may take it over.
    pub policy: Policy,
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The kind of agent adapter.
    pub adapter_type: Option<String>,
    /// What an acquire must have in common with it.
    pub reuse_fingerprint: Option<String>,
    /// The provider's name of what is kept.
    pub provider_lease_id: String,
    /// The token of its last holding.
    pub fencing_token: u64,
    /// When the lease was over.
    pub released_at: DateTime<Utc>,
    /// The driver's config, secrets as references.
    pub config: Config,
    /// The position of the lease's last event.
    pub position: u64,
}

impl ReusableLease {
    /// What `lease` offers to other runs; `None` where it offers nothing.
    #[must_use]
    pub fn of(lease: &LeaseState) -> Option<Self> {
        if !lease.is_reusable() {
            return None;
        }
        Some(Self {
            lease_id: lease.lease_id,
            company_id: lease.company_id,
            environment_id: lease.environment_id,
            provider: lease.provider.clone(),
            driver: lease.driver.clone(),
            policy: lease.policy,
            execution_workspace_id: lease.execution_workspace_id.clone(),
            agent_id: lease.agent_id.clone(),
            adapter_type: lease.adapter_type.clone(),
            reuse_fingerprint: lease.reuse_fingerprint.clone(),
            provider_lease_id: lease.provider_lease_id()?.to_owned(),
            fencing_token: lease.fencing_token()?,
            released_at: lease.ended_at.unwrap_or(lease.updated_at),
            config: lease.config.clone(),
            position: lease.position.0,
        })
    }
}

/// The row of a lease, where it offers something.
pub(crate) fn row(lease: &LeaseState) -> Option<Row> {
    let kept = ReusableLease::of(lease)?;
    Some(vec![
        Value::id(Some(kept.lease_id.0)),
        Value::id(Some(kept.company_id.0)),
        Value::id(Some(kept.environment_id.0)),
        Value::from(kept.provider.as_str()),
        Value::from(kept.driver.as_str()),
        Value::from(kept.policy.as_str()),
        Value::text(kept.execution_workspace_id.as_deref()),
        Value::text(kept.agent_id.as_deref()),
        Value::text(kept.adapter_type.as_deref()),
        Value::text(kept.reuse_fingerprint.as_deref()),
        Value::from(kept.provider_lease_id.as_str()),
        Value::from(kept.fencing_token),
        Value::time(Some(kept.released_at)),
        Value::json(&kept.config),
        Value::from(kept.position),
    ])
}
