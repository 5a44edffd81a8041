//! The reading port: what the ledger asks of the projections. Object-safe; it travels as `Arc<dyn ReadModel>`.
//!
//! **Invariant:** what comes from here is a hint. Commands take candidates from it, and decide only on a stream that
//! they loaded, with its revision.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::environment::{EnvironmentState, EnvironmentStatus};
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{LeaseStatus, Policy};
use lease_events::record::Position;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::projection::{ProjectionStatus, QueryError};

/// Most rows that one question answers; ask again with the cursor.
pub const ROWS_MAX: usize = 1_000;

/// Which leases are asked for; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The environment.
    pub environment_id: Option<EnvironmentId>,
    /// The run.
    pub run_id: Option<RunId>,
    /// The statuses; empty is any.
    pub statuses: Vec<LeaseStatus>,
    /// Only those that are open.
    pub open_only: bool,
    /// Only those that an operator must look at.
    pub needs_attention: bool,
    /// The cursor: only those created before this position.
    pub before: Option<Position>,
    /// Most rows wanted, at most [`ROWS_MAX`].
    pub limit: usize,
}

/// Which environments are asked for; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The name.
    pub name: Option<String>,
    /// The driver.
    pub driver: Option<String>,
    /// The status.
    pub status: Option<EnvironmentStatus>,
    /// The cursor: only those created before this position.
    pub before: Option<Position>,
    /// Most rows wanted, at most [`ROWS_MAX`].
    pub limit: usize,
}

/// Which reusable leases are asked for; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct ReusableFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The environment.
    pub environment_id: Option<EnvironmentId>,
    /// The cursor: only those last changed before this position.
    pub before: Option<Position>,
    /// Most rows wanted, at most [`ROWS_MAX`].
    pub limit: usize,
}

/// A row of `reusable_leases`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReusableLease {
    /// The lease that left it.
    pub lease_id: LeaseId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The driver.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// The policy that kept it.
    pub policy: Policy,
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The kind of agent adapter.
    pub adapter_type: Option<String>,
    /// What an acquire must have in common with it.
    pub reuse_fingerprint: String,
    /// The provider's name of it.
    pub provider_lease_id: String,
    /// The token that it was last held under.
    pub fencing_token: u64,
    /// When it was left.
    pub released_at: DateTime<Utc>,
    /// The lease's config, secrets as references.
    pub config: Value,
    /// The position of the event that left it.
    pub position: Position,
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    /// The last position folded.
    pub position: u64,
    /// The last position of the log when it was last looked at.
    pub head: u64,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildReport {
    /// The tables that were rebuilt and swapped in.
    pub tables: Vec<String>,
    /// How many events were folded.
    pub events: u64,
    /// The position that the new tables have seen.
    pub position: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The table.
    pub table: String,
    /// How many rows were compared.
    pub rows: u64,
    /// The position at which they were compared.
    pub position: u64,
    /// How many rows differ.
    pub differing: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
}

/// One difference between a live row and the rebuilt one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// The column; absent where the whole row is only on one side.
    pub column: Option<String>,
    /// What differs, in words.
    pub detail: String,
}

/// What the ledger asks of the projections.
#[async_trait]
pub trait ReadModel: Send + Sync {
    /// The lease of this id, as the projection has it.
    async fn lease(&self, id: LeaseId) -> Result<Option<LeaseState>, QueryError>;

    /// Leases, newest created first.
    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<LeaseState>, QueryError>;

    /// The open leases of a run.
    async fn open_leases_of_run(&self, company: Option<CompanyId>, run: RunId) -> Result<Vec<LeaseId>, QueryError>;

    /// The highest generation among a run's leases of one fingerprint.
    async fn latest_generation(&self, run: RunId, fingerprint: &str) -> Result<Option<u32>, QueryError>;

    /// What may be taken over under this fingerprint, last left first.
    async fn reusable(&self, fingerprint: &str, limit: usize) -> Result<Vec<ReusableLease>, QueryError>;

    /// What may be taken over in this environment under any fingerprint, last left first.
    async fn reusable_in_environment(
        &self,
        environment: EnvironmentId,
        limit: usize,
    ) -> Result<Vec<ReusableLease>, QueryError>;

    /// What may be taken over, last left first.
    async fn list_reusable(&self, filter: &ReusableFilter) -> Result<Vec<ReusableLease>, QueryError>;

    /// The environment of this id, as the projection has it.
    async fn environment(&self, id: EnvironmentId) -> Result<Option<EnvironmentState>, QueryError>;

    /// Environments, newest created first.
    async fn environments(&self, filter: &EnvironmentFilter) -> Result<Vec<EnvironmentState>, QueryError>;

    /// How each projection stands.
    async fn statuses(&self) -> Result<Vec<ProjectionStatus>, QueryError>;

    /// Waits until every projection that is not stalled has seen at least `position`.
    async fn wait_for(&self, position: Position, within: Duration) -> Result<(), QueryError>;

    /// Builds a projection anew beside the live one, and swaps it in.
    async fn rebuild(&self, name: &str, progress: mpsc::Sender<RebuildProgress>) -> Result<RebuildReport, QueryError>;

    /// Builds a projection anew and compares it with the live one, row for row.
    async fn verify(&self, name: &str) -> Result<VerifyReport, QueryError>;
}
