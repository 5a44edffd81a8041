//! The orphan: something at a provider that bears this ledger's label and that no lease accounts for. Its events. Pure.
//!
//! It has a stream of its own, since its lease may not be in the ledger at all, and is over where it is. The last event
//! says all that is true of it: found, not reclaimed yet, or reclaimed. One that is found again begins anew.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::events_of_category;
use crate::failure::Fault;
use crate::id::{EnvironmentId, LeaseId, LedgerId, OrphanId};
use crate::lease::event::Receipt;

events_of_category! {
    /// A transition of an orphan.
    OrphanEvent, upcasters: &[];
    Found(OrphanFound) = "orphan-found" v 1;
    ReclaimFailed(OrphanReclaimFailed) = "orphan-reclaim-failed" v 1;
    Reclaimed(OrphanReclaimed) = "orphan-reclaimed" v 1;
}

/// It was found, and is about to be destroyed: the intent, durable before the provider is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanFound {
    /// The orphan: derived from driver, provider and the provider's name of it.
    pub orphan_id: OrphanId,
    /// The ledger whose label it bears: this one.
    pub ledger_id: LedgerId,
    /// The lease whose label it bears.
    pub lease_id: LeaseId,
    /// The environment in whose name it is destroyed.
    pub environment_id: EnvironmentId,
    /// The driver that listed it.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// The provider's name of it.
    pub provider_lease_id: String,
    /// When the provider made it, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// The config that it is destroyed with, secrets as references.
    pub config: Value,
    /// The token under which it is destroyed: whoever holds it under a higher one keeps it.
    pub fencing_token: u64,
    /// Why nothing accounts for it, in words.
    pub because: String,
}

/// The provider did not destroy it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanReclaimFailed {
    /// The number of the try since it was found, from 1.
    pub attempt: u32,
    /// What went wrong.
    pub fault: Fault,
    /// Before when it is not tried again.
    pub next_try_at: DateTime<Utc>,
}

/// The provider's receipt: it is not there any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanReclaimed {
    /// What the provider said.
    pub receipt: Receipt,
}
