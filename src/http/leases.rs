//! Leases: acquire, list, get, history, why; and what their holders and operators do with them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{LeaseStatus, ReleaseStatus};
use lease_events::record::Position;
use lease_projections::read_model::{LeaseFilter, ROWS_MAX};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, PathId, Query, cursor, next_cursor, page_limit};
use super::headers::{IfMatch, Issuer, tagged};
use super::openapi::{CommandHeaders, CommandRefusals, EffectRefusals, IfMatchHeader, ReadRefusals};
use super::problem::{Answer, Refused, RequestFault};
use super::wire::Moment;
use super::wire::event::LeaseEvents;
use super::wire::lease::{
    AcquireLease, AcquiredLease, ChangeLease, Lease, LeaseAnswer, LeaseAtQuery, LeaseContext, LeaseList, LeaseQuery,
    LeaseScope, LeaseWhy, RealizeLease, ReleaseLease, RenewLease, ReuseDecision, WaiveCleanup,
};
use super::{Face, PAGE_ROWS, execute};
use crate::commands::acquire::{AcquireRequest, AcquiredHow};
use crate::commands::authority::Authority;
use crate::commands::destroy::DestroyRequest;
use crate::commands::realize::RealizeRequest;
use crate::commands::release::ReleaseRequest;
use crate::commands::renew::RenewRequest;
use crate::commands::resume::ResumeRequest;
use crate::commands::waive::WaiveRequest;
use crate::drivers;
use crate::queries::AsOf;

/// How long a list waits for the projections to reach `atLeast`.
const PROJECTED_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new()
        .routes(routes!(acquire_lease, list_leases))
        .routes(routes!(get_lease))
        .routes(routes!(list_lease_events))
        .routes(routes!(explain_lease))
        .routes(routes!(realize_lease))
        .merge(execute::routes())
        .routes(routes!(renew_lease))
        .routes(routes!(resume_lease))
        .routes(routes!(release_lease))
        .routes(routes!(destroy_lease))
        .routes(routes!(waive_cleanup))
}

/// Acquire a lease
///
/// A run that holds a lease for the same thing already is answered that one.
#[utoipa::path(
    post, path = "/v1/leases", operation_id = "acquireLease", tag = "leases",
    params(CommandHeaders), request_body = AcquireLease,
    responses(
        (status = 200, description = "The run held it already.", body = AcquiredLease,
            headers(("ETag" = String, description = "The lease's revision."))),
        (status = 201, description = "Acquired.", body = AcquiredLease,
            headers(("ETag" = String, description = "The lease's revision."),
                ("Location" = String, description = "Where the lease is."))),
        EffectRefusals,
    )
)]
async fn acquire_lease(
    State(face): State<Face>,
    Issuer(caller): Issuer,
    Body(body): Body<AcquireLease>,
) -> Answer<Response> {
    let request = AcquireRequest {
        company_id: body.company_id,
        environment_id: body.environment_id,
        run_id: body.run_id,
        issue_id: body.issue_id,
        agent_id: body.agent_id,
        execution_workspace_id: body.execution_workspace_id,
        execution_workspace_mode: body.execution_workspace_mode,
        adapter_type: body.adapter_type,
        requested_expires_at: body.requested_expires_at.map(|at| at.0),
    };
    let answer = face.ledger.acquire(caller, request).await?;
    let (how, lease) = (answer.how, Lease::from(answer.lease));
    let (id, revision) = (lease.id, lease.revision);
    let lease_context = LeaseContext {
        execution_workspace_id: lease.execution_workspace_id.clone(),
        execution_workspace_mode: lease.execution_workspace_mode.clone(),
    };
    let acquired = AcquiredLease { environment: answer.environment.into(), lease, lease_context, how };
    Ok(match how {
        AcquiredHow::Held => tagged(StatusCode::OK, revision, acquired),
        AcquiredHow::Fresh | AcquiredHow::Reused => {
            let location = [(header::LOCATION, format!("/v1/leases/{id}"))];
            (location, tagged(StatusCode::CREATED, revision, acquired)).into_response()
        }
    })
}

