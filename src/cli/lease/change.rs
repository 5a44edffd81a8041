//! The commands that change a lease: realize, renew, release, destroy, resume, and the release of a run.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use lease_events::id::{LeaseId, RunId};
use lease_events::lease::vocabulary::ReleaseStatus;
use serde::Serialize;

use super::{AuthorityArgs, Named, show_answer};
use crate::cli::App;
use crate::cli::client::Call;
use crate::cli::duration::{later, parse, parse_moment};
use crate::cli::exit::{CliError, Exit};
use crate::cli::render::{line, table};
use crate::cli::settings::now;
use crate::http::wire::lease::{ChangeLease, RealizeLease, ReleaseLease, RenewLease, WaiveCleanup, Workspace};
use crate::http::wire::run::{ReleaseRun, ReleasedRun};

/// `lease destroy`, `lease resume`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    authority: AuthorityArgs,
}

/// `lease realize`.
#[derive(Debug, Args)]
pub struct RealizeArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Where the workspace is on this machine
    #[arg(long, value_name = "DIR")]
    local_path: Option<PathBuf>,
    /// Where it is on the environment
    #[arg(long, value_name = "DIR")]
    remote_path: Option<String>,
    /// How it is used
    #[arg(long)]
    mode: Option<String>,
}

/// `lease renew`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub struct RenewArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// How long it shall last from now, such as 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse, group = "end")]
    length: Option<Duration>,
    /// Until when it shall last (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_moment, group = "end")]
    until: Option<DateTime<Utc>>,
}

/// `lease release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// How it shall end: released, expired or failed
    #[arg(long, default_value = "released")]
    status: ReleaseStatus,
}

/// `lease cleanup`.
#[derive(Debug, Subcommand)]
pub enum CleanupCommand {
    /// Give the cleanup of a lease up: nothing of it is tried any more
    Waive(WaiveArgs),
}

/// `lease cleanup waive`.
#[derive(Debug, Args)]
pub struct WaiveArgs {
    #[command(flatten)]
    named: Named,
    /// Why, in your own words; it goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// `lease release-run`.
#[derive(Debug, Args)]
pub struct ReleaseRunArgs {
    /// The run
    #[arg(value_name = "RUN-ID")]
    run: RunId,
    /// How its leases shall end: released, expired or failed
    #[arg(long, default_value = "released")]
    status: ReleaseStatus,
}

pub(super) async fn plain(app: &App, args: ChangeArgs, operation: &str) -> Result<(), CliError> {
    let AuthorityArgs { token, reason } = args.authority;
    let body = ChangeLease { company_id: Some(app.company), fencing_token: token, reason };
    change(app, args.named.id, operation, &body).await
}

pub(super) async fn realize(app: &App, args: RealizeArgs) -> Result<(), CliError> {
    let AuthorityArgs { token, reason } = args.change.authority;
    let local_path = args.local_path.map(|path| absolute_text(&path)).transpose()?;
    let workspace = Workspace { local_path, remote_path: args.remote_path, mode: args.mode, metadata: None };
    let body = RealizeLease { company_id: Some(app.company), fencing_token: token, reason, workspace };
    change(app, args.change.named.id, "realize", &body).await
}

pub(super) async fn renew(app: &App, args: RenewArgs) -> Result<(), CliError> {
    let AuthorityArgs { token, reason } = args.change.authority;
    let expires_at = match (args.length, args.until) {
        (Some(length), _) => later(now(), length).map_err(CliError::Usage)?,
        (None, Some(until)) => until,
        (None, None) => return Err(CliError::Usage("Give --for DURATION or --until TIME.".to_owned())),
    };
    let body =
        RenewLease { company_id: Some(app.company), fencing_token: token, reason, expires_at: expires_at.into() };
    change(app, args.change.named.id, "renew", &body).await
}

pub(super) async fn waive(app: &App, args: WaiveArgs) -> Result<(), CliError> {
    let body = WaiveCleanup { company_id: Some(app.company), reason: args.reason };
    change(app, args.named.id, "cleanup/waive", &body).await
}

pub(super) async fn release(app: &App, args: ReleaseArgs) -> Result<(), CliError> {
    let AuthorityArgs { token, reason } = args.change.authority;
    let body = ReleaseLease { company_id: Some(app.company), fencing_token: token, reason, status: Some(args.status) };
    change(app, args.change.named.id, "release", &body).await
}

/// Fails where a lease of the run could not be released; the others are.
pub(super) async fn release_run(app: &App, args: ReleaseRunArgs) -> Result<u8, CliError> {
    let body = ReleaseRun { company_id: app.company, status: Some(args.status) };
    let answer = Call::post(format!("/v1/runs/{}/release", args.run), &body).send(&app.transport).await?;
    let report: ReleasedRun = answer.parse()?;
    if app.json {
        line(answer.text()?)?;
    } else if report.released.is_empty() && report.failed.is_empty() {
        line(&format!("Run {} held nothing, and can acquire nothing any more.", args.run))?;
    } else {
        let released = report.released.iter().map(|lease| [lease.id.to_string(), lease.status.to_string()]);
        let failed = report.failed.iter().map(|failed| [failed.lease_id.to_string(), failed.problem.detail.clone()]);
        line(&table(["LEASE", "NOW"], released.chain(failed)))?;
    }
    match report.failed.into_iter().next() {
        None => Ok(Exit::Ok as u8),
        Some(failed) => Err(CliError::Problem(Box::new(failed.problem))),
    }
}

async fn change(app: &App, id: LeaseId, operation: &str, body: &impl Serialize) -> Result<(), CliError> {
    show_answer(app, &Call::post(format!("/v1/leases/{id}/{operation}"), body).send(&app.transport).await?)
}

/// A path of this machine as a text that means the same in another process.
pub(in crate::cli) fn absolute_text(path: &std::path::Path) -> Result<String, CliError> {
    let absolute = std::path::absolute(path)
        .map_err(|error| CliError::Usage(format!("{} cannot be used ({error}).", path.display())))?;
    absolute
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| CliError::Usage(format!("{} is not UTF-8; give another path.", path.display())))
}
