//! `lease acquire`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use lease_events::id::RunId;

use crate::cli::App;
use crate::cli::client::Call;
use crate::cli::duration::{later, parse, parse_moment};
use crate::cli::environment::resolve;
use crate::cli::exit::CliError;
use crate::cli::render::line;
use crate::cli::settings::now;
use crate::http::IDEMPOTENCY_KEY;
use crate::http::wire::lease::{AcquireLease, AcquiredLease};

/// `lease acquire`.
#[derive(Debug, Args)]
pub struct AcquireArgs {
    /// The environment's name or id
    #[arg(value_name = "ENVIRONMENT")]
    environment: String,
    /// The run that will own it; without one the lease is ad hoc, and never kept for reuse
    #[arg(long, value_name = "ID")]
    run: Option<RunId>,
    /// The execution workspace
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// How the workspace is used
    #[arg(long, value_name = "MODE")]
    workspace_mode: Option<String>,
    /// The agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The issue that the run works on
    #[arg(long, value_name = "ID")]
    issue: Option<String>,
    /// The kind of agent adapter
    #[arg(long, value_name = "TYPE")]
    adapter_type: Option<String>,
    /// When it shall end, from now, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = parse, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,
    /// When it shall end (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    expires_at: Option<DateTime<Utc>>,
    /// The same key is the same acquire, however often it is sent
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn acquire(app: &App, args: AcquireArgs) -> Result<(), CliError> {
    let expires_at = match args.expires_in {
        Some(length) => Some(later(now(), length).map_err(CliError::Usage)?),
        None => args.expires_at,
    };
    let body = AcquireLease {
        company_id: app.company,
        environment_id: resolve(app, &args.environment).await?.id,
        run_id: args.run,
        issue_id: args.issue,
        agent_id: args.agent,
        execution_workspace_id: args.workspace,
        execution_workspace_mode: args.workspace_mode,
        adapter_type: args.adapter_type,
        requested_expires_at: expires_at.map(Into::into),
    };
    let call = Call::post("/v1/leases", &body).header(IDEMPOTENCY_KEY, args.idempotency_key);
    let answer = call.send(&app.transport).await?;
    if app.json {
        return line(answer.text()?);
    }
    line(&super::described(&answer.parse::<AcquiredLease>()?.lease))
}