/// List leases
///
/// Newest created first, from the projections; give `atLeast` to see what you wrote.
#[utoipa::path(
    get, path = "/v1/leases", operation_id = "listLeases", tag = "leases",
    params(LeaseQuery),
    responses((status = 200, description = "A page of leases.", body = LeaseList), ReadRefusals)
)]
async fn list_leases(State(face): State<Face>, Query(query): Query<LeaseQuery>) -> Answer<Json<LeaseList>> {
    let limit = page_limit(query.limit, PAGE_ROWS, ROWS_MAX)?;
    let filter = LeaseFilter {
        company_id: query.company_id,
        environment_id: query.environment_id,
        run_id: query.run_id,
        statuses: statuses(query.status.as_deref())?,
        open_only: query.open.unwrap_or(false),
        needs_attention: query.needs_attention.unwrap_or(false),
        before: cursor(query.cursor.as_deref())?,
        limit,
        ..LeaseFilter::default()
    };
    let read_model = face.ledger.read_model();
    if let Some(position) = query.at_least {
        read_model.wait_for(Position(position), PROJECTED_WITHIN).await?;
    }
    let rows = read_model.leases(&filter).await?;
    let next_cursor = next_cursor(rows.len(), limit, rows.last().map(|row| row.created_position));
    Ok(Json(LeaseList { leases: rows.into_iter().map(Lease::from).collect(), next_cursor }))
}

/// Get a lease
///
/// As it is now, or with `at` as it was then, folded from its own events.
#[utoipa::path(
    get, path = "/v1/leases/{leaseId}", operation_id = "getLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), LeaseAtQuery),
    responses(
        (status = 200, description = "The lease.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        ReadRefusals,
    )
)]
async fn get_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Query(query): Query<LeaseAtQuery>,
) -> Answer<Response> {
    let as_of = query.at.as_deref().map_or(Ok(AsOf::Now), as_of)?;
    Ok(answer(face.ledger.lease(lease_id, query.company_id, as_of).await?))
}

/// List the events of a lease
///
/// Every one, oldest first; `data` and `metadata` byte for byte as they are stored.
#[utoipa::path(
    get, path = "/v1/leases/{leaseId}/events", operation_id = "listLeaseEvents", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), LeaseScope),
    responses((status = 200, description = "Its history.", body = LeaseEvents), ReadRefusals)
)]
async fn list_lease_events(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Query(scope): Query<LeaseScope>,
) -> Answer<Json<LeaseEvents>> {
    let events = face.ledger.history(lease_id, scope.company_id).await?;
    let events = events.into_iter().map(super::events::on_wire).collect::<Result<_, _>>()?;
    Ok(Json(LeaseEvents { events }))
}

/// Explain a lease
///
/// Why it got the sandbox that it got: what was looked at for reuse, what was taken, and why.
#[utoipa::path(
    get, path = "/v1/leases/{leaseId}/why", operation_id = "explainLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), LeaseScope),
    responses(
        (status = 200, description = "Its reuse decisions.", body = LeaseWhy,
            headers(("ETag" = String, description = "Its revision."))),
        ReadRefusals,
    )
)]
async fn explain_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Query(scope): Query<LeaseScope>,
) -> Answer<Response> {
    let why = face.ledger.why(lease_id, scope.company_id).await?;
    let decisions = why.decisions.into_iter().map(|(at, decided)| ReuseDecision::recorded(Moment(at), decided));
    let why = LeaseWhy { lease: why.lease.into(), decisions: decisions.collect() };
    Ok(tagged(StatusCode::OK, why.lease.revision, why))
}

/// Realize a lease
///
/// Makes its workspace ready; `cwd` and `workspaceRealization` are set in the answer.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/realize", operation_id = "realizeLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders, IfMatchHeader),
    request_body = RealizeLease,
    responses(
        (status = 200, description = "Its workspace is ready.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        EffectRefusals,
    )
)]
async fn realize_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<RealizeLease>,
) -> Answer<Response> {
    let workspace = drivers::Workspace {
        local_path: body.workspace.local_path,
        remote_path: body.workspace.remote_path,
        mode: body.workspace.mode,
        metadata: body.workspace.metadata,
    };
    let request = RealizeRequest {
        company_id: body.company_id,
        lease_id,
        authority: authority(body.fencing_token, body.reason)?,
        if_revision,
        workspace,
    };
    Ok(answer(face.ledger.realize(caller, request).await?))
}

