//! Environments: create, list, get, update, archive, probe.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lease_events::id::{CompanyId, EnvironmentId};
use lease_projections::read_model::{EnvironmentFilter, ROWS_MAX};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, OptionalBody, PathId, Query, cursor, next_cursor, page_limit};
use super::headers::{IfMatch, Issuer, tagged};
use super::openapi::{CommandHeaders, CommandRefusals, IfMatchHeader, ReadRefusals};
use super::problem::{Answer, RequestFault};
use super::wire::environment::{
    ArchiveEnvironment, CreateEnvironment, Environment, EnvironmentList, EnvironmentQuery, EnvironmentScope,
    ProbeEnvironment, ProbedEnvironment, UpdateEnvironment,
};
use super::{Face, PAGE_ROWS};
use crate::commands::environment::{archive, create, probe, update};

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new()
        .routes(routes!(create_environment, list_environments))
        .routes(routes!(get_environment, update_environment))
        .routes(routes!(archive_environment))
        .routes(routes!(probe_environment))
}

/// Create an environment
///
/// The config is checked and put into the driver's normal form; secrets stay references.
#[utoipa::path(
    post, path = "/v1/environments", operation_id = "createEnvironment", tag = "environments",
    params(CommandHeaders), request_body = CreateEnvironment,
    responses(
        (status = 201, description = "It is there.", body = Environment,
            headers(("ETag" = String, description = "Its revision."), ("Location" = String, description = "Where it is."))),
        CommandRefusals,
    )
)]
async fn create_environment(
    State(face): State<Face>,
    Issuer(caller): Issuer,
    Body(body): Body<CreateEnvironment>,
) -> Answer<Response> {
    let request = create::CreateEnvironment {
        company_id: body.company_id,
        name: body.name,
        driver: body.driver,
        config: Value::Object(body.config),
    };
    let environment: Environment = face.ledger.create_environment(caller, request).await?.into();
    let location = format!("/v1/environments/{}?companyId={}", environment.id, environment.company_id);
    let answer = tagged(StatusCode::CREATED, environment.revision, environment);
    Ok(([(header::LOCATION, location)], answer).into_response())
}

/// List environments
///
/// Newest created first, from the projections.
#[utoipa::path(
    get, path = "/v1/environments", operation_id = "listEnvironments", tag = "environments",
    params(EnvironmentQuery),
    responses((status = 200, description = "A page of environments.", body = EnvironmentList), ReadRefusals)
)]
async fn list_environments(
    State(face): State<Face>,
    Query(query): Query<EnvironmentQuery>,
) -> Answer<Json<EnvironmentList>> {
    let limit = page_limit(query.limit, PAGE_ROWS, ROWS_MAX)?;
    let filter = EnvironmentFilter {
        company_id: query.company_id,
        name: query.name,
        driver: query.driver,
        status: query.status,
        before: cursor(query.cursor.as_deref())?,
        limit,
    };
    let rows = face.ledger.read_model().environments(&filter).await?;
    let next_cursor = next_cursor(rows.len(), limit, rows.last().map(|row| row.created_position));
    Ok(Json(EnvironmentList { environments: rows.into_iter().map(Environment::from).collect(), next_cursor }))
}

/// Get an environment
#[utoipa::path(
    get, path = "/v1/environments/{environmentId}", operation_id = "getEnvironment", tag = "environments",
    params(("environmentId" = Uuid, Path, description = "The environment."), EnvironmentScope),
    responses(
        (status = 200, description = "As it is now.", body = Environment,
            headers(("ETag" = String, description = "Its revision."))),
        ReadRefusals,
    )
)]
async fn get_environment(
    State(face): State<Face>,
    PathId(environment_id): PathId<EnvironmentId>,
    Query(scope): Query<EnvironmentScope>,
) -> Answer<Response> {
    let company = company(scope.company_id, None)?;
    Ok(answer(face.ledger.environment(environment_id, company).await?.into()))
}

