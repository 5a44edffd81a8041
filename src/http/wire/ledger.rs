//! The ledger itself on the wire.

use lease_events::id::LedgerId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which ledger this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerInfo {
    /// The id that its labels at providers bear.
    #[schema(value_type = Uuid)]
    pub ledger_id: LedgerId,
    /// The version of the program.
    pub version: String,
    /// The keys of the registered drivers.
    pub drivers: Vec<String>,
    /// The position of the last event.
    pub position: u64,
    /// How many leases an operator must look at.
    pub leases_needing_attention: u64,
}

/// The process is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `alive`.
    pub status: String,
}

/// Whether the ledger takes commands and its projections follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether all is well.
    pub ready: bool,
    /// The position of the last event; `null` where the store does not answer.
    pub position: Option<u64>,
    /// What is not well, a sentence each.
    pub faults: Vec<String>,
}
