//! The API document: OpenAPI 3.1, generated from the handlers and the wire types, and served by the API itself.
//! `docs/openapi.json` is a copy that a test holds equal.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, Type};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HeaderBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Required, Response, ResponseBuilder, Schema,
};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::headers::{ACTOR, IDEMPOTENCY_KEY, LAST_EVENT_ID};
use super::problem::PROBLEM_JSON;
use super::wire::problem::Problem;

const ABOUT: &str = "An event-sourced lease ledger for the environments in which AI agents run. Every refusal is a \
    problem (RFC 9457) with a stable `code`, a `class` that says what a caller can do, and a sentence. Every answer \
    has all of its keys, with `null` where there is nothing.";

const TAGS: [(&str, &str); 8] = [
    ("environments", "Named, configured places where agent work runs."),
    ("leases", "The rights of runs to use environments."),
    ("runs", "Wake-ups of agents, which own the leases that they acquire."),
    ("secrets", "Names under which values are kept; no answer ever holds a value."),
    ("plugins", "Programs that make environments; they belong to the ledger, not to a company."),
    ("events", "The log: what happened, in order."),
    ("projections", "The tables of what is true now, and their care."),
    ("ledger", "The ledger itself."),
];

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(get_document))
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getApiDocument", tag = "ledger",
    responses((status = 200, description = "The API as OpenAPI 3.1.", body = Object))
)]
async fn get_document(State(face): State<Face>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], face.document)
}

/// What stands in the document beside the operations.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new().title("lease-ledger").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    let mut schemas = Vec::new();
    <Problem as ToSchema>::schemas(&mut schemas);
    let components = ComponentsBuilder::new().schema(Problem::name(), Problem::schema()).schemas_from_iter(schemas);
    OpenApiBuilder::new().info(info.build()).tags(Some(tags)).components(Some(components.build())).build()
}

/// States what the types cannot: every key of an answer is there, always. A schema that allows further keys is an
/// answer's; requests refuse what they do not know.
pub(super) fn with_all_keys_of_answers(mut document: OpenApi) -> OpenApi {
    for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
        if let RefOr::T(Schema::Object(object)) = schema
            && !matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false)))
        {
            object.required = object.properties.keys().cloned().collect();
        }
    }
    document
}

/// The headers that every command may bear.
pub(super) struct CommandHeaders;

impl IntoParams for CommandHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            header_parameter(
                IDEMPOTENCY_KEY,
                "The caller's own key of this command: the same key with the same request is answered the same \
                 outcome, and runs its effect once; with another request it is refused. 1 to 200 bytes.",
                "^[!-~]([ -~]{0,198}[!-~])?$",
            ),
            actor_parameter(),
            header_parameter(
                "traceparent",
                "W3C trace context, kept beside the events; one that makes no sense is left out.",
                "^[ -~]*$",
            ),
        ]
    }
}

/// The header of a change that is logged with who made it.
pub(super) struct ActorHeader;

impl IntoParams for ActorHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![actor_parameter()]
    }
}

fn actor_parameter() -> Parameter {
    header_parameter(
        ACTOR,
        "Who acts, for the record: `service:NAME`, `user:ID` or `run:ID`; `service:http` where absent.",
        "^(service|user|run):[!-~]{1,200}$",
    )
}

/// The header of a change that was decided on a revision.
pub(super) struct IfMatchHeader;

impl IntoParams for IfMatchHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "If-Match",
            "The ETag that was decided on; another present one refuses the change.",
            "^(\\*|\"[0-9]{1,15}\")$",
        )]
    }
}

/// The header of a reader that comes back.
pub(super) struct LastEventIdHeader;

impl IntoParams for LastEventIdHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(LAST_EVENT_ID, "The last position that was seen: goes before `after`.", "^[0-9]{1,15}$")]
    }
}

fn header_parameter(name: &str, about: &str, pattern: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))))
        .build()
}

/// How a read may be refused.
pub(super) struct ReadRefusals;
/// How a command may be refused.
pub(super) struct CommandRefusals;
/// How a command with an effect at a provider may be refused, or come to nothing, or may have.
pub(super) struct EffectRefusals;

const READ: [(u16, &str); 7] = [
    (400, "The request is malformed: a header or the body cannot be read."),
    (403, "A web page of another site sent the request."),
    (404, "What the request names is not there, or belongs to another company."),
    (421, "The request is meant for another host."),
    (422, "A field or parameter breaks a rule; `field` names it."),
    (500, "A fault of the ledger itself."),
    (503, "The ledger cannot answer now; try again later."),
];
const COMMAND: [(u16, &str); 4] = [
    (409, "What is there now does not allow it: look again, then decide."),
    (412, "The revision in If-Match is not the present one."),
    (413, "The body is too large."),
    (415, "The body is not application/json."),
];
const EFFECT: [(u16, &str); 2] = [
    (502, "The provider refused or failed; nothing of the effect is left."),
    (504, "The effect may or may not have happened; it is on record and will be settled."),
];

impl IntoResponses for ReadRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[&READ])
    }
}

impl IntoResponses for CommandRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[&READ, &COMMAND])
    }
}

impl IntoResponses for EffectRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[&READ, &COMMAND, &EFFECT])
    }
}

fn refusals(groups: &[&[(u16, &str)]]) -> BTreeMap<String, RefOr<Response>> {
    let refusal = |(status, about): &(u16, &str)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
        let mut response = ResponseBuilder::new().description(*about).content(PROBLEM_JSON, content);
        if *status == 503 {
            let seconds = HeaderBuilder::new()
                .description(Some("In so many seconds."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)));
            response = response.header("Retry-After", seconds.build());
        }
        (status.to_string(), RefOr::T(response.build()))
    };
    groups.iter().flat_map(|group| group.iter()).map(refusal).collect()
}
