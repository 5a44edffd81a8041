//! The care of the projections: how they stand, rebuild, verify.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use lease_projections::read_model::{RebuildProgress, RebuildReport};
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::extract::PathId;
use super::ndjson::{self, Telling, Told};
use super::openapi::ReadRefusals;
use super::problem::{Answer, Refused};
use super::wire::projection::{ProjectionList, ProjectionStatus, RebuildLine, VerifyReport};
use crate::commands::error::CommandError;

/// Reports of progress between a rebuild and its reader.
const REPORTS_MAX: usize = 16;

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new()
        .routes(routes!(list_projections))
        .routes(routes!(rebuild_projection))
        .routes(routes!(verify_projection))
}

/// List projections
///
/// How each stands: what it has seen, and whether it is stalled.
#[utoipa::path(
    get, path = "/v1/projections", operation_id = "listProjections", tag = "projections",
    responses((status = 200, description = "How each stands.", body = ProjectionList), ReadRefusals)
)]
async fn list_projections(State(face): State<Face>) -> Answer<Json<ProjectionList>> {
    let statuses = face.ledger.read_model().statuses().await?;
    Ok(Json(ProjectionList { projections: statuses.into_iter().map(ProjectionStatus::from).collect() }))
}

/// Rebuild a projection
///
/// Folds the log anew beside the live rows, and swaps them. Progress is streamed as NDJSON; the last line bears
/// `report` or `problem`. A rebuild that was begun is finished, whether or not its caller still listens.
#[utoipa::path(
    post, path = "/v1/projections/{name}/rebuild", operation_id = "rebuildProjection", tag = "projections",
    params(("name" = String, Path, description = "The table, such as `current_leases`.")),
    responses(
        (status = 200, description = "How it goes, and how it ended.", content((RebuildLine = "application/x-ndjson"))),
        ReadRefusals,
    )
)]
async fn rebuild_projection(State(face): State<Face>, PathId(name): PathId<String>) -> Answer<Response> {
    let read_model = Arc::clone(face.ledger.read_model());
    let (progress, reports) = mpsc::channel(REPORTS_MAX);
    let rebuild = tokio::spawn(async move { read_model.rebuild(&name, progress).await });
    let work = async move {
        match rebuild.await {
            Ok(outcome) => outcome.map_err(CommandError::from),
            Err(broken) => Err(CommandError::BrokenOff { cause: broken.to_string() }),
        }
    };
    let mut running = Telling::new(work, reports);
    match running.next().await {
        Told::End(Err(error)) => Err(error.into()),
        first => Ok(ndjson::response(running.lines(first, |told| ndjson::line(&line(told))))),
    }
}

fn line(told: Told<RebuildProgress, Result<RebuildReport, CommandError>>) -> RebuildLine {
    match told {
        Told::Item(progress) => RebuildLine::Progress { progress: progress.into() },
        Told::End(Ok(report)) => RebuildLine::Report { report: report.into() },
        Told::End(Err(error)) => RebuildLine::Problem { problem: *Refused::from(error).0 },
    }
}

/// Verify a projection
///
/// Folds the log anew and compares the rows with the live ones, one by one.
#[utoipa::path(
    post, path = "/v1/projections/{name}/verify", operation_id = "verifyProjection", tag = "projections",
    params(("name" = String, Path, description = "The table, such as `current_leases`.")),
    responses((status = 200, description = "What was found.", body = VerifyReport), ReadRefusals)
)]
async fn verify_projection(State(face): State<Face>, PathId(name): PathId<String>) -> Answer<Json<VerifyReport>> {
    let report = face.ledger.read_model().verify(&name).await?;
    Ok(Json(report.into()))
}
