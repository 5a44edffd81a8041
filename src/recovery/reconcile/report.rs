//! What a reconciliation tells: account by account, what is there that should not be, and what should be and is not.

use lease_events::id::{EnvironmentId, LeaseId};

use crate::commands::upkeep::Did;
use crate::recovery::report::{SweepReport, SweepRow};

/// One reconciliation of the ledger with its providers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reconciliation {
    /// One entry a listing.
    pub listings: Vec<ListingReport>,
    /// Why not all listings could be taken.
    pub fault: Option<String>,
}

/// One listing, compared with the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct ListingReport {
    /// The driver.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// The environment in whose name it was listed.
    pub environment_id: EnvironmentId,
    /// How many things there are.
    pub listed: usize,
    /// How many of them bear this ledger's label.
    pub ours: usize,
    /// How many bear another ledger's; they are none of this one's business.
    pub foreign: usize,
    /// How many leases are said to hold something there.
    pub held: usize,
    /// Where the ledger and the provider disagree.
    pub findings: Vec<Finding>,
    /// Why nothing was done about what disagrees: it is more than mishaps explain.
    pub stopped: Vec<String>,
    /// Why there is no listing.
    pub fault: Option<String>,
}

/// One disagreement.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which.
    pub kind: FindingKind,
    /// The provider's name of the thing.
    pub provider_lease_id: String,
    /// The lease that it is labelled with, or that is said to hold it.
    pub lease_id: Option<LeaseId>,
    /// What was done; `None` where nothing was, or where it failed.
    pub did: Option<Did>,
    /// Why it is a finding, and why nothing was done where nothing was.
    pub because: String,
    /// Whether something was tried and failed.
    pub failed: bool,
}

/// In which way ledger and provider disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// It is there under this ledger's label, and nothing accounts for it.
    Unaccounted,
    /// It is there under the label of a lease that is active and holds something else.
    Duplicate,
    /// It is there, and not provably this ledger's: never touched.
    NotOurs,
    /// A lease is said to hold it, and it is not there.
    Gone,
}

impl FindingKind {
    /// As reports spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unaccounted => "unaccounted",
            Self::Duplicate => "duplicate",
            Self::NotOurs => "not-ours",
            Self::Gone => "gone",
        }
    }

    /// Whether it says that the ledger is wrong. What others have in the same account says nothing of it.
    #[must_use]
    pub fn is_drift(self) -> bool {
        self != Self::NotOurs
    }
}

impl Reconciliation {
    /// Whether ledger and provider disagreed anywhere, whatever was done about it.
    #[must_use]
    pub fn has_drift(&self) -> bool {
        self.listings.iter().any(|listing| {
            !listing.stopped.is_empty() || listing.findings.iter().any(|finding| finding.kind.is_drift())
        })
    }

    /// The same as a sweep tells it: what was done and what failed.
    #[must_use]
    pub fn as_sweep(&self) -> SweepReport {
        let told = |finding: &&Finding| finding.did.is_some() || finding.failed;
        let row = |finding: &Finding| SweepRow {
            lease_id: finding.lease_id,
            provider_lease_id: Some(finding.provider_lease_id.clone()),
            did: finding.did.filter(|_| !finding.failed),
            because: finding.because.clone(),
        };
        let rows = self.listings.iter().flat_map(|listing| listing.findings.iter().filter(told).map(row)).collect();
        let faults = self.listings.iter().flat_map(|listing| listing.fault.iter().chain(&listing.stopped));
        let faults: Vec<&str> = self.fault.iter().chain(faults).map(String::as_str).collect();
        let fault = (!faults.is_empty()).then(|| faults.join("; "));
        SweepReport { rows, fault, ..SweepReport::default() }
    }
}
