//! What a sweep tells of one look: what it did, row by row, and why.

use chrono::{DateTime, Utc};
use lease_events::id::LeaseId;

use super::patience::Patience;
use crate::commands::error::CommandError;
use crate::commands::upkeep::{Did, Upkeep};

/// One look of one sweep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SweepReport {
    /// What was done, and what failed; rows for which there was nothing to do are left out.
    pub rows: Vec<SweepRow>,
    /// Why the look could not be taken, or not to its end.
    pub fault: Option<String>,
    /// Whether more is due than one look may take.
    pub more: bool,
    /// When something falls due next, of what is not due yet.
    pub next_due: Option<DateTime<Utc>>,
}

/// One row of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRow {
    /// The lease that it is about; `None` where the ledger has none for it.
    pub lease_id: Option<LeaseId>,
    /// What it is about at the provider, where the row speaks of that.
    pub provider_lease_id: Option<String>,
    /// What was done; `None` where it failed.
    pub did: Option<Did>,
    /// Because of what; where it failed, what went wrong.
    pub because: String,
}

/// A look of one sweep, with the sweep's name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedReport {
    /// The sweep.
    pub sweep: &'static str,
    /// What it tells.
    pub report: SweepReport,
}

impl SweepRow {
    /// What became of one lease, which `patience` learns too; `None` where there was nothing to do.
    pub(super) fn of(
        lease_id: LeaseId,
        result: Result<Option<Upkeep>, CommandError>,
        patience: &Patience<LeaseId>,
    ) -> Option<Self> {
        let row = |did, because| Self { lease_id: Some(lease_id), provider_lease_id: None, did, because };
        match result {
            Ok(done) => {
                patience.succeeded(&lease_id);
                done.map(|done| row(Some(done.did), done.because))
            }
            Err(error) => {
                patience.failed_again(lease_id);
                Some(row(None, error.to_string()))
            }
        }
    }
}

impl SweepReport {
    /// A look that could not be taken.
    #[must_use]
    pub fn failed(fault: &impl ToString) -> Self {
        Self { fault: Some(fault.to_string()), ..Self::default() }
    }

    /// This look, and the one that was taken after it.
    #[must_use]
    pub fn followed_by(mut self, later: Self) -> Self {
        self.rows.extend(later.rows);
        Self { rows: self.rows, fault: self.fault.or(later.fault), more: later.more, next_due: later.next_due }
    }
}
