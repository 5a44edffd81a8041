//! Recovery: one pass by hand.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::openapi::ReadRefusals;
use super::problem::Answer;
use super::wire::recovery::{RecoveryPass, SweepReport};

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(run_recovery_pass))
}

/// Run a pass of recovery
///
/// Sees to whatever is due now: leases whose time is over, effects that were broken off, cleanup that is owed. A running
/// server does the same all the time. What was done stands in the answer, row by row, with the reason.
#[utoipa::path(
    post, path = "/v1/recovery/passes", operation_id = "runRecoveryPass", tag = "ledger",
    responses((status = 200, description = "What was done.", body = RecoveryPass), ReadRefusals)
)]
async fn run_recovery_pass(State(face): State<Face>) -> Answer<Json<RecoveryPass>> {
    let sweeps = face.ledger.recover().await?;
    Ok(Json(RecoveryPass { sweeps: sweeps.into_iter().map(SweepReport::from).collect() }))
}
