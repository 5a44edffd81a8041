//! Health: whether the process lives, whether it is ready, and which ledger it is.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::openapi::ReadRefusals;
use super::problem::Answer;
use super::wire::ledger::{Health, LedgerInfo, Readiness};

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(get_ledger))
}

/// Whether the process is alive
#[utoipa::path(
    get, path = "/healthz", operation_id = "checkHealth", tag = "ledger",
    responses((status = 200, description = "It is.", body = Health))
)]
async fn live() -> Json<Health> {
    Json(Health { status: "alive".to_owned() })
}

/// Whether the ledger is ready
///
/// It is where its store answers, every projection follows, and it is not stopping.
#[utoipa::path(
    get, path = "/readyz", operation_id = "checkReadiness", tag = "ledger",
    responses(
        (status = 200, description = "It is.", body = Readiness),
        (status = 503, description = "It is not; `faults` says why.", body = Readiness),
    )
)]
async fn ready(State(face): State<Face>) -> (StatusCode, Json<Readiness>) {
    let mut faults = Vec::new();
    if face.stopping.is_cancelled() || face.ledger.is_stopping() {
        faults.push("The ledger is stopping.".to_owned());
    }
    let position = match face.ledger.head().await {
        Ok(position) => Some(position.0),
        Err(error) => {
            faults.push(format!("The event store does not answer: {error}."));
            None
        }
    };
    match face.ledger.read_model().statuses().await {
        Ok(statuses) => faults.extend(statuses.into_iter().filter_map(|status| {
            let stalled = status.stalled?;
            Some(format!("Projection {} is stalled at position {}: {stalled}.", status.name, status.position))
        })),
        Err(error) => faults.push(format!("The projections do not answer: {error}.")),
    }
    let ready = faults.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, position, faults }))
}

/// Which ledger this is
#[utoipa::path(
    get, path = "/v1/ledger", operation_id = "getLedger", tag = "ledger",
    responses((status = 200, description = "This one.", body = LedgerInfo), ReadRefusals)
)]
async fn get_ledger(State(face): State<Face>) -> Answer<Json<LedgerInfo>> {
    Ok(Json(LedgerInfo {
        ledger_id: face.ledger.ledger_id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        drivers: face.ledger.driver_keys().into_iter().map(str::to_owned).collect(),
        position: face.ledger.head().await?.0,
        leases_needing_attention: face.ledger.read_model().count_needing_attention().await?,
    }))
}
