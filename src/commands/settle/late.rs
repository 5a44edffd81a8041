//! Settling an acquire by its own answer, which came when nobody waited for it any more.

use lease_events::id::LeaseId;

use super::acquire::Settling;
use crate::commands::Context;
use crate::commands::caller::Command;
use crate::commands::effect::driver_of;
use crate::commands::error::CommandError;
use crate::commands::session::LeaseSession;
use crate::commands::upkeep::Upkeep;

/// Takes what a provider gave for this lease, too late for its acquire: the run has it, or it is destroyed. `None` where
/// the lease has found what its acquire made already.
pub async fn settle_late(
    context: &Context,
    command: &Command,
    lease_id: LeaseId,
    provider_lease_id: String,
) -> Result<Option<Upkeep>, CommandError> {
    // An acquire that is still at work says first that it does not know.
    let _held = context.locks.hold(lease_id.0).await;
    let session = LeaseSession::load_existing(context, command, lease_id, None).await?;
    let state = session.state()?;
    if state.provider_lease.is_some() {
        return Ok(None);
    }
    let driver = driver_of(context, state).map(std::sync::Arc::clone)?;
    let traits = driver.traits(&state.config);
    let is_open = state.status.is_open();
    let because = "the provider answered after its time was over".to_owned();
    let settling = Settling { context, command, session, because, is_due: true };
    let wanted = is_open && settling.is_wanted().await?;
    settling.found_listed(driver.as_ref(), &traits, provider_lease_id, wanted).await
}
