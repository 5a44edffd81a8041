//! Reusable leases on the wire: what ended leases left for others to take over.

use lease_events::id::{CompanyId, EnvironmentId, LeaseId};
use lease_events::lease::vocabulary::Policy;
use lease_projections::reusable_leases;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{Moment, read, vocabulary as schema};

/// A provider lease that another lease may take over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReusableLease {
    /// The lease that left it.
    #[schema(value_type = Uuid)]
    pub lease_id: LeaseId,
    /// The tenant.
    #[schema(value_type = Uuid)]
    pub company_id: CompanyId,
    /// The environment.
    #[schema(value_type = Uuid)]
    pub environment_id: EnvironmentId,
    /// The key of the driver.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// The policy that kept it.
    #[schema(value_type = schema::Policy)]
    pub policy: Policy,
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The kind of agent adapter.
    pub adapter_type: Option<String>,
    /// What an acquire must have in common with it.
    pub reuse_fingerprint: Option<String>,
    /// The provider's name of it.
    pub provider_lease_id: String,
    /// The token that it was last held under.
    pub fencing_token: u64,
    /// When it was left.
    pub released_at: Moment,
    /// The lease's config, secrets as references.
    #[schema(value_type = Object)]
    pub config: Value,
}

/// What may be taken over, last left first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReusableLeaseList {
    /// The provider leases.
    pub reusable_leases: Vec<ReusableLease>,
}

/// Which reusable leases are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReusableLeaseQuery {
    /// The tenant.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub company_id: Option<CompanyId>,
    /// The environment.
    #[param(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "read::parsed_option")]
    pub environment_id: Option<EnvironmentId>,
    /// The provider.
    pub provider: Option<String>,
    /// Most rows wanted: 1 to 1000; 100 where absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    #[serde(default, deserialize_with = "read::number_in_query")]
    pub limit: Option<usize>,
}

impl From<reusable_leases::ReusableLease> for ReusableLease {
    fn from(row: reusable_leases::ReusableLease) -> Self {
        Self {
            lease_id: row.lease_id,
            company_id: row.company_id,
            environment_id: row.environment_id,
            driver: row.driver,
            provider: row.provider,
            policy: row.policy,
            execution_workspace_id: row.execution_workspace_id,
            agent_id: row.agent_id,
            adapter_type: row.adapter_type,
            reuse_fingerprint: row.reuse_fingerprint,
            provider_lease_id: row.provider_lease_id,
            fencing_token: row.fencing_token,
            released_at: row.released_at.into(),
            config: row.config,
        }
    }
}
