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
    /// How many events were folded.
    pub events: u64,
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
    /// The position at which they were compared.
    pub position: u64,
    /// How many rows differ.
    pub differing: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
}

/// One difference between a live row and the rebuilt one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// The column; `null` where the whole row is only on one side.
    pub column: Option<String>,
    /// What differs, in words.
    pub detail: String,
}

impl From<projection::ProjectionStatus> for ProjectionStatus {
    fn from(status: projection::ProjectionStatus) -> Self {
        let projection::ProjectionStatus { name, version, position, head, stalled, rows } = status;
        Self { name, version, position, head, stalled, rows }
    }
}

impl From<read_model::RebuildProgress> for RebuildProgress {
    fn from(progress: read_model::RebuildProgress) -> Self {
        Self { position: progress.position, head: progress.head }
    }
}

impl From<read_model::RebuildReport> for RebuildReport {
    fn from(report: read_model::RebuildReport) -> Self {
        let read_model::RebuildReport { tables, events, position } = report;
        Self { tables, events, position }
    }
}

impl From<read_model::VerifyReport> for VerifyReport {
    fn from(report: read_model::VerifyReport) -> Self {
        let differences = report.differences.into_iter().map(|difference| {
            let read_model::Difference { key, column, detail } = difference;
            Difference { key, column, detail }
        });
        Self {
            table: report.table,
            rows: report.rows,
            position: report.position,
            differing: report.differing,
            differences: differences.collect(),
        }
    }
}
