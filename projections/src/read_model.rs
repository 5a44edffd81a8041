//! The reading port: what commands, queries and faces ask of the projections.
//!
//! **Invariant:** an answer is a hint about the present. Whoever decides on it loads the stream and appends with its
//! revision. No answer but a count costs more as history grows.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::environment::{EnvironmentState, EnvironmentStatus};
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::state::LeaseState;
use lease_events::lease::vocabulary::{LeaseStatus, NextActionKind};
use lease_events::record::Position;
use lease_events::run::RunState;
use lease_events::secret::{SecretState, SecretStatus};
use tokio::sync::mpsc;

use crate::projection::{ProjectionStatus, QueryError};
use crate::reusable_leases::ReusableLease;
use crate::reuse_claims::ReuseClaim;

/// Most rows of one answer; ask again from behind the last.
pub const ROWS_MAX: usize = 1_000;
/// How often a reader that waits for a position looks at the database: another process may have written there.
pub const WAIT_POLL: Duration = Duration::from_millis(50);

/// Which leases are wanted; what is not set does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent conditions, not a state")]
pub struct LeaseFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The environment.
    pub environment_id: Option<EnvironmentId>,
    /// The run.
    pub run_id: Option<RunId>,
    /// One of these; empty: any. A page of ended ones reads past the newer leases that do not match.
    pub statuses: Vec<LeaseStatus>,
    /// Those that are open.
    pub open_only: bool,
    /// Those that are open, or may still hold something at the provider: what an archive waits for.
    pub unsettled: bool,
    /// Those that an operator must look at.
    pub needs_attention: bool,
    /// Those in whose workspace commands run, as far as the ledger knows: open or over.
    pub running_commands: bool,
    /// Those whose next action is due at this time or before; they come in the order in which they fell due.
    pub due_by: Option<DateTime<Utc>>,
    /// Those created before this one's `created_position`: the cursor of the next page.
    pub before: Option<Position>,
    /// How many at most; cut to [`ROWS_MAX`].
    pub limit: usize,
}

/// Which leases are wanted whose next action has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueFilter {
    /// What happens next to them.
    pub action: NextActionKind,
    /// Those for which it is due at this time or before; `None`: whenever it is due.
    pub by: Option<DateTime<Utc>>,
    /// Those behind this one, in the order in which they fall due: the cursor of the next page.
    pub after: Option<(DateTime<Utc>, LeaseId)>,
    /// How many at most; cut to [`ROWS_MAX`].
    pub limit: usize,
}

/// A lease whose next action has a time, as far as a sweep must know it: what is done is decided on its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLease {
    /// When its next action is due, cut to the microsecond.
    pub at: DateTime<Utc>,
    /// The lease.
    pub lease_id: LeaseId,
    /// Its driver.
    pub driver: String,
    /// Its provider.
    pub provider: String,
    /// The process that runs the effect under way; `None` where none is, or its outcome is already known to be unknown.
    pub in_flight_owner: Option<String>,
}

/// Which reusable leases are wanted; what is not set does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReusableFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The environment.
    pub environment_id: Option<EnvironmentId>,
    /// The provider.
    pub provider: Option<String>,
    /// How many at most; cut to [`ROWS_MAX`].
    pub limit: usize,
}

/// Which environments are wanted; what is not set does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The name.
    pub name: Option<String>,
    /// The driver.
    pub driver: Option<String>,
    /// Whether active or archived.
    pub status: Option<EnvironmentStatus>,
    /// Those created before this one's `created_position`: the cursor of the next page.
    pub before: Option<Position>,
    /// How many at most; cut to [`ROWS_MAX`].
    pub limit: usize,
}

/// Which secrets are wanted; what is not set does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFilter {
    /// The tenant.
    pub company_id: Option<CompanyId>,
    /// The name.
    pub name: Option<String>,
    /// Whether there or removed.
    pub status: Option<SecretStatus>,
    /// Those created before this one's `created_position`: the cursor of the next page.
    pub before: Option<Position>,
    /// How many at most; cut to [`ROWS_MAX`].
    pub limit: usize,
}

/// Which runs are wanted that heartbeats keep alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliveFilter {
    /// Those that count as alive until this time or before; `None`: until whenever.
    pub until: Option<DateTime<Utc>>,
    /// Those behind this one, in the order of their times: the cursor of the next page.
    pub after: Option<(DateTime<Utc>, RunId)>,
    /// How many at most; cut to [`ROWS_MAX`].
    pub limit: usize,
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    /// The last position that the new rows have seen.
    pub position: Position,
    /// The last position of the log when it was last looked at.
    pub head: Position,
}

