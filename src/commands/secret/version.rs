//! A new version of a secret: kept first, then announced.

use lease_events::id::CompanyId;
use lease_events::seam::crash::Step;
use lease_events::secret::{SecretCreated, SecretEvent, SecretState, SecretVersionAdded};
use lease_events::store::AppendError;
use uuid::Uuid;

use super::{Session, Source, is_conflict};
use crate::commands::error::CommandError;
use crate::secrets::Place;

/// Keeps the value as the next version and announces it, behind `created` where the secret is new. A conflict is the
/// caller's to decide on anew; what was kept for it is discarded.
pub(super) async fn add(
    session: &Session<'_>,
    company_id: CompanyId,
    created: Option<SecretCreated>,
    source: &Source,
) -> Result<SecretState, CommandError> {
    let version = session.state.as_ref().map_or(1, SecretState::next_version);
    let place = Place { company_id, secret_id: session.secret_id, version };
    let provider = session.context.secrets.get(source.provider())?;
    let locator = match source {
        Source::Value(value) => {
            let locator = sealed_id(session, version).to_string();
            session.context.step(Step::SecretKeep, provider.keep(place, &locator, value)).await?;
            locator
        }
        // Read once, so that a name with nothing behind it is refused now and not when a lease needs it.
        Source::Variable(locator) | Source::File(locator) => {
            drop(provider.read(place, locator).await?);
            locator.clone()
        }
    };
    let added = SecretVersionAdded { version, provider: source.provider(), locator: locator.clone() };
    let events: Vec<SecretEvent> = created.map(SecretEvent::from).into_iter().chain([added.into()]).collect();
    let appended = session.append(company_id, &events).await;
    if appended.as_ref().is_err_and(is_unannounced)
        && let Err(fault) = provider.discard(&locator).await
    {
        tracing::warn!(secret = %session.secret_id, %fault, "a sealed value that no event names could not be discarded");
    }
    appended
}

/// The same command keeps the same version at the same place, however often it is run.
fn sealed_id(session: &Session<'_>, version: u32) -> Uuid {
    Uuid::new_v5(&session.command.id.0, format!("{} {version}", session.secret_id).as_bytes())
}

/// Whether no event names what was kept, for certain.
fn is_unannounced(error: &CommandError) -> bool {
    let definite = matches!(
        error,
        CommandError::Append(
            AppendError::Invalid { .. } | AppendError::Unavailable { .. } | AppendError::Fenced { .. }
        )
    );
    definite || is_conflict(error)
}
