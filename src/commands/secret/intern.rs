//! Plaintext in a config becomes a secret, and the config keeps the reference (B19).
//!
//! Planned first, kept later: the driver validates a config that holds references already, so that it never sees a
//! plaintext, and a config that it refuses leaves no secret behind.

use lease_events::id::{CompanyId, SecretId};
use lease_events::record::StreamId;
use secrecy::SecretString;
use serde_json::Value;

use super::set::{SetSecret, set};
use super::{NAME_BYTES_MAX, Source, load_in, named};
use crate::commands::Context;
use crate::commands::caller::Command;
use crate::commands::error::CommandError;
use crate::commands::names;
use crate::drivers::secrets::{SecretRef, SecretVersion};
use crate::secrets::check_value;

/// A config whose plaintexts are taken out, and what is to be kept of them.
#[derive(Debug, Default)]
pub struct Interned {
    /// The config, with references only.
    pub config: Value,
    plaintexts: Vec<Plaintext>,
}

#[derive(Debug)]
struct Plaintext {
    secret_id: SecretId,
    name: String,
    value: SecretString,
}

/// Takes the plaintexts at `fields` out of a config. Each becomes the secret `OWNER/FIELD`, in its latest version. A
/// reference that is there already must name a secret of the company.
pub async fn plan(
    context: &Context,
    company_id: CompanyId,
    owner: &str,
    mut config: Value,
    fields: &[String],
) -> Result<Interned, CommandError> {
    let mut plaintexts = Vec::new();
    for field in fields {
        let Some(found) = config.pointer_mut(field) else { continue };
        match found.take() {
            Value::Null => {}
            Value::String(plaintext) => {
                let value = SecretString::from(plaintext);
                check_value(&value)?;
                let name = format!("{owner}{field}");
                names::check(&name, NAME_BYTES_MAX)?;
                let secret_id = named(context, company_id, &name).await?;
                *found = reference(secret_id)?;
                plaintexts.push(Plaintext { secret_id, name, value });
            }
            given => {
                check_reference(context, company_id, field, &given).await?;
                *found = given;
            }
        }
    }
    Ok(Interned { config, plaintexts })
}

impl Interned {
    /// Keeps the plaintexts, each by a command that follows `command`: run again, it is the same.
    pub async fn keep(
        &mut self,
        context: &Context,
        command: &Command,
        company_id: CompanyId,
    ) -> Result<(), CommandError> {
        for Plaintext { secret_id, name, value } in self.plaintexts.drain(..) {
            let step = command.follow_up(&format!("intern {name}"));
            let request = SetSecret { company_id, name, source: Source::Value(value) };
            // Removed in between, it would get another id than the config says.
            if set(context, &step, &request).await?.secret_id != secret_id {
                return Err(CommandError::Contention { stream: StreamId::secret(secret_id) });
            }
        }
        Ok(())
    }
}

fn reference(secret_id: SecretId) -> Result<Value, CommandError> {
    let reference = SecretRef { secret_id: secret_id.0, version: SecretVersion::Latest };
    serde_json::to_value(reference).map_err(|error| CommandError::BrokenOff { cause: error.to_string() })
}

async fn check_reference(
    context: &Context,
    company_id: CompanyId,
    field: &str,
    given: &Value,
) -> Result<(), CommandError> {
    let malformed = || CommandError::Invalid {
        field: "config",
        sentence: format!(
            "\"{field}\" of the config must be a secret's value, or a reference such as \
             {{\"type\":\"secret_ref\",\"secretId\":UUID,\"version\":\"latest\"}}."
        ),
    };
    // What is wrong with it is not quoted: it may be a value in the wrong shape.
    let reference: SecretRef = serde_json::from_value(given.clone()).map_err(|_| malformed())?;
    let secret = load_in(context, SecretId(reference.secret_id), company_id).await?;
    super::check_active(&secret)?;
    match reference.version {
        SecretVersion::Number(number) if secret.version(Some(number)).is_none() => {
            Err(CommandError::UnknownSecret { secret_id: secret.secret_id, company_id })
        }
        _ => Ok(()),
    }
}