/// A rebuild that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildReport {
    /// The tables that were swapped in.
    pub tables: Vec<String>,
    /// The position that they have seen.
    pub position: Position,
    /// How many rows the first of them has.
    pub rows: u64,
}

/// A verification that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The table.
    pub table: String,
    /// The position at which the last rows were compared.
    pub position: Position,
    /// How many live rows were compared.
    pub rows: u64,
    /// Where they differ from a fresh fold of the log; the first [`DIFFERENCES_MAX`].
    pub differences: Vec<Difference>,
}

/// Most differences that a verification reports: enough to see what kind of damage it is.
pub const DIFFERENCES_MAX: usize = 10;

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// What is wrong with it.
    pub kind: DifferenceKind,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The log gives a row, and the table has none.
    Missing,
    /// The table has a row, and the log gives none.
    Surplus,
    /// Both have one, and these columns differ.
    Columns(Vec<&'static str>),
}

/// What is true now, as far as the projections have come. Object-safe; it travels as `Arc<dyn ReadModel>`.
#[async_trait]
pub trait ReadModel: Send + Sync {
    /// One lease; `None` where there is none.
    async fn lease(&self, id: LeaseId) -> Result<Option<LeaseState>, QueryError>;

    /// Leases, newest first (those that are due: earliest first).
    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<LeaseState>, QueryError>;

    /// Leases whose next action has a time, earliest first.
    async fn due(&self, filter: &DueFilter) -> Result<Vec<DueLease>, QueryError>;

    /// How many leases an operator must look at.
    async fn count_needing_attention(&self) -> Result<u64, QueryError>;

    /// The leases that this one claimed to take over what they kept, oldest first.
    async fn claimed_by(&self, claimant: LeaseId) -> Result<Vec<LeaseId>, QueryError>;

    /// Claims of which it is not known yet what becomes of them, oldest first, behind `after`; at most `limit`, cut to
    /// [`ROWS_MAX`].
    async fn open_claims(
        &self,
        after: Option<(DateTime<Utc>, LeaseId)>,
        limit: usize,
    ) -> Result<Vec<ReuseClaim>, QueryError>;

    /// The open leases of a run, oldest first.
    async fn open_leases_of_run(&self, company: Option<CompanyId>, run: RunId) -> Result<Vec<LeaseId>, QueryError>;

    /// The highest generation among the leases of one run and fingerprint; `None` where there is none.
    async fn latest_generation(&self, run: RunId, fingerprint: &str) -> Result<Option<u32>, QueryError>;

    /// What is kept under a fingerprint, newest released first.
    async fn reusable(&self, fingerprint: &str, limit: usize) -> Result<Vec<ReusableLease>, QueryError>;

    /// What is kept of an environment, whatever its fingerprint, newest released first.
    async fn reusable_in_environment(
        &self,
        environment: EnvironmentId,
        limit: usize,
    ) -> Result<Vec<ReusableLease>, QueryError>;

    /// What is kept, newest released first.
    async fn list_reusable(&self, filter: &ReusableFilter) -> Result<Vec<ReusableLease>, QueryError>;

    /// One environment; `None` where there is none.
    async fn environment(&self, id: EnvironmentId) -> Result<Option<EnvironmentState>, QueryError>;

    /// Environments, newest first.
    async fn environments(&self, filter: &EnvironmentFilter) -> Result<Vec<EnvironmentState>, QueryError>;

    /// Secrets, newest first; never a value.
    async fn secrets(&self, filter: &SecretFilter) -> Result<Vec<SecretState>, QueryError>;

    /// Runs that heartbeats keep alive, those that fall silent first coming first.
    async fn alive_runs(&self, filter: &AliveFilter) -> Result<Vec<RunState>, QueryError>;

    /// Runs that are released, and of which a lease is open that nobody has asked to release, by their ids: a release
    /// that was broken off. Looks at every open lease.
    async fn half_released_runs(&self, limit: usize) -> Result<Vec<RunState>, QueryError>;

    /// How every projection stands.
    async fn statuses(&self) -> Result<Vec<ProjectionStatus>, QueryError>;

    /// Returns once every projection that does not stand still has seen `position`.
    async fn wait_for(&self, position: Position, within: Duration) -> Result<(), QueryError>;

    /// Makes a projection anew from the log, beside the live one, and swaps it in; appends go on meanwhile. Progress
    /// that nobody takes is dropped.
    async fn rebuild(&self, name: &str, progress: mpsc::Sender<RebuildProgress>) -> Result<RebuildReport, QueryError>;

    /// Compares a projection with a fresh fold of the log, row by row; appends go on meanwhile.
    async fn verify(&self, name: &str) -> Result<VerifyReport, QueryError>;
}
