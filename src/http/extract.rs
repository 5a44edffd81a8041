//! Bodies, queries and path ids of requests. What does not fit is refused as a problem that names the field.

use std::fmt;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lease_events::record::Position;
use serde::de::DeserializeOwned;

use super::problem::{Refused, RequestFault};
use super::sentence::misfit;

/// Largest body of a request, in bytes: room for the input of a command; everything else is far smaller.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A JSON body that must be there.
pub(super) struct Body<T>(pub(super) T);

/// A JSON body that may be absent.
pub(super) struct OptionalBody<T>(pub(super) T);

/// The query of the URL.
pub(super) struct Query<T>(pub(super) T);

/// The one id in the path.
pub(super) struct PathId<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let media_type = media_type(&request);
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Err(RequestFault::MissingBody.into());
        }
        parse(media_type, &bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let media_type = media_type(&request);
        let bytes = read(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(media_type, &bytes).map(Self) }
    }
}

fn media_type(request: &Request) -> Option<String> {
    let value = request.headers().get(header::CONTENT_TYPE)?;
    Some(value.to_str().unwrap_or("something unreadable").split(';').next().unwrap_or_default().trim().to_owned())
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refused> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        Refused::from(if too_large {
            RequestFault::BodyTooLarge { limit: BODY_BYTES_MAX }
        } else {
            RequestFault::BrokenBody
        })
    })
}

fn parse<T: DeserializeOwned>(media_type: Option<String>, bytes: &[u8]) -> Result<T, Refused> {
    if !media_type.as_deref().is_some_and(|given| given.eq_ignore_ascii_case("application/json")) {
        return Err(RequestFault::NotJson { given: media_type }.into());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        fault(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| fault("", &error))?;
    Ok(value)
}

fn fault(path: &str, error: &serde_json::Error) -> RequestFault {
    if error.is_data() {
        misfit("The body", path, &error.to_string())
    } else {
        RequestFault::MalformedJson { cause: error.to_string() }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let deserializer = serde_urlencoded::Deserializer::new(pairs);
        serde_path_to_error::deserialize(deserializer)
            .map(Self)
            .map_err(|error| misfit("The query", &error.path().to_string(), &error.inner().to_string()).into())
    }
}

impl<S: Send + Sync, T: FromStr<Err: fmt::Display>> FromRequestParts<S> for PathId<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(RequestFault::UnknownRoute { path: parts.uri.path().to_owned() }.into());
        };
        let id =
            text.parse().map_err(|error| RequestFault::InvalidField { field: None, sentence: format!("{error}.") })?;
        Ok(Self(id))
    }
}

/// How many rows a page shall have: `wanted`, else `usual`; at most `most`.
pub(super) fn page_limit(wanted: Option<usize>, usual: usize, most: usize) -> Result<usize, Refused> {
    match wanted {
        None => Ok(usual),
        Some(wanted) if (1..=most).contains(&wanted) => Ok(wanted),
        Some(_) => Err(RequestFault::field("limit", format!("\"limit\" must be from 1 to {most}.")).into()),
    }
}

/// The position that a cursor stands for.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<Position>, Refused> {
    let Some(text) = text else { return Ok(None) };
    let position = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
    match position {
        Some(position) => Ok(Some(Position(position))),
        None => Err(RequestFault::field(
            "cursor",
            "\"cursor\" is none that this API gave; give \"nextCursor\" of the page before, or leave it out.",
        )
        .into()),
    }
}

/// The cursor of the page behind these rows: opaque to callers. A page that is not full is the last.
pub(super) fn next_cursor(rows: usize, limit: usize, last: Option<Position>) -> Option<String> {
    last.filter(|_| rows == limit).map(|position| URL_SAFE_NO_PAD.encode(position.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_was_given() {
        let given = next_cursor(2, 2, Some(Position(41)));
        assert_eq!(cursor(given.as_deref()).expect("a cursor"), Some(Position(41)));
        assert_eq!(next_cursor(1, 2, Some(Position(41))), None);
        for bad in ["41", "!", ""] {
            assert!(cursor(Some(bad)).is_err(), "{bad}");
        }
    }
}
