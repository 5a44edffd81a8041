//! Runs: their signs of life, and release of all that a run holds.

use axum::Json;
use axum::extract::State;
use lease_events::id::RunId;
use lease_events::lease::vocabulary::ReleaseStatus;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::extract::{Body, PathId};
use super::headers::Issuer;
use super::openapi::{CommandHeaders, CommandRefusals};
use super::problem::Answer;
use super::wire::Moment;
use super::wire::lease::Lease;
use super::wire::problem::Problem;
use super::wire::run::{FailedRelease, Heartbeat, ReleaseRun, ReleasedRun, RunAlive};
use crate::commands::heartbeat::HeartbeatRequest;
use crate::commands::release_run::ReleaseRunRequest;

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(release_run)).routes(routes!(send_heartbeat))
}

/// Release a run
///
/// Ends every lease of it; it can acquire nothing any more. One lease's failure never stops the others.
#[utoipa::path(
    post, path = "/v1/runs/{runId}/release", operation_id = "releaseRun", tag = "runs",
    params(("runId" = Uuid, Path, description = "The run."), CommandHeaders), request_body = ReleaseRun,
    responses((status = 200, description = "What became of its leases.", body = ReleasedRun), CommandRefusals)
)]
async fn release_run(
    State(face): State<Face>,
    PathId(run_id): PathId<RunId>,
    Issuer(caller): Issuer,
    Body(body): Body<ReleaseRun>,
) -> Answer<Json<ReleasedRun>> {
    let request = ReleaseRunRequest {
        company_id: body.company_id,
        run_id,
        status: body.status.unwrap_or(ReleaseStatus::Released),
    };
    let report = face.ledger.release_run(caller, request).await?;
    let failed = report.failed.into_iter();
    Ok(Json(ReleasedRun {
        released: report.released.into_iter().map(Lease::from).collect(),
        failed: failed.map(|(lease_id, error)| FailedRelease { lease_id, problem: Problem::from(&error) }).collect(),
    }))
}

/// Keep a run alive
///
/// A run that ever sent a heartbeat, and sends none within its time to live, is over: its leases are released as
/// `failed`, and it can acquire nothing any more. Silence is noticed between one and one and a half times to live after
/// the last heartbeat. Runs that never send one are left alone. A heartbeat needs no Idempotency-Key, and passes over it.
#[utoipa::path(
    post, path = "/v1/runs/{runId}/heartbeat", operation_id = "sendHeartbeat", tag = "runs",
    params(("runId" = Uuid, Path, description = "The run."), CommandHeaders), request_body = Heartbeat,
    responses((status = 200, description = "It is alive.", body = RunAlive), CommandRefusals)
)]
async fn send_heartbeat(
    State(face): State<Face>,
    PathId(run_id): PathId<RunId>,
    Issuer(caller): Issuer,
    Body(body): Body<Heartbeat>,
) -> Answer<Json<RunAlive>> {
    let request = HeartbeatRequest { company_id: body.company_id, run_id, time_to_live_ms: body.time_to_live_ms };
    let kept = face.ledger.heartbeat(caller, request).await?;
    let alive_until = Moment(kept.alive_until);
    Ok(Json(RunAlive { run_id, time_to_live_ms: kept.time_to_live_ms, alive_until }))
}
