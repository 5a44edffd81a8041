//! What headers say: who calls and under which key, which revision was decided on, which answer is wanted.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use lease_events::record::{ActorKind, Position};
use serde::Serialize;

use super::problem::{Refused, RequestFault};
use crate::commands::caller::{Caller, IDEMPOTENCY_KEY_BYTES_MAX};

/// Who acts: `service:heartbeat`, `user:ID` or `run:ID`.
pub const ACTOR: &str = "Lease-Ledger-Actor";
/// The caller's own key of a command: the same key is the same command.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The position of the last event that a stream's reader has seen.
pub const LAST_EVENT_ID: &str = "Last-Event-ID";
/// The media type of one JSON text a line.
pub const NDJSON: &str = "application/x-ndjson";
/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Longest id of an actor, in bytes, as events keep it.
const ACTOR_ID_BYTES_MAX: usize = 200;
/// The name of whoever does not say who acts.
const UNNAMED_SERVICE: &str = "http";

/// Who issues a command, from the headers.
pub(super) struct Issuer(pub(super) Caller);

/// The revision that the caller decided on, from `If-Match`.
pub(super) struct IfMatch(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for Issuer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let mut caller = match text(&parts.headers, ACTOR)? {
            Some(actor) => actor_of(actor)?,
            None => Caller::service(UNNAMED_SERVICE),
        };
        caller.idempotency_key = text(&parts.headers, IDEMPOTENCY_KEY)?.map(key_of).transpose()?;
        // By W3C Trace Context, one that makes no sense is left out, not refused.
        caller.traceparent =
            text(&parts.headers, "traceparent").ok().flatten().filter(|given| is_traceparent(given)).map(str::to_owned);
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match text(&parts.headers, "If-Match")? {
            None | Some("*") => Ok(Self(None)),
            Some(tag) => tag
                .strip_prefix('"')
                .and_then(|tag| tag.strip_suffix('"'))
                .and_then(number)
                .map(|revision| Self(Some(revision)))
                .ok_or_else(|| {
                    malformed(
                        "If-Match",
                        "If-Match must be one ETag that this API gave, such as \"7\" with its quotes.",
                    )
                }),
        }
    }
}

fn actor_of(actor: &str) -> Result<Caller, Refused> {
    let kind_and_id = actor.split_once(':').and_then(|(kind, id)| {
        let kind = match kind {
            "service" => ActorKind::Service,
            "user" => ActorKind::User,
            "run" => ActorKind::Run,
            _ => return None,
        };
        (!id.is_empty() && id.len() <= ACTOR_ID_BYTES_MAX).then_some((kind, id))
    });
    kind_and_id.map(|(kind, id)| Caller::of(kind, id)).ok_or_else(|| {
        malformed(
            ACTOR,
            &format!("{ACTOR} must be service:NAME, user:ID or run:ID, the id of 1 to {ACTOR_ID_BYTES_MAX} bytes."),
        )
    })
}

/// The draft's structured string `"KEY"` and a bare `KEY` are the same key.
fn key_of(given: &str) -> Result<String, Refused> {
    let bare = given.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(given);
    if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&bare.len()) {
        return Ok(bare.to_owned());
    }
    Err(malformed(IDEMPOTENCY_KEY, &format!("{IDEMPOTENCY_KEY} must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes.")))
}

fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    matches!(parts[..], [version, trace, parent, flags]
        if is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2))
}

/// The position behind which a reader of the event stream goes on, where it was there before.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<Position>, Refused> {
    text(headers, LAST_EVENT_ID)?
        .map(|id| {
            number(id).map(Position).ok_or_else(|| {
                malformed(LAST_EVENT_ID, "Last-Event-ID must be the id of an event that this API gave: a position.")
            })
        })
        .transpose()
}

/// Whether the caller wants this media type by name.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type))
}

/// The one value of a header, in visible ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(malformed(name, &format!("{name} is given twice; give it once."))),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(malformed(name, &format!("{name} must be visible ASCII."))),
        },
    }
}

fn malformed(header: &'static str, sentence: &str) -> Refused {
    RequestFault::MalformedHeader { header, sentence: sentence.to_owned() }.into()
}

/// Digits only: `+7` and ` 7` are no numbers that this API writes.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// An answer about one stream, with its revision as ETag.
pub(super) fn tagged(status: StatusCode, revision: u64, body: impl Serialize) -> Response {
    let tag = HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    (status, [(header::ETAG, tag)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_no_part_of_a_key() {
        assert_eq!(key_of("\"abc\"").expect("a key"), "abc");
        assert_eq!(key_of("abc").expect("a key"), "abc");
        assert!(key_of("\"\"").is_err());
        assert!(key_of(&"a".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn nobody_acts_as_the_ledger_itself() {
        assert_eq!(actor_of("user:7").expect("an actor").actor.kind, ActorKind::User);
        for bad in ["ledger:recovery", "user:", "user", "", "boss:7"] {
            assert!(actor_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_traceparent_is_taken_only_whole() {
        assert!(is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(!is_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"));
        assert!(!is_traceparent("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    }
}
