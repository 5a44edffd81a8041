//! Secrets: set, list, get, rotate, remove, and sealing all anew. No answer holds a value.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lease_events::id::SecretId;
use lease_projections::read_model::{ROWS_MAX, SecretFilter};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, PathId, Query, cursor, next_cursor, page_limit};
use super::headers::{IfMatch, Issuer, tagged};
use super::openapi::{CommandHeaders, CommandRefusals, IfMatchHeader, ReadRefusals};
use super::problem::{Answer, RequestFault};
use super::wire::secret::{
    Plaintext, RekeySecrets, RekeyedSecrets, RemoveSecret, RotateSecret, Secret, SecretList, SecretQuery, SecretScope,
    SetSecret,
};
use super::{Face, PAGE_ROWS};
use crate::commands::secret::{Source, remove, rotate, set};

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new()
        .routes(routes!(set_secret, list_secrets))
        .routes(routes!(get_secret))
        .routes(routes!(rotate_secret))
        .routes(routes!(remove_secret))
        .routes(routes!(rekey_secrets))
}

/// Set a secret
///
/// Creates it, or gives it a new version. A repetition under the same Idempotency-Key is answered as the first one was,
/// whatever value it bears: the value is no part of what is compared.
#[utoipa::path(
    post, path = "/v1/secrets", operation_id = "setSecret", tag = "secrets",
    params(CommandHeaders), request_body = SetSecret,
    responses(
        (status = 200, description = "With its new version.", body = Secret,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn set_secret(State(face): State<Face>, Issuer(caller): Issuer, Body(body): Body<SetSecret>) -> Answer<Response> {
    let source = source(body.value, body.variable, body.file)?;
    let request = set::SetSecret { company_id: body.company_id, name: body.name, source };
    Ok(answer(face.ledger.set_secret(caller, request).await?.into()))
}

/// List secrets
///
/// Newest created first, from the projections.
#[utoipa::path(
    get, path = "/v1/secrets", operation_id = "listSecrets", tag = "secrets",
    params(SecretQuery),
    responses((status = 200, description = "A page of secrets.", body = SecretList), ReadRefusals)
)]
async fn list_secrets(State(face): State<Face>, Query(query): Query<SecretQuery>) -> Answer<Json<SecretList>> {
    let limit = page_limit(query.limit, PAGE_ROWS, ROWS_MAX)?;
    let filter = SecretFilter {
        company_id: query.company_id,
        name: query.name,
        status: query.status,
        before: cursor(query.cursor.as_deref())?,
        limit,
    };
    let rows = face.ledger.read_model().secrets(&filter).await?;
    let next_cursor = next_cursor(rows.len(), limit, rows.last().map(|row| row.created_position));
    Ok(Json(SecretList { secrets: rows.into_iter().map(Secret::from).collect(), next_cursor }))
}

/// Get a secret
#[utoipa::path(
    get, path = "/v1/secrets/{secretId}", operation_id = "getSecret", tag = "secrets",
    params(("secretId" = Uuid, Path, description = "The secret."), SecretScope),
    responses(
        (status = 200, description = "As it is now.", body = Secret,
            headers(("ETag" = String, description = "Its revision."))),
        ReadRefusals,
    )
)]
async fn get_secret(
    State(face): State<Face>,
    PathId(secret_id): PathId<SecretId>,
    Query(scope): Query<SecretScope>,
) -> Answer<Response> {
    Ok(answer(face.ledger.secret(secret_id, scope.company_id).await?.into()))
}

/// Rotate a secret
///
/// Gives it a new version; those before stay for whoever names them by number.
#[utoipa::path(
    post, path = "/v1/secrets/{secretId}/rotate", operation_id = "rotateSecret", tag = "secrets",
    params(("secretId" = Uuid, Path, description = "The secret."), CommandHeaders, IfMatchHeader),
    request_body = RotateSecret,
    responses(
        (status = 200, description = "With its new version.", body = Secret,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn rotate_secret(
    State(face): State<Face>,
    PathId(secret_id): PathId<SecretId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<RotateSecret>,
) -> Answer<Response> {
    let source = source(body.value, body.variable, body.file)?;
    let request = rotate::RotateSecret { company_id: body.company_id, secret_id, source, if_revision };
    Ok(answer(face.ledger.rotate_secret(caller, request).await?.into()))
}

/// Remove a secret
///
/// It is read no more, its name is free, and what the ledger kept of it is deleted.
#[utoipa::path(
    post, path = "/v1/secrets/{secretId}/remove", operation_id = "removeSecret", tag = "secrets",
    params(("secretId" = Uuid, Path, description = "The secret."), CommandHeaders, IfMatchHeader),
    request_body = RemoveSecret,
    responses(
        (status = 200, description = "Removed.", body = Secret,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn remove_secret(
    State(face): State<Face>,
    PathId(secret_id): PathId<SecretId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<RemoveSecret>,
) -> Answer<Response> {
    let request = remove::RemoveSecret { company_id: body.company_id, secret_id, note: body.note, if_revision };
    Ok(answer(face.ledger.remove_secret(caller, request).await?.into()))
}

/// Seal all secrets anew
///
/// Under another master key, all or none. The ledger goes on with the new key; where it is started the next time, that
/// one must be given.
#[utoipa::path(
    post, path = "/v1/secrets/rekey", operation_id = "rekeySecrets", tag = "secrets",
    request_body = RekeySecrets,
    responses((status = 200, description = "Sealed with the new key.", body = RekeyedSecrets), CommandRefusals)
)]
async fn rekey_secrets(State(face): State<Face>, Body(body): Body<RekeySecrets>) -> Answer<Json<RekeyedSecrets>> {
    let versions = face.ledger.rekey_secrets(PathBuf::from(body.new_key_file)).await?;
    Ok(Json(RekeyedSecrets { versions }))
}

fn answer(secret: Secret) -> Response {
    tagged(StatusCode::OK, secret.revision, secret)
}

/// Where the value is: one of three.
fn source(value: Option<Plaintext>, variable: Option<String>, file: Option<String>) -> Result<Source, RequestFault> {
    match (value, variable, file) {
        (Some(Plaintext(value)), None, None) => Ok(Source::Value(value)),
        (None, Some(name), None) => Ok(Source::Variable(name)),
        (None, None, Some(path)) => Ok(Source::File(path)),
        _ => Err(RequestFault::field("value", "Give one of \"value\", \"variable\" and \"file\".")),
    }
}