/// Update an environment
///
/// Gives it a whole new config. Leases that are there keep theirs.
#[utoipa::path(
    patch, path = "/v1/environments/{environmentId}", operation_id = "updateEnvironment", tag = "environments",
    params(("environmentId" = Uuid, Path, description = "The environment."), EnvironmentScope, CommandHeaders,
        IfMatchHeader),
    request_body = UpdateEnvironment,
    responses(
        (status = 200, description = "With its new config.", body = Environment,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn update_environment(
    State(face): State<Face>,
    PathId(environment_id): PathId<EnvironmentId>,
    Query(scope): Query<EnvironmentScope>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<UpdateEnvironment>,
) -> Answer<Response> {
    let request = update::UpdateEnvironment {
        company_id: company(scope.company_id, body.company_id)?,
        environment_id,
        config: Value::Object(body.config),
        if_revision,
    };
    Ok(answer(face.ledger.update_environment(caller, request).await?.into()))
}

/// Archive an environment
///
/// It gives no new leases; those that are there live on, and its history stays.
#[utoipa::path(
    post, path = "/v1/environments/{environmentId}/archive", operation_id = "archiveEnvironment",
    tag = "environments",
    params(("environmentId" = Uuid, Path, description = "The environment."), EnvironmentScope, CommandHeaders,
        IfMatchHeader),
    request_body = Option<ArchiveEnvironment>,
    responses(
        (status = 200, description = "Archived.", body = Environment,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn archive_environment(
    State(face): State<Face>,
    PathId(environment_id): PathId<EnvironmentId>,
    Query(scope): Query<EnvironmentScope>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    OptionalBody(body): OptionalBody<ArchiveEnvironment>,
) -> Answer<Response> {
    let request = archive::ArchiveEnvironment {
        company_id: company(scope.company_id, body.company_id)?,
        environment_id,
        note: body.note,
        if_revision,
    };
    Ok(answer(face.ledger.archive_environment(caller, request).await?.into()))
}

/// Probe an environment
///
/// Asks the driver whether it would work, and puts the finding on record. It is no activity of any lease.
#[utoipa::path(
    post, path = "/v1/environments/{environmentId}/probe", operation_id = "probeEnvironment", tag = "environments",
    params(("environmentId" = Uuid, Path, description = "The environment."), EnvironmentScope, CommandHeaders),
    request_body = Option<ProbeEnvironment>,
    responses(
        (status = 200, description = "What was found.", body = ProbedEnvironment,
            headers(("ETag" = String, description = "The environment's revision."))),
        CommandRefusals,
    )
)]
async fn probe_environment(
    State(face): State<Face>,
    PathId(environment_id): PathId<EnvironmentId>,
    Query(scope): Query<EnvironmentScope>,
    Issuer(caller): Issuer,
    OptionalBody(body): OptionalBody<ProbeEnvironment>,
) -> Answer<Response> {
    let company_id = company(scope.company_id, body.company_id)?;
    let request = probe::ProbeEnvironment { company_id, environment_id };
    let (environment, report) = face.ledger.probe_environment(caller, request).await?;
    let probed = ProbedEnvironment { environment: environment.into(), probe: report.into() };
    Ok(tagged(StatusCode::OK, probed.environment.revision, probed))
}

fn answer(environment: Environment) -> Response {
    tagged(StatusCode::OK, environment.revision, environment)
}

/// The tenant, from the query or the body.
fn company(in_query: Option<CompanyId>, in_body: Option<CompanyId>) -> Result<CompanyId, RequestFault> {
    match (in_query, in_body) {
        (Some(company), None) | (None, Some(company)) => Ok(company),
        (Some(one), Some(other)) if one == other => Ok(one),
        (Some(_), Some(_)) => {
            Err(RequestFault::field("companyId", "\"companyId\" is one in the query and another in the body."))
        }
        (None, None) => Err(RequestFault::field("companyId", "\"companyId\" is missing; give it in the query.")),
    }
}
