//! Runs: release of all that a run holds.

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
use super::wire::lease::Lease;
use super::wire::problem::Problem;
use super::wire::run::{FailedRelease, ReleaseRun, ReleasedRun};
use crate::commands::release_run::ReleaseRunRequest;

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(release_run))
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
