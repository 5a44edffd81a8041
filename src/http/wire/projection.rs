//! The care of the projections on the wire.

use lease_projections::{projection, read_model};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;

/// How a projection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionStatus {
    /// The table.
    pub name: String,
    /// The version of the rows that are there.
    pub version: u32,
    /// The last position that the rows have seen.
    pub position: u64,
    /// The last position of the log.
    pub head: u64,
    /// What went wrong; `null` where it is not stalled.
    pub stalled: Option<String>,
    /// How many rows there are.
    pub rows: u64,
}

/// How each projection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionList {
    /// The projections.
    pub projections: Vec<ProjectionStatus>,
}

/// One line of a rebuild: progress as it goes, and a last line that says how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RebuildLine {
    /// How far it is.
    Progress {
        /// How far it is.
        progress: RebuildProgress,
    },
    /// The last line: it is rebuilt.
    Report {
        /// What was done.
        report: RebuildReport,
    },
    /// The last line: it failed, and the live rows are as they were.
    Problem {
        /// Why.
        problem: Problem,
    },
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildProgress {
    /// The last position folded.
    pub position: u64,
    /// The last position of the log when it was last looked at.
    pub head: u64,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildReport {
    /// The tables that were rebuilt and swapped in.
    pub tables: Vec<String>,
    /// How many rows the first of them has.
    pub rows: u64,
    /// The position that the new tables have seen.
    pub position: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// The table.
    pub table: String,
    /// How many rows were compared.
    pub rows: u64,
    /// The position at which the last of them were compared.
    pub position: u64,
    /// Where they differ from a fresh fold of the log; the first ten.
    pub differences: Vec<Difference>,
}

/// One difference between a live row and what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// What is wrong with it.
    pub kind: DifferenceKind,
    /// The columns that differ; none where the whole row is only on one side.
    pub columns: Vec<String>,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// The log gives a row, and the table has none.
    Missing,
    /// The table has a row, and the log gives none.
    Surplus,
    /// Both have one, and it differs.
    Differs,
}

impl From<projection::ProjectionStatus> for ProjectionStatus {
    fn from(status: projection::ProjectionStatus) -> Self {
        let projection::ProjectionStatus { name, version, position, head, stalled, rows } = status;
        Self { name, version, position, head, stalled, rows }
    }
}

impl From<read_model::RebuildProgress> for RebuildProgress {
    fn from(progress: read_model::RebuildProgress) -> Self {
        Self { position: progress.position.0, head: progress.head.0 }
    }
}

impl From<read_model::RebuildReport> for RebuildReport {
    fn from(report: read_model::RebuildReport) -> Self {
        let read_model::RebuildReport { tables, rows, position } = report;
        Self { tables, rows, position: position.0 }
    }
}

impl From<read_model::VerifyReport> for VerifyReport {
    fn from(report: read_model::VerifyReport) -> Self {
        let read_model::VerifyReport { table, position, rows, differences } = report;
        let differences = differences.into_iter().map(Difference::from).collect();
        Self { table, rows, position: position.0, differences }
    }
}

impl From<read_model::Difference> for Difference {
    fn from(difference: read_model::Difference) -> Self {
        let (kind, columns) = match difference.kind {
            read_model::DifferenceKind::Missing => (DifferenceKind::Missing, Vec::new()),
            read_model::DifferenceKind::Surplus => (DifferenceKind::Surplus, Vec::new()),
            read_model::DifferenceKind::Columns(columns) => (DifferenceKind::Differs, columns),
        };
        Self { key: difference.key, kind, columns: columns.into_iter().map(str::to_owned).collect() }
    }
}
