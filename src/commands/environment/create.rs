//! Create an environment. Its id is derived from company, driver, name and a generation that counts archived ones,
//! so that appending `environment-created` with "no stream" is what makes the name unique (B26).

use lease_events::environment::{EnvironmentCreated, EnvironmentState, EnvironmentStatus};
use lease_events::id::{CompanyId, EnvironmentId};
use lease_events::store::AppendError;
use serde::Serialize;
use serde_json::Value;

use super::{Command, CommandError, Context, secret_owner};
use crate::commands::effect;
use crate::commands::names;
use crate::commands::secret::intern;
use crate::drivers::Drivers;
use crate::secrets::fields;

/// Longest name of an environment, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct CreateEnvironment {
    /// The tenant.
    pub company_id: CompanyId,
    /// Unique together with the driver among the company's active environments.
    pub name: String,
    /// The key of the driver.
    pub driver: String,
    /// The driver's config. A plaintext in a secret field becomes a secret, and a reference to it is kept.
    pub config: Value,
}

impl CreateEnvironment {
    /// The request with every plaintext hidden: what its digest is made of. Where the driver is not known, neither is
    /// which fields are secret, and none is shown.
    #[must_use]
    pub fn without_plaintexts(&self, drivers: &Drivers) -> Self {
        let config = drivers
            .get(&self.driver)
            .map_or(Value::Null, |driver| fields::hidden(&self.config, &driver.secret_fields(&self.config)));
        Self { config, ..self.clone() }
    }
}

/// Creates it, with the config in the driver's normal form.
pub async fn create(
    context: &Context,
    command: &Command,
    request: &CreateEnvironment,
) -> Result<EnvironmentState, CommandError> {
    names::check(&request.name, NAME_BYTES_MAX)?;
    let driver = effect::driver(context, &request.driver)?;
    let company_id = request.company_id;
    let owner = secret_owner(&request.driver, &request.name);
    let fields = driver.secret_fields(&request.config);
    let mut interned = intern::plan(context, company_id, &owner, request.config.clone(), &fields).await?;
    let config = driver.validate(&interned.config).await?;
    let mut generation: u32 = 0;
    loop {
        let environment_id =
            EnvironmentId::derived(&[&company_id.to_string(), &request.driver, &request.name, &generation.to_string()]);
        match super::load(context, environment_id).await? {
            // This command did it before, and was broken off.
            Some(existing) if super::begun_by(context, command, environment_id).await? => return Ok(existing),
            Some(existing) if existing.status == EnvironmentStatus::Archived => generation += 1,
            Some(_) => {
                return Err(CommandError::EnvironmentNameTaken {
                    company_id,
                    name: request.name.clone(),
                    driver: request.driver.clone(),
                    environment_id,
                });
            }
            None => {
                interned.keep(context, command, company_id).await?;
                let created = EnvironmentCreated {
                    environment_id,
                    company_id,
                    name: request.name.clone(),
                    driver: request.driver.clone(),
                    config: config.clone(),
                    generation,
                };
                let state = super::append(context, command, environment_id, company_id, None, created.into());
                match state.await {
                    // Somebody else was first: look again, and find the name taken.
                    Err(CommandError::Append(AppendError::WrongExpectedRevision { .. })) => {}
                    result => return result,
                }
            }
        }
    }
}
