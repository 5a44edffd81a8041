//! Set a secret by its name: creates it, or gives it a new version.
//!
//! Its id is derived from company, name and a generation that counts removed ones, so that appending `secret-created`
//! with "no stream" is what makes the name unique.

use lease_events::id::CompanyId;
use lease_events::record::StreamId;
use lease_events::secret::{SecretCreated, SecretState, SecretStatus};
use serde::Serialize;

use super::{CONFLICTS_MAX, Command, CommandError, Context, NAME_BYTES_MAX, Session, Source, derived, is_conflict};
use crate::commands::names;

/// What is asked. Its digest does not hold the value: the same key with another value is the same command, and is
/// answered with what the first one did.
#[derive(Debug, Clone, Serialize)]
pub struct SetSecret {
    /// The tenant.
    pub company_id: CompanyId,
    /// Unique among the company's secrets that are there.
    pub name: String,
    /// Where the value is.
    pub source: Source,
}

/// Sets it.
pub async fn set(context: &Context, command: &Command, request: &SetSecret) -> Result<SecretState, CommandError> {
    let SetSecret { company_id, name, source } = request;
    names::check(name, NAME_BYTES_MAX)?;
    let (mut generation, mut conflicts) = (0_u32, 0);
    loop {
        let session = Session::load(context, command, derived(*company_id, name, generation)).await?;
        let created = match &session.state {
            // This command did it before, and was broken off.
            Some(state) if session.written > 0 => return Ok(state.clone()),
            Some(state) if state.status == SecretStatus::Removed => {
                generation += 1;
                continue;
            }
            Some(_) => None,
            None => Some(SecretCreated {
                secret_id: session.secret_id,
                company_id: *company_id,
                name: name.clone(),
                generation,
            }),
        };
        match super::version::add(&session, *company_id, created, source).await {
            // Somebody else was first: look again.
            Err(error) if is_conflict(&error) && conflicts < CONFLICTS_MAX => conflicts += 1,
            Err(error) if is_conflict(&error) => {
                return Err(CommandError::Contention { stream: StreamId::secret(session.secret_id) });
            }
            result => return result,
        }
    }
}
