//! Reconciliation: the ledger and its providers, compared by hand.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::extract::Body;
use super::openapi::CommandRefusals;
use super::problem::{Answer, RequestFault};
use super::wire::reconciliation::{Reconcile, Reconciliation};
use crate::recovery::reconcile::ReconcileRequest;

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(reconcile))
}

/// Reconcile with the providers
///
/// Compares what each provider lists with what the ledger says, both ways: what bears this ledger's label and no lease
/// accounts for is destroyed once it is old enough, what a lease holds and is gone is recorded, and what is not provably
/// this ledger's is reported and never touched. A running server does the same by itself. Where more disagrees than
/// mishaps explain, nothing is done, and `stopped` says so.
#[utoipa::path(
    post, path = "/v1/reconciliations", operation_id = "reconcile", tag = "ledger", request_body = Reconcile,
    responses((status = 200, description = "What was found and done.", body = Reconciliation), CommandRefusals)
)]
async fn reconcile(State(face): State<Face>, Body(body): Body<Reconcile>) -> Answer<Json<Reconciliation>> {
    match (body.company_id, body.environment_id) {
        (Some(company), Some(environment)) => drop(face.ledger.environment(environment, company).await?),
        (None, None) => {}
        _ => {
            let sentence = "Give \"companyId\" and \"environmentId\", or neither.";
            return Err(RequestFault::field("environmentId", sentence).into());
        }
    }
    let request = ReconcileRequest {
        environment_id: body.environment_id,
        dry_run: body.dry_run,
        accept_drift: body.accept_drift,
    };
    Ok(Json(face.ledger.reconcile(request).await?.into()))
}
