//! `reuse_claims`: one row a lease whose kept sandbox another lease has claimed, and what became of the claim.
//!
//! The claim stands on the stream of the lease that gives up its sandbox, the take-over on the claimant's: this table is
//! where the two meet, so that a claim that came to nothing is found without looking at those that did not.

use chrono::{DateTime, Utc};
use lease_events::codec::decode;
use lease_events::id::{CompanyId, LeaseId, RunId};
use lease_events::lease::LeaseEvent;
use lease_events::lease::vocabulary::Reason;
use lease_events::record::RecordedEvent;
use serde::{Deserialize, Serialize};

use crate::projection::ColumnKind::{Integer, Json, Text, Timestamp};
use crate::projection::{Column, Fold, Index, Row, STATE_COLUMN, Table, Value, View};

/// The claims of which nobody knows yet what becomes of them.
pub const OPEN: &str = "status = 'open'";

/// The table.
pub const TABLE: Table = Table {
    name: "reuse_claims",
    version: 1,
    about: "One row a lease whose kept sandbox was claimed by another lease: its last claim, and what became of it.",
    columns: &[
        Column::new("lease_id", Text, "The lease that gave up its sandbox (UUID).").fixed(),
        Column::new("company_id", Text, "The tenant (UUID).").fixed(),
        Column::new("by_lease_id", Text, "The lease that claimed it (UUID)."),
        Column::new("by_run_id", Text, "That one's run (UUID)."),
        Column::new(
            "status",
            Text,
            "`open` (the claimant has not resumed it yet), `taken-over` or `returned` (it could not be resumed, or was gone).",
        ),
        Column::new("claimed_at", Timestamp, "When it was claimed."),
        Column::new("ended_at", Timestamp, "When it was known what became of the claim.").nullable(),
        Column::new("position", Integer, "The log position of the last event of the claim."),
        Column::new(STATE_COLUMN, Json, "Internal snapshot, no contract: do not read it."),
    ],
    stored_by: None,
    indexes: &[Index { name: "open", columns: &["claimed_at", "lease_id"], condition: Some(OPEN) }],
};

/// A claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReuseClaim {
    /// The lease that gave up its sandbox.
    pub lease_id: LeaseId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The lease that claimed it.
    pub by_lease_id: LeaseId,
    /// That one's run.
    pub by_run_id: RunId,
    /// What became of it.
    pub status: ClaimStatus,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it was known what became of it.
    pub ended_at: Option<DateTime<Utc>>,
    /// The last event of it.
    pub position: u64,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimStatus {
    /// Nobody knows yet.
    Open,
    /// The claimant holds it, or did.
    TakenOver,
    /// It went back, or was gone.
    Returned,
}

impl ClaimStatus {
    /// As the table spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::TakenOver => "taken-over",
            Self::Returned => "returned",
        }
    }
}

/// The fold of the claims.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReuseClaims;

impl Fold for ReuseClaims {
    type State = ReuseClaim;

    fn views(&self) -> &'static [View<ReuseClaim>] {
        &[View { table: &TABLE, row: |claim| Some(row(claim)) }]
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        let own = || event.stream_id.as_str().strip_prefix("lease-").map(str::to_owned);
        match &*event.event_type {
            "lease-reuse-claimed" | "lease-cleanup-succeeded" => own(),
            // What cannot be read is the leases' own projection's to complain of.
            "lease-resumed" => match decode(event) {
                Ok(LeaseEvent::Resumed(resumed)) => resumed.from_lease_id.map(|from| from.to_string()),
                _ => None,
            },
            "lease-released" => match decode(event) {
                Ok(LeaseEvent::Released(released)) if released.reason == Reason::TakeOverFailed => own(),
                _ => None,
            },
            _ => None,
        }
    }

    fn begins(&self, _: &RecordedEvent) -> bool {
        // What came back may be claimed again.
        false
    }

    fn step(&self, state: Option<ReuseClaim>, event: &RecordedEvent) -> Result<Option<ReuseClaim>, String> {
        let decoded: LeaseEvent = decode(event).map_err(|error| error.to_string())?;
        let ended = |status| {
            let open = |claim: &ReuseClaim| claim.status == ClaimStatus::Open;
            let ended_at = Some(event.recorded_at);
            let end = |claim| ReuseClaim { status, ended_at, position: event.position.0, ..claim };
            state.clone().map(|claim| if open(&claim) { end(claim) } else { claim })
        };
        Ok(match decoded {
            LeaseEvent::ReuseClaimed(claimed) => {
                let lease_id = event.stream_id.as_str().strip_prefix("lease-").unwrap_or_default();
                Some(ReuseClaim {
                    lease_id: lease_id.parse().map_err(|error: lease_events::id::InvalidId| error.to_string())?,
                    company_id: event.company_id,
                    by_lease_id: claimed.by_lease_id,
                    by_run_id: claimed.by_run_id,
                    status: ClaimStatus::Open,
                    claimed_at: event.recorded_at,
                    ended_at: None,
                    position: event.position.0,
                })
            }
            LeaseEvent::Resumed(_) => ended(ClaimStatus::TakenOver),
            _ => ended(ClaimStatus::Returned),
        })
    }
}

/// The row of a claim.
fn row(claim: &ReuseClaim) -> Row {
    vec![
        Value::id(Some(claim.lease_id.0)),
        Value::id(Some(claim.company_id.0)),
        Value::id(Some(claim.by_lease_id.0)),
        Value::id(Some(claim.by_run_id.0)),
        Value::from(claim.status.as_str()),
        Value::time(Some(claim.claimed_at)),
        Value::time(claim.ended_at),
        Value::from(claim.position),
        Value::json(claim),
    ]
}
