//! Reconciliation on the wire.

use lease_events::id::{CompanyId, EnvironmentId, LeaseId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::read;
use crate::recovery::reconcile::report;

/// What is to be reconciled, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reconcile {
    /// The tenant of the environment; both are given, or neither.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// Only what is listed for this environment, and only what is its own; all environments where absent.
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub environment_id: Option<EnvironmentId>,
    /// Whether nothing is done: findings only.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether drift that is implausible is to be seen to all the same; the budget of a look stands.
    #[serde(default)]
    pub accept_drift: bool,
}

/// The ledger and its providers, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reconciliation {
    /// Whether they disagreed anywhere, whatever was done about it. What is not this ledger's is no disagreement.
    pub drift: bool,
    /// One entry a listing.
    pub listings: Vec<ListingReport>,
    /// Why not all listings could be taken; `null` where they could.
    pub fault: Option<String>,
}

/// One listing, compared with the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListingReport {
    /// The driver.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// The environment in whose name it was listed.
    #[schema(value_type = Uuid)]
    pub environment_id: EnvironmentId,
    /// How many things there are.
    pub listed: usize,
    /// How many of them bear this ledger's label.
    pub ours: usize,
    /// How many bear another ledger's.
    pub foreign: usize,
    /// How many leases are said to hold something there.
    pub held: usize,
    /// Where the ledger and the provider disagree.
    pub findings: Vec<Finding>,
    /// Why nothing was done about what disagrees: it is more than mishaps explain.
    pub stopped: Vec<String>,
    /// Why there is no listing; `null` where there is one.
    pub fault: Option<String>,
}

/// One disagreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `unaccounted`, `duplicate`, `not-ours` or `gone`.
    pub kind: String,
    /// The provider's name of the thing.
    pub provider_lease_id: String,
    /// The lease that it is labelled with, or that is said to hold it; `null` where it bears no label.
    #[schema(value_type = Option<Uuid>)]
    pub lease_id: Option<LeaseId>,
    /// What was done, such as `reclaimed`; `null` where nothing was.
    pub did: Option<String>,
    /// Why it is a finding, and why nothing was done where nothing was.
    pub because: String,
    /// Whether something was tried and failed.
    pub failed: bool,
}

impl From<report::Reconciliation> for Reconciliation {
    fn from(reconciliation: report::Reconciliation) -> Self {
        Self {
            drift: reconciliation.has_drift(),
            listings: reconciliation.listings.into_iter().map(ListingReport::from).collect(),
            fault: reconciliation.fault,
        }
    }
}

impl From<report::ListingReport> for ListingReport {
    fn from(listing: report::ListingReport) -> Self {
        Self {
            driver: listing.driver,
            provider: listing.provider,
            environment_id: listing.environment_id,
            listed: listing.listed,
            ours: listing.ours,
            foreign: listing.foreign,
            held: listing.held,
            findings: listing.findings.into_iter().map(Finding::from).collect(),
            stopped: listing.stopped,
            fault: listing.fault,
        }
    }
}

impl From<report::Finding> for Finding {
    fn from(finding: report::Finding) -> Self {
        Self {
            kind: finding.kind.as_str().to_owned(),
            provider_lease_id: finding.provider_lease_id,
            lease_id: finding.lease_id,
            did: finding.did.map(|did| did.as_str().to_owned()),
            because: finding.because,
            failed: finding.failed,
        }
    }
}
