//! `lease history`: the recorded events of a lease, byte for byte or as a story.

use lease_events::codec::{decode, decode_metadata};
use lease_events::fold::StreamState;
use lease_events::id::LeaseId;
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::record::{Position, RecordedEvent, StreamId};

use super::story;
use crate::cli::App;
use crate::cli::client::Call;
use crate::cli::duration::{absolute, relative};
use crate::cli::exit::CliError;
use crate::cli::render::{json, line, or_nothing, table};
use crate::cli::settings::now;
use crate::http::wire::event::{self, LeaseEvents};
use crate::http::wire::lease::LeaseScope;

pub(super) async fn history(app: &App, id: LeaseId) -> Result<(), CliError> {
    let scope = LeaseScope { company_id: Some(app.company) };
    let answer = Call::get(format!("/v1/leases/{id}/events")).query(&scope).send(&app.transport).await?;
    if app.json {
        return answer.member("events")?.iter().try_for_each(json);
    }
    let events = answer.parse::<LeaseEvents>()?.events.into_iter().map(recorded).collect::<Result<Vec<_>, _>>()?;
    let now = now();
    let mut rows = Vec::new();
    for recorded in &events {
        let event: LeaseEvent = decode(recorded).map_err(|error| CliError::Other(format!("{error}.")))?;
        let actor = decode_metadata(recorded).ok().map(|metadata| metadata.actor);
        let kind = recorded.event_type.strip_prefix("lease-").unwrap_or(&recorded.event_type);
        rows.push([
            absolute(recorded.recorded_at),
            relative(recorded.recorded_at, now),
            kind.to_owned(),
            or_nothing(actor),
            story::sentence(&event),
        ]);
    }
    line(&table(["WHEN", "AGO", "EVENT", "BY", "WHAT HAPPENED"], rows))?;
    let state = LeaseState::fold(&events).map_err(|error| CliError::Other(format!("{error}.")))?;
    state.map_or(Ok(()), |state| line(&crate::cli::render::harmless(&story::next(&state, now))))
}

/// The event as the store has it, from the wire.
fn recorded(event: event::RecordedEvent) -> Result<RecordedEvent, CliError> {
    Ok(RecordedEvent {
        event_id: event.event_id,
        stream_id: StreamId::parse(&event.stream_id).map_err(|error| CliError::unreadable("the history", error))?,
        stream_revision: event.stream_revision,
        position: Position(event.position),
        event_type: event.event_type.into(),
        schema_version: event.schema_version,
        company_id: event.company_id,
        recorded_at: event.recorded_at.0,
        data: event.data.get().into(),
        metadata: event.metadata.get().into(),
    })
}