/// Renew a lease
///
/// Lets it last until a new moment, not beyond what its provider confirmed.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/renew", operation_id = "renewLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders, IfMatchHeader),
    request_body = RenewLease,
    responses(
        (status = 200, description = "Renewed.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn renew_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<RenewLease>,
) -> Answer<Response> {
    let request = RenewRequest {
        company_id: body.company_id,
        lease_id,
        authority: authority(body.fencing_token, body.reason)?,
        if_revision,
        expires_at: body.expires_at.0,
    };
    Ok(answer(face.ledger.renew(caller, request).await?))
}

/// Resume a lease
///
/// Makes what it holds run again, under a new and higher fencing token.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/resume", operation_id = "resumeLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders, IfMatchHeader),
    request_body = ChangeLease,
    responses(
        (status = 200, description = "Resumed.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        EffectRefusals,
    )
)]
async fn resume_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<ChangeLease>,
) -> Answer<Response> {
    let request = ResumeRequest {
        company_id: body.company_id,
        lease_id,
        authority: authority(body.fencing_token, body.reason)?,
        if_revision,
    };
    Ok(answer(face.ledger.resume(caller, request).await?))
}

/// Release a lease
///
/// Ends it. One that is over is answered as it is; one that is still being acquired is answered as `releasing`.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/release", operation_id = "releaseLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders, IfMatchHeader),
    request_body = ReleaseLease,
    responses(
        (status = 200, description = "It is over, or on its way.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        EffectRefusals,
    )
)]
async fn release_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<ReleaseLease>,
) -> Answer<Response> {
    let request = ReleaseRequest {
        company_id: body.company_id,
        lease_id,
        authority: authority(body.fencing_token, body.reason)?,
        if_revision,
        status: body.status.unwrap_or(ReleaseStatus::Released),
    };
    Ok(answer(face.ledger.release(caller, request).await?))
}

/// Destroy a lease
///
/// Tears down what it holds, whatever its policy, whether it is active or over.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/destroy", operation_id = "destroyLease", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders, IfMatchHeader),
    request_body = ChangeLease,
    responses(
        (status = 200, description = "Nothing of it is left.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        EffectRefusals,
    )
)]
async fn destroy_lease(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<ChangeLease>,
) -> Answer<Response> {
    let request = DestroyRequest {
        company_id: body.company_id,
        lease_id,
        authority: authority(body.fencing_token, body.reason)?,
        if_revision,
    };
    Ok(answer(face.ledger.destroy(caller, request).await?))
}

/// Waive the cleanup of a lease
///
/// An operator gives up what the lease may still hold at its provider: the only end of that duty without the provider's
/// receipt. A lease in use, or one that owes nothing, is refused.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/cleanup/waive", operation_id = "waiveCleanup", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders, IfMatchHeader),
    request_body = WaiveCleanup,
    responses(
        (status = 200, description = "Waived.", body = LeaseAnswer,
            headers(("ETag" = String, description = "Its revision."))),
        CommandRefusals,
    )
)]
async fn waive_cleanup(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    IfMatch(if_revision): IfMatch,
    Body(body): Body<WaiveCleanup>,
) -> Answer<Response> {
    let request = WaiveRequest { company_id: body.company_id, lease_id, reason: body.reason, if_revision };
    Ok(answer(face.ledger.waive(caller, request).await?))
}

fn answer(state: LeaseState) -> Response {
    let lease = Lease::from(state);
    tagged(StatusCode::OK, lease.revision, LeaseAnswer { lease })
}

/// By what right a lease is changed: one of the two; that neither was given is refused with the lease's name.
pub(super) fn authority(fencing_token: Option<u64>, reason: Option<String>) -> Result<Option<Authority>, RequestFault> {
    if fencing_token.is_some() && reason.is_some() {
        return Err(RequestFault::field(
            "fencingToken",
            "Give \"fencingToken\" (its holder) or \"reason\" (an operator), not both.",
        ));
    }
    Ok(Authority::shown(fencing_token, reason))
}

fn statuses(list: Option<&str>) -> Result<Vec<LeaseStatus>, Refused> {
    let words = list.into_iter().flat_map(|list| list.split(',')).map(str::trim);
    let parse = |word: &str| word.parse().map_err(|error| RequestFault::field("status", format!("{error}.")).into());
    words.map(parse).collect()
}

/// Digits are a position, all else is a moment.
fn as_of(at: &str) -> Result<AsOf, RequestFault> {
    if let Ok(position) = at.parse() {
        return Ok(AsOf::Position(Position(position)));
    }
    at.parse::<Moment>().map(|at| AsOf::Time(at.0)).map_err(|_| {
        let sentence = "\"at\" must be a position, such as 41, or a moment in RFC 3339, such as 2026-01-31T12:00:00Z.";
        RequestFault::field("at", sentence)
    })
}
