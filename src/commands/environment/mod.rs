//! Commands on environments: create, update, probe, archive; and how they are loaded.

pub mod archive;
pub mod create;
pub mod probe;
pub mod update;

use futures_util::TryStreamExt as _;
use lease_events::codec::encode;
use lease_events::environment::{EnvironmentEvent, EnvironmentState};
use lease_events::fold::StreamState;
use lease_events::id::{CompanyId, EnvironmentId, EventId};
use lease_events::record::StreamId;
use lease_events::seam::crash::Step;
use lease_events::store::{Append, AppendError, Direction, Expected};

use super::Context;
use super::caller::Command;
use super::error::CommandError;
use super::replay::{catch_up, events_of};
use super::session::append_surely;

/// How often a change of an environment is tried against others who change it.
const CONFLICTS_MAX: u32 = 8;

/// The environment as its stream says now; `None` where it is not there.
pub async fn load(context: &Context, id: EnvironmentId) -> Result<Option<EnvironmentState>, CommandError> {
    catch_up(context.store.as_ref(), &StreamId::environment(id), None, |_| {}).await
}

/// The environment of this id in this company.
pub async fn load_in(
    context: &Context,
    environment_id: EnvironmentId,
    company_id: CompanyId,
) -> Result<EnvironmentState, CommandError> {
    load(context, environment_id)
        .await?
        .filter(|environment| environment.company_id == company_id)
        .ok_or(CommandError::UnknownEnvironment { environment_id, company_id })
}

/// Whether this command made the environment, now or before it was broken off.
async fn begun_by(context: &Context, command: &Command, id: EnvironmentId) -> Result<bool, CommandError> {
    let stream = StreamId::environment(id);
    let first = context.store.read_stream(&stream, 0, Direction::Forwards, 1).await?;
    let own = EventId::of_command(command.id, stream.as_str(), 0);
    Ok(first.first().is_some_and(|recorded| recorded.event_id == own))
}

/// The environment as this command left it, where it did so before it was broken off.
async fn left_by(
    context: &Context,
    command: &Command,
    id: EnvironmentId,
) -> Result<Option<EnvironmentState>, CommandError> {
    if !command.repeatable {
        return Ok(None);
    }
    let stream = StreamId::environment(id);
    let own = EventId::of_command(command.id, stream.as_str(), 0);
    let mut events = events_of(context.store.as_ref(), &stream, 0);
    let mut state = None;
    while let Some(recorded) = events.try_next().await? {
        state = Some(EnvironmentState::apply(state, &recorded)?);
        if recorded.event_id == own {
            return Ok(state);
        }
    }
    Ok(None)
}

/// What the secrets are named after that come from the config of an environment.
fn secret_owner(driver: &str, name: &str) -> String {
    format!("environment/{driver}/{name}")
}

/// Appends one event at `expected` and answers the state behind it.
async fn append(
    context: &Context,
    command: &Command,
    environment_id: EnvironmentId,
    company_id: CompanyId,
    state: Option<EnvironmentState>,
    event: EnvironmentEvent,
) -> Result<EnvironmentState, CommandError> {
    let stream = StreamId::environment(environment_id);
    let expected = Expected::after(state.as_ref().map(|state| state.revision));
    let events = encode(&[event], &stream, company_id, command.id, 0, &command.metadata());
    let append = append_surely(context.store.as_ref(), Append { stream, expected, events });
    let appended = context.step(Step::EnvironmentOutcome, append).await?;
    let mut state = state;
    for recorded in &appended.events {
        state = Some(EnvironmentState::apply(state, recorded)?);
    }
    state.ok_or(CommandError::UnknownEnvironment { environment_id, company_id })
}

/// Loads, decides and appends one event until nobody else comes between. `decide` answers `None` where nothing is
/// to be changed. A command that has changed it before writes nothing more.
async fn change(
    context: &Context,
    command: &Command,
    environment_id: EnvironmentId,
    company_id: CompanyId,
    mut decide: impl FnMut(&EnvironmentState) -> Result<Option<EnvironmentEvent>, CommandError>,
) -> Result<EnvironmentState, CommandError> {
    if let Some(left) = left_by(context, command, environment_id).await? {
        return Ok(left);
    }
    for _ in 0..CONFLICTS_MAX {
        let state = load_in(context, environment_id, company_id).await?;
        let Some(event) = decide(&state)? else { return Ok(state) };
        match append(context, command, environment_id, company_id, Some(state), event).await {
            Err(CommandError::Append(AppendError::WrongExpectedRevision { .. })) => {}
            result => return result,
        }
    }
    Err(CommandError::Contention { stream: StreamId::environment(environment_id) })
}
