//! Create an environment. Its id is derived from company, driver, name and a generation that counts archived ones,
//! so that appending `environment-created` with "no stream" is what makes the name unique (B26).

use lease_events::environment::{EnvironmentCreated, EnvironmentState, EnvironmentStatus};
use lease_events::id::{CompanyId, EnvironmentId};
use lease_events::store::AppendError;
use serde::Serialize;
use serde_json::Value;

use super::{Command, CommandError, Context};

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
    /// The driver's config.
    pub config: Value,
}

/// Creates it, with the config in the driver's normal form.
pub async fn create(
    context: &Context,
    command: &Command,
    request: &CreateEnvironment,
) -> Result<EnvironmentState, CommandError> {
    check_name(&request.name)?;
    let driver = context
        .drivers
        .get(&request.driver)
        .ok_or_else(|| CommandError::UnknownDriver { driver: request.driver.clone(), known: context.drivers.keys() })?;
    let config = driver.validate(&request.config).await?;
    let company_id = request.company_id;
    let mut generation: u32 = 0;
    loop {
        let environment_id =
            EnvironmentId::derived(&[&company_id.to_string(), &request.driver, &request.name, &generation.to_string()]);
        match super::load(context, environment_id).await? {
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

fn check_name(name: &str) -> Result<(), CommandError> {
    let is_fine = !name.trim().is_empty()
        && name.trim() == name
        && name.len() <= NAME_BYTES_MAX
        && !name.chars().any(char::is_control);
    if is_fine {
        return Ok(());
    }
    Err(CommandError::Invalid {
        field: "name",
        sentence: format!(
            "\"name\" must have 1 to {NAME_BYTES_MAX} bytes, no control characters, and no space at its ends."
        ),
    })
}
