//! How commands call a driver: the scope of a call, its time limit, and what a missing driver means.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lease_events::failure::Fault;
use lease_events::lease::LeaseState;

use super::Context;
use super::error::CommandError;
use crate::drivers::{EnvironmentDriver, Held, LeaseScope, Outcome};

/// How long after a driver's own time limit an effect without an outcome counts as lost: room for the append.
pub const SETTLE_GRACE: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// The driver of this key.
pub fn driver<'a>(context: &'a Context, key: &str) -> Result<&'a Arc<dyn EnvironmentDriver>, CommandError> {
    context
        .drivers
        .get(key)
        .ok_or_else(|| CommandError::UnknownDriver { driver: key.to_owned(), known: context.drivers.keys() })
}

/// The driver that a lease was made by (B3).
pub fn driver_of<'a>(context: &'a Context, state: &LeaseState) -> Result<&'a Arc<dyn EnvironmentDriver>, CommandError> {
    driver(context, &state.driver)
}

/// Who a call for this lease is for, under this token: everything from the lease's own record (B11).
#[must_use]
pub fn scope(state: &LeaseState, fencing_token: u64, attempt: u32) -> LeaseScope {
    LeaseScope {
        ledger_id: state.ledger_id,
        company_id: state.company_id,
        environment_id: state.environment_id,
        lease_id: state.lease_id,
        run_id: state.run_id,
        issue_id: state.issue_id.clone(),
        agent_id: state.agent_id.clone(),
        execution_workspace_id: state.execution_workspace_id.clone(),
        execution_workspace_mode: state.execution_workspace_mode.clone(),
        adapter_type: state.adapter_type.clone(),
        config: state.config.clone(),
        fencing_token,
        attempt,
    }
}

/// What the lease holds, as the ledger recorded it; empty where the provider never answered.
#[must_use]
pub fn held(state: &LeaseState) -> Held {
    state.provider_lease.as_ref().map_or_else(
        || Held { provider_lease_id: None, metadata: serde_json::Map::new() },
        |held| Held { provider_lease_id: held.provider_lease_id.clone(), metadata: held.metadata.clone() },
    )
}

/// A driver's answer within its time; no answer means that nobody knows.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let sentence = format!("no answer came within {} seconds", limit.as_secs_f64());
        Outcome::Unknown(Fault::new("provider-timeout", sentence))
    })
}

/// When an effect that starts now counts as lost, if no outcome of it is stored.
pub fn settle_at(context: &Context, limit: Duration) -> chrono::DateTime<chrono::Utc> {
    let limit = chrono::TimeDelta::from_std(limit).unwrap_or(chrono::TimeDelta::days(1));
    context.clock.now() + limit + SETTLE_GRACE
}
