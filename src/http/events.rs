//! The log: pages and endless streams of recorded events, in the order of their positions.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use lease_events::record::{self, Position};
use lease_events::store::{READ_EVENTS_MAX, ReadError, Subscription};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::extract::{Query, page_limit};
use super::headers::{EVENT_STREAM, accepts, last_event_id};
use super::ndjson;
use super::openapi::{LastEventIdHeader, ReadRefusals};
use super::problem::{Answer, Refused};
use super::wire::event::{EventsQuery, RecordedEvent};

/// Events of a page where the caller does not say.
const PAGE_EVENTS: usize = 1_000;
/// How often a silent stream says that it is there: below the minute after which middlemen cut a silent connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The type of the last message of a stream that broke; the reader opens it again from the last id that it saw.
const BROKEN: &str = "problem";

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(list_events))
}

/// Read the log
///
/// One page as NDJSON; with `follow=true` that page goes on with the events to come. With
/// `Accept: text/event-stream` an endless stream of server-sent events: `id` is the position, `event` the type, and
/// `Last-Event-ID` resumes behind it. A stream that breaks ends with a line or message that bears `problem`.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "listEvents", tag = "events",
    params(EventsQuery, LastEventIdHeader),
    responses(
        (status = 200, description = "Events behind `after`, oldest first.", content(
            (RecordedEvent = "application/x-ndjson"),
            (String = "text/event-stream"),
        )),
        ReadRefusals,
    )
)]
async fn list_events(
    State(face): State<Face>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let limit = page_limit(query.limit, PAGE_EVENTS, READ_EVENTS_MAX)?;
    let seen = last_event_id(&headers)?;
    let after = seen.unwrap_or(Position(query.after.unwrap_or(0)));
    if accepts(&headers, EVENT_STREAM) {
        let messages =
            until_stopped(&face, face.ledger.subscribe(after).await?).map(|event| Ok::<_, Infallible>(message(event)));
        return Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response());
    }
    if query.follow.unwrap_or(false) {
        let lines = until_stopped(&face, face.ledger.subscribe(after).await?).map(line);
        return Ok(ndjson::response(lines));
    }
    let events = face.ledger.events(after, limit).await?;
    Ok(ndjson::response(stream::iter(events.into_iter().map(|event| line(Ok(event))))))
}

/// A stream without end would keep a server that stops from stopping.
fn until_stopped(
    face: &Face,
    events: Subscription,
) -> impl Stream<Item = Result<record::RecordedEvent, ReadError>> + use<> {
    events.take_until(face.stopping.clone().cancelled_owned())
}

fn line(event: Result<record::RecordedEvent, ReadError>) -> axum::body::Bytes {
    match event.map_err(Refused::from).and_then(on_wire) {
        Ok(event) => ndjson::line(&event),
        Err(refused) => ndjson::line(&serde_json::json!({ "problem": refused.0 })),
    }
}

fn message(event: Result<record::RecordedEvent, ReadError>) -> Event {
    match event.map_err(Refused::from).and_then(on_wire) {
        Ok(event) => Event::default().id(event.position.to_string()).event(&event.event_type).data(json(&event)),
        Err(refused) => Event::default().event(BROKEN).data(json(&refused.0)),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Only a map with keys that are no strings cannot be written, and no wire type holds one.
    serde_json::to_string(value).unwrap_or_default()
}

/// A stored event as the API shows it.
pub(super) fn on_wire(recorded: record::RecordedEvent) -> Answer<RecordedEvent> {
    let position = recorded.position;
    RecordedEvent::try_from(recorded).map_err(|error| {
        let cause = error.to_string();
        ReadError::Corrupt { position, column: "data or metadata", cause }.into()
    })
}
