//! Update an environment's config. Leases that are there keep theirs (B11).

use lease_events::environment::{EnvironmentState, EnvironmentStatus, EnvironmentUpdated};
use lease_events::id::{CompanyId, EnvironmentId};
use serde::Serialize;
use serde_json::Value;

use super::{Command, CommandError, Context, check_revision};

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateEnvironment {
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The whole new config.
    pub config: Value,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Gives it a new config, in the driver's normal form. The config that it has already changes nothing.
pub async fn update(
    context: &Context,
    command: &Command,
    request: &UpdateEnvironment,
) -> Result<EnvironmentState, CommandError> {
    let environment = super::load_in(context, request.environment_id, request.company_id).await?;
    let driver = context.drivers.get(&environment.driver).ok_or_else(|| CommandError::UnknownDriver {
        driver: environment.driver.clone(),
        known: context.drivers.keys(),
    })?;
    let config = driver.validate(&request.config).await?;
    super::change(context, command, request.environment_id, request.company_id, |state| {
        if state.config == config && state.status == EnvironmentStatus::Active {
            return Ok(None);
        }
        check_revision(request.if_revision, state)?;
        match state.status {
            EnvironmentStatus::Active => Ok(Some(EnvironmentUpdated { config: config.clone() }.into())),
            EnvironmentStatus::Archived => Err(CommandError::EnvironmentNotActive { name: state.name.clone() }),
        }
    })
    .await
}
