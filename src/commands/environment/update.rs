//! Update an environment's config. Leases that are there keep theirs (B11).

use lease_events::environment::{EnvironmentState, EnvironmentStatus, EnvironmentUpdated};
use lease_events::id::{CompanyId, EnvironmentId};
use serde::Serialize;
use serde_json::Value;

use super::{Command, CommandError, Context, secret_owner};
use crate::commands::authority;
use crate::commands::effect;
use crate::commands::secret::intern;
use crate::secrets::fields;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateEnvironment {
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The whole new config. A plaintext in a secret field becomes a secret, and a reference to it is kept.
    pub config: Value,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

impl UpdateEnvironment {
    /// The request with every plaintext hidden: what its digest is made of.
    pub async fn without_plaintexts(&self, context: &Context) -> Result<Self, CommandError> {
        let environment = super::load_in(context, self.environment_id, self.company_id).await?;
        let config = context
            .drivers
            .get(&environment.driver)
            .map_or(Value::Null, |driver| fields::hidden(&self.config, &driver.secret_fields(&self.config)));
        Ok(Self { config, ..self.clone() })
    }
}

/// Gives it a new config, in the driver's normal form. The config that it has already changes nothing.
pub async fn update(
    context: &Context,
    command: &Command,
    request: &UpdateEnvironment,
) -> Result<EnvironmentState, CommandError> {
    if let Some(left) = super::left_by(context, command, request.environment_id).await? {
        return Ok(left);
    }
    let environment = super::load_in(context, request.environment_id, request.company_id).await?;
    let driver = effect::driver(context, &environment.driver)?;
    let owner = secret_owner(&environment.driver, &environment.name);
    let fields = driver.secret_fields(&request.config);
    let mut interned = intern::plan(context, request.company_id, &owner, request.config.clone(), &fields).await?;
    let config = driver.validate(&interned.config).await?;
    // Looked at before anything is kept, and again with each fresh state.
    check_active(&environment)?;
    if environment.config != config {
        authority::check_revision(request.if_revision, &environment)?;
    }
    interned.keep(context, command, request.company_id).await?;
    super::change(context, command, request.environment_id, request.company_id, |state| {
        if state.config == config && state.status == EnvironmentStatus::Active {
            return Ok(None);
        }
        authority::check_revision(request.if_revision, state)?;
        check_active(state)?;
        Ok(Some(EnvironmentUpdated { config: config.clone() }.into()))
    })
    .await
}

fn check_active(state: &EnvironmentState) -> Result<(), CommandError> {
    match state.status {
        EnvironmentStatus::Active => Ok(()),
        EnvironmentStatus::Archived => Err(CommandError::EnvironmentNotActive { name: state.name.clone() }),
    }
}
