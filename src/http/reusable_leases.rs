//! Reusable leases: what ended leases left for others to take over.

use axum::Json;
use axum::extract::State;
use lease_projections::read_model::{ROWS_MAX, ReusableFilter};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Query, page_limit};
use super::openapi::ReadRefusals;
use super::problem::Answer;
use super::wire::reusable::{ReusableLease, ReusableLeaseList, ReusableLeaseQuery};
use super::{Face, PAGE_ROWS};

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(list_reusable_leases))
}

/// List reusable leases
///
/// What may be taken over, last left first, from the projections.
#[utoipa::path(
    get, path = "/v1/reusable-leases", operation_id = "listReusableLeases", tag = "leases",
    params(ReusableLeaseQuery),
    responses((status = 200, description = "What may be taken over.", body = ReusableLeaseList), ReadRefusals)
)]
async fn list_reusable_leases(
    State(face): State<Face>,
    Query(query): Query<ReusableLeaseQuery>,
) -> Answer<Json<ReusableLeaseList>> {
    let filter = ReusableFilter {
        company_id: query.company_id,
        environment_id: query.environment_id,
        provider: query.provider,
        limit: page_limit(query.limit, PAGE_ROWS, ROWS_MAX)?,
    };
    let rows = face.ledger.read_model().list_reusable(&filter).await?;
    Ok(Json(ReusableLeaseList { reusable_leases: rows.into_iter().map(ReusableLease::from).collect() }))
}
