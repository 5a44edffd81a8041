//! `projection …`: the care of the tables of what is true now.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::App;
use super::client::Call;
use super::exit::{CliError, Exit};
use super::render::{self, line, or_nothing, table};
use crate::http::wire::projection::{DifferenceKind, ProjectionList, RebuildLine, VerifyReport};

/// `projection`.
#[derive(Debug, Subcommand)]
pub enum ProjectionCommand {
    /// List the projections, how far each has come, and which are stalled
    List,
    /// Build a projection anew from the events beside the live one, and swap it in
    Rebuild(Named),
    /// Build a projection anew and compare it with the live one, row for row; exits with 4 where they differ
    Verify(Named),
}

/// A projection.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name, such as `current_leases`
    name: String,
}

/// Runs it.
pub async fn projection(app: &App, command: ProjectionCommand) -> Result<u8, CliError> {
    match command {
        ProjectionCommand::List => list(app).await,
        ProjectionCommand::Rebuild(named) => rebuild(app, &named.name).await,
        ProjectionCommand::Verify(named) => verify(app, &named.name).await,
    }
}

async fn list(app: &App) -> Result<u8, CliError> {
    let answer = Call::get("/v1/projections").send(&app.transport).await?;
    if app.json {
        for raw in answer.member("projections")? {
            render::json(&raw)?;
        }
        return Ok(Exit::Ok as u8);
    }
    let list: ProjectionList = answer.parse()?;
    let rows = list.projections.into_iter().map(|status| {
        [
            status.name,
            status.version.to_string(),
            format!("{} of {}", status.position, status.head),
            status.rows.to_string(),
            or_nothing(status.stalled),
        ]
    });
    line(&table(["NAME", "VERSION", "POSITION", "ROWS", "STALLED"], rows))?;
    Ok(Exit::Ok as u8)
}

async fn rebuild(app: &App, name: &str) -> Result<u8, CliError> {
    let mut lines = Call::post(path(name, "rebuild")?, &json!({})).stream(&app.transport).await?;
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} ({eta})") {
        bar.set_style(style);
    }
    bar.set_message(render::harmless(name));
    while let Some(text) = lines.next().await? {
        match serde_json::from_str(&text).map_err(|error| CliError::unreadable("the rebuild", error))? {
            RebuildLine::Progress { progress } => {
                bar.set_length(progress.head);
                bar.set_position(progress.position);
            }
            RebuildLine::Report { report } => {
                bar.finish_and_clear();
                if app.json {
                    line(&text)?;
                } else {
                    line(&format!(
                        "Rebuilt {} from the events up to position {}; {} rows.",
                        report.tables.join(", "),
                        report.position,
                        report.rows
                    ))?;
                }
                return Ok(Exit::Ok as u8);
            }
            RebuildLine::Problem { problem } => {
                bar.finish_and_clear();
                return Err(CliError::Problem(Box::new(problem)));
            }
        }
    }
    bar.finish_and_clear();
    Err(CliError::unreadable("the rebuild", "it ended without a report"))
}

async fn verify(app: &App, name: &str) -> Result<u8, CliError> {
    let answer = Call::post(path(name, "verify")?, &json!({})).send(&app.transport).await?;
    let report: VerifyReport = answer.parse()?;
    if app.json {
        line(answer.text()?)?;
    }
    if report.differences.is_empty() {
        if !app.json {
            line(&format!(
                "{} is what its events make: {} rows compared, up to position {}.",
                report.table, report.rows, report.position
            ))?;
        }
        return Ok(Exit::Ok as u8);
    }
    if !app.json {
        let rows = report.differences.iter().map(|difference| {
            let what = match difference.kind {
                DifferenceKind::Missing => "the events give this row, and the table has none".to_owned(),
                DifferenceKind::Surplus => "the table has this row, and the events give none".to_owned(),
                DifferenceKind::Differs => format!("not what the events give: {}", difference.columns.join(", ")),
            };
            [difference.key.clone(), what]
        });
        line(&table(["KEY", "DIFFERENCE"], rows))?;
    }
    Err(CliError::Differences(format!(
        "{0} is not what its events make; run `lease-ledger projection rebuild {0}`.",
        report.table
    )))
}

/// The path of an operation on a projection. A name goes into the path as it is.
fn path(name: &str, operation: &str) -> Result<String, CliError> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name {
        Ok(format!("/v1/projections/{name}/{operation}"))
    } else {
        Err(CliError::NotFound(format!(
            "There is no projection \"{name}\"; `projection list` shows those that there are."
        )))
    }
}
