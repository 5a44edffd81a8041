//! Runs on the wire.

use lease_events::id::{CompanyId, LeaseId, RunId};
use lease_events::lease::vocabulary::ReleaseStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Moment;
use super::lease::Lease;
use super::problem::Problem;
use super::{read, vocabulary as schema};

/// The end of a run: every lease of it ends, and it can acquire nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseRun {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// How its leases shall end; `released` where absent.
    #[schema(value_type = Option<schema::ReleaseStatus>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub status: Option<ReleaseStatus>,
}

/// What became of a run's leases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasedRun {
    /// Leases that are over, or on their way.
    pub released: Vec<Lease>,
    /// Leases that could not be released; they stopped none of the others.
    pub failed: Vec<FailedRelease>,
}

/// A lease of a run that could not be released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedRelease {
    /// The lease.
    #[schema(value_type = Uuid)]
    pub lease_id: LeaseId,
    /// Why.
    pub problem: Problem,
}

/// A sign of life of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Heartbeat {
    /// The tenant.
    #[schema(value_type = Uuid)]
    #[serde(deserialize_with = "read::parsed")]
    pub company_id: CompanyId,
    /// For how long the run shall count as alive from now on, in milliseconds: 5 seconds to a day.
    #[schema(minimum = 5_000, maximum = 86_400_000)]
    #[serde(deserialize_with = "read::whole_number")]
    pub time_to_live_ms: u64,
}

/// A run that is kept alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunAlive {
    /// The run.
    #[schema(value_type = Uuid)]
    pub run_id: RunId,
    /// For how long each heartbeat keeps it alive, in milliseconds.
    pub time_to_live_ms: u64,
    /// Until when it counts as alive, should nothing more be heard: its time to live from now on, or a little more.
    pub alive_until: Moment,
}
