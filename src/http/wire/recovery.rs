//! Recovery on the wire.

use lease_events::id::LeaseId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Moment;
use crate::recovery::report;

/// One pass of recovery: what each sweep did, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPass {
    /// The sweeps, in the order in which they looked.
    pub sweeps: Vec<SweepReport>,
}

/// What one sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// Its name, such as `expiry`.
    pub sweep: String,
    /// What was done, and what failed; empty where nothing was due.
    pub rows: Vec<SweepRow>,
    /// Why it could not look, or not to its end; `null` where it could.
    pub fault: Option<String>,
    /// When something falls due next; `null` where nothing will by itself.
    pub next_due_at: Option<Moment>,
}

/// One thing that a sweep did, or could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepRow {
    /// The lease; `null` where the ledger has none for it.
    #[schema(value_type = Option<Uuid>)]
    pub lease_id: Option<LeaseId>,
    /// What it is about at the provider, where the row speaks of that.
    pub provider_lease_id: Option<String>,
    /// What was done, such as `expired`; `null` where it failed.
    pub did: Option<String>,
    /// Because of what; where it failed, what went wrong.
    pub because: String,
}

impl From<report::NamedReport> for SweepReport {
    fn from(report::NamedReport { sweep, report }: report::NamedReport) -> Self {
        Self {
            sweep: sweep.to_owned(),
            rows: report.rows.into_iter().map(SweepRow::from).collect(),
            fault: report.fault,
            next_due_at: report.next_due.map(Moment),
        }
    }
}

impl From<report::SweepRow> for SweepRow {
    fn from(row: report::SweepRow) -> Self {
        Self {
            lease_id: row.lease_id,
            provider_lease_id: row.provider_lease_id,
            did: row.did.map(|did| did.as_str().to_owned()),
            because: row.because,
        }
    }
}
