//! Remove a secret: it is read no more, its name is free, and what the ledger kept of it is deleted.

use lease_events::id::{CompanyId, SecretId};
use lease_events::record::StreamId;
use lease_events::secret::{SecretRemoved, SecretState, SecretStatus};
use serde::Serialize;

use super::{CONFLICTS_MAX, Command, CommandError, Context, Session, is_conflict};
use crate::commands::authority;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct RemoveSecret {
    /// The tenant.
    pub company_id: CompanyId,
    /// The secret.
    pub secret_id: SecretId,
    /// The caller's own words.
    pub note: Option<String>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Removes it. One that is removed already is answered as it is, and what may be left of it is deleted again: the
/// first try may have been broken off in between.
pub async fn remove(context: &Context, command: &Command, request: &RemoveSecret) -> Result<SecretState, CommandError> {
    for _ in 0..CONFLICTS_MAX {
        let session = Session::load(context, command, request.secret_id).await?;
        let state = session.existing(request.company_id)?.clone();
        let removed = match state.status {
            SecretStatus::Removed => Ok(state),
            SecretStatus::Active => {
                authority::check_revision(request.if_revision, &state)?;
                let removed = SecretRemoved { note: request.note.clone() };
                session.append(request.company_id, &[removed.into()]).await
            }
        };
        match removed {
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error),
            Ok(removed) => {
                for provider in context.secrets.all() {
                    provider.discard_secret(request.secret_id).await?;
                }
                return Ok(removed);
            }
        }
    }
    Err(CommandError::Contention { stream: StreamId::secret(request.secret_id) })
}
