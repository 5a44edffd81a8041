//! Rotate a secret that is there: gives it a new version. Those before stay for whoever names them by number.

use lease_events::id::{CompanyId, SecretId};
use lease_events::record::StreamId;
use lease_events::secret::SecretState;
use serde::Serialize;

use super::{CONFLICTS_MAX, Command, CommandError, Context, Session, Source, check_active, is_conflict};
use crate::commands::authority;

/// What is asked. As with setting, its digest does not hold the value.
#[derive(Debug, Clone, Serialize)]
pub struct RotateSecret {
    /// The tenant.
    pub company_id: CompanyId,
    /// The secret.
    pub secret_id: SecretId,
    /// Where the new value is.
    pub source: Source,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Gives it a new version.
pub async fn rotate(context: &Context, command: &Command, request: &RotateSecret) -> Result<SecretState, CommandError> {
    for _ in 0..CONFLICTS_MAX {
        let session = Session::load(context, command, request.secret_id).await?;
        let state = session.existing(request.company_id)?;
        if session.written > 0 {
            return Ok(state.clone());
        }
        check_active(state)?;
        authority::check_revision(request.if_revision, state)?;
        match super::version::add(&session, request.company_id, None, &request.source).await {
            Err(error) if is_conflict(&error) => {}
            result => return result,
        }
    }
    Err(CommandError::Contention { stream: StreamId::secret(request.secret_id) })
}
