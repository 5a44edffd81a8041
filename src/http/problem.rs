//! Refusals as RFC 9457 problems. **The one file that maps what went wrong to an HTTP status.**

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lease_events::failure::FailureClass;
use lease_events::store::ReadError;
use lease_projections::projection::QueryError;

use super::wire::problem::Problem;
use crate::commands::error::CommandError;
use crate::commands::plugin::PluginFault;

/// The media type of a problem (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// When a caller may try again where the ledger was not able to answer, in seconds.
const RETRY_AFTER_SECONDS: u16 = 1;

/// An answer, or why there is none.
pub(super) type Answer<T> = Result<T, Refused>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Box<Problem>);

/// What is wrong with a request before any command sees it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestFault {
    /// The body is no JSON.
    #[error("The body is not JSON: {cause}.")]
    MalformedJson { cause: String },
    /// There is no body.
    #[error("The request has no body; give a JSON object, with Content-Type: application/json.")]
    MissingBody,
    /// The body is something else than JSON.
    #[error("The body must come with Content-Type: application/json{}.", .given.as_ref().map(|given| format!(", not {given}")).unwrap_or_default())]
    NotJson { given: Option<String> },
    /// The body is too large.
    #[error("The body has more than {limit} bytes; make it smaller.")]
    BodyTooLarge { limit: usize },
    /// The connection broke inside the body.
    #[error("The body could not be read to its end; send the request again.")]
    BrokenBody,
    /// A field or parameter makes no sense.
    #[error("{sentence}")]
    InvalidField { field: Option<String>, sentence: String },
    /// A header makes no sense.
    #[error("{sentence}")]
    MalformedHeader { header: &'static str, sentence: String },
    /// There is no such route.
    #[error("There is nothing at {path}; /openapi.json says what there is.")]
    UnknownRoute { path: String },
    /// The route does not know this method.
    #[error("{path} does not know the method {method}; the Allow header says which it knows.")]
    MethodNotAllowed { method: String, path: String },
    /// The request is meant for another host.
    #[error("The Host \"{host}\" is no name of this machine's loopback; ask localhost, 127.0.0.1 or [::1].")]
    ForeignHost { host: String },
    /// A web page of another site sent the request.
    #[error("A page of {origin} may not use this ledger; only pages of this machine's loopback may.")]
    ForeignOrigin { origin: String },
}

