//! The run: one event that remembers its release, so that a release which arrives before the acquire wins. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events_of_category;
use crate::id::RunId;
use crate::lease::vocabulary::{Reason, ReleaseStatus};

events_of_category! {
    /// A transition of a run, as far as leases need it.
    RunEvent, upcasters: &[];
    Released(RunReleased) = "run-released" v 1;
}

/// The run holds no lease from here on; every later acquire of it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReleased {
    /// The run.
    pub run_id: RunId,
    /// How its leases shall end.
    pub status: ReleaseStatus,
    /// Why.
    pub reason: Reason,
}
