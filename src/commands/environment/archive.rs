//! Archive an environment: it gives no new leases; those that are there live on, and its history stays (B26).

use lease_events::environment::{EnvironmentArchived, EnvironmentState, EnvironmentStatus};
use lease_events::id::{CompanyId, EnvironmentId};
use serde::Serialize;

use super::{Command, CommandError, Context};
use crate::commands::authority;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct ArchiveEnvironment {
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The caller's own words.
    pub note: Option<String>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Archives it. One that is archived already is answered as it is.
pub async fn archive(
    context: &Context,
    command: &Command,
    request: &ArchiveEnvironment,
) -> Result<EnvironmentState, CommandError> {
    super::change(context, command, request.environment_id, request.company_id, |state| match state.status {
        EnvironmentStatus::Archived => Ok(None),
        EnvironmentStatus::Active => {
            authority::check_revision(request.if_revision, state)?;
            Ok(Some(EnvironmentArchived { note: request.note.clone() }.into()))
        }
    })
    .await
}