impl RequestFault {
    /// A field that breaks a rule.
    pub(super) fn field(field: &str, sentence: impl Into<String>) -> Self {
        Self::InvalidField { field: Some(field.to_owned()), sentence: sentence.into() }
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MalformedJson { .. } => (StatusCode::BAD_REQUEST, "malformed-json"),
            Self::MissingBody => (StatusCode::BAD_REQUEST, "missing-body"),
            Self::BrokenBody => (StatusCode::BAD_REQUEST, "broken-body"),
            Self::MalformedHeader { .. } => (StatusCode::BAD_REQUEST, "malformed-header"),
            Self::NotJson { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
            Self::InvalidField { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"),
            Self::UnknownRoute { .. } => (StatusCode::NOT_FOUND, "unknown-route"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            Self::ForeignHost { .. } => (StatusCode::MISDIRECTED_REQUEST, "foreign-host"),
            Self::ForeignOrigin { .. } => (StatusCode::FORBIDDEN, "foreign-origin"),
        }
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::UnknownRoute { .. } => FailureClass::NotFound,
            _ => FailureClass::Invalid,
        }
    }
}

fn status_of(error: &CommandError) -> StatusCode {
    match (error, error.class()) {
        (CommandError::RevisionMismatch { .. }, _) => StatusCode::PRECONDITION_FAILED,
        // As the IETF's draft of the Idempotency-Key header has it; 409 would say "try again".
        (CommandError::IdempotencyKeyReused { .. }, _) | (_, FailureClass::Invalid) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, FailureClass::NotFound) => StatusCode::NOT_FOUND,
        (_, FailureClass::Conflict) => StatusCode::CONFLICT,
        (_, FailureClass::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        (_, FailureClass::Provider) => StatusCode::BAD_GATEWAY,
        (_, FailureClass::OutcomeUnknown) => StatusCode::GATEWAY_TIMEOUT,
        (_, FailureClass::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn problem(status: StatusCode, code: &str, class: FailureClass, detail: &str) -> Problem {
    Problem {
        kind: format!("urn:lease-ledger:problem:{code}"),
        title: sentence(&code.replace('-', " ")).trim_end_matches('.').to_owned(),
        status: status.as_u16(),
        detail: sentence(detail),
        code: code.to_owned(),
        class,
        lease_id: None,
        field: None,
    }
}

/// A capital letter first, unless the first word is a name, and a full stop last.
fn sentence(text: &str) -> String {
    let first_word = text.split(' ').next().unwrap_or_default();
    let mut letters = text.chars();
    let mut sentence: String = match letters.next() {
        Some(first) if first_word.chars().all(char::is_alphabetic) => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    };
    if !sentence.ends_with(['.', '!', '?', '…']) {
        sentence.push('.');
    }
    sentence
}

impl From<&CommandError> for Problem {
    fn from(error: &CommandError) -> Self {
        let field = match error {
            CommandError::Invalid { field, .. } | CommandError::Plugin(PluginFault::Invalid { field, .. }) => {
                Some((*field).to_owned())
            }
            CommandError::InvalidConfig(_) => Some("config".to_owned()),
            CommandError::UnknownDriver { .. } => Some("driver".to_owned()),
            CommandError::StaleFencingToken { .. } | CommandError::NoAuthority { .. } => {
                Some("fencingToken".to_owned())
            }
            CommandError::RevisionMismatch { .. } => Some("If-Match".to_owned()),
            CommandError::IdempotencyKeyReused { .. } => Some("Idempotency-Key".to_owned()),
            _ => None,
        };
        let (class, detail) = (error.class(), error.to_string());
        if class == FailureClass::Internal {
            tracing::error!(code = error.code(), detail, "a request met a fault of the ledger");
        }
        Self { lease_id: error.lease_id(), field, ..problem(status_of(error), error.code(), class, &detail) }
    }
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Self {
        Self(Box::new(Problem::from(&error)))
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        CommandError::from(error).into()
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        CommandError::from(error).into()
    }
}

impl From<RequestFault> for Refused {
    fn from(fault: RequestFault) -> Self {
        let (status, code) = fault.status_and_code();
        let field = match &fault {
            RequestFault::InvalidField { field, .. } => field.clone(),
            RequestFault::MalformedHeader { header, .. } => Some((*header).to_owned()),
            RequestFault::ForeignHost { .. } => Some("Host".to_owned()),
            RequestFault::ForeignOrigin { .. } => Some("Origin".to_owned()),
            _ => None,
        };
        Self(Box::new(Problem { field, ..problem(status, code, fault.class(), &fault.to_string()) }))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use lease_events::id::LeaseId;
    use lease_events::record::StreamId;

    use super::*;

    #[test]
    fn each_class_has_its_status() {
        let stream = StreamId::lease(LeaseId::derived(&["x"]));
        let mismatch = CommandError::RevisionMismatch { stream: stream.clone(), expected: 1, actual: 2 };
        let unavailable: CommandError = ReadError::Unavailable { cause: "away".into() }.into();
        let cases = [
            (mismatch, 412, "revision-mismatch"),
            (CommandError::IdempotencyKeyReused { operation: "acquire".into() }, 422, "idempotency-key-reused"),
            (CommandError::Contention { stream }, 409, "contention"),
            (unavailable, 503, "store-unavailable"),
            (CommandError::Stopping, 503, "stopping"),
            (CommandError::BrokenOff { cause: "x".into() }, 500, "broken-off"),
        ];
        for (error, status, code) in cases {
            let problem = Problem::from(&error);
            assert_eq!((problem.status, &*problem.code), (status, code));
            assert_eq!(problem.kind, format!("urn:lease-ledger:problem:{code}"));
            assert!(problem.detail.ends_with('.'), "{}", problem.detail);
        }
    }

    #[test]
    fn a_detail_is_a_sentence_and_a_name_stays_as_it_is() {
        assert_eq!(sentence("the store is away"), "The store is away.");
        assert_eq!(sentence("lease-7 is at 3."), "lease-7 is at 3.");
    }
}
