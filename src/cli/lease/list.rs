//! `lease list` and `lease show`.

use clap::Args;
use lease_events::id::{LeaseId, RunId};
use lease_events::lease::vocabulary::LeaseStatus;

use super::show_answer;
use crate::cli::App;
use crate::cli::client::{Call, items, read};
use crate::cli::duration::relative;
use crate::cli::environment::resolve;
use crate::cli::exit::CliError;
use crate::cli::render::{json, line, or_nothing, table};
use crate::cli::settings::now;
use crate::http::wire::lease::{Lease, LeaseAtQuery, LeaseQuery};

/// How many leases `list` shows at most, unless it is told otherwise.
const LIST_DEFAULT: usize = 100;

/// `lease list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that are open
    #[arg(long)]
    open: bool,
    /// Only those of these statuses, separated by commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<LeaseStatus>,
    /// Only those of this run
    #[arg(long, value_name = "ID")]
    run: Option<RunId>,
    /// Only those of this environment
    #[arg(long, value_name = "NAME|ID")]
    environment: Option<String>,
    /// Only those that an operator must look at, with their age and the reason
    #[arg(long)]
    needs_attention: bool,
    /// Most leases to show
    #[arg(long, value_name = "N", default_value_t = LIST_DEFAULT)]
    limit: usize,
}

/// `lease show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The lease
    #[arg(value_name = "LEASE-ID")]
    id: LeaseId,
    /// As it was at this position of the log, or at this moment (RFC 3339)
    #[arg(long, value_name = "POSITION|TIME")]
    at: Option<String>,
}

pub(super) async fn list(app: &App, args: &ListArgs) -> Result<(), CliError> {
    let environment_id = match &args.environment {
        Some(called) => Some(resolve(app, called).await?.id),
        None => None,
    };
    let statuses: Vec<&str> = args.status.iter().map(|status| status.as_str()).collect();
    let query = LeaseQuery {
        company_id: Some(app.company),
        environment_id,
        run_id: args.run,
        status: (!statuses.is_empty()).then(|| statuses.join(",")),
        open: args.open.then_some(true),
        needs_attention: args.needs_attention.then_some(true),
        ..LeaseQuery::default()
    };
    let found = items(&app.transport, &Call::get("/v1/leases").query(&query), "leases", args.limit).await?;
    if app.json {
        return found.iter().try_for_each(json);
    }
    let leases: Vec<Lease> = found.iter().map(|raw| read("the list of leases", raw)).collect::<Result<_, _>>()?;
    let now = now();
    if args.needs_attention {
        let rows = leases.into_iter().map(|lease| {
            let age = relative(lease.ended_at.unwrap_or(lease.requested_at).0, now);
            let (next, reason) = lease.next_action.map(|next| (next.action, next.because)).unzip();
            [lease.id.to_string(), lease.status.to_string(), lease.provider, age, or_nothing(next), or_nothing(reason)]
        });
        return line(&table(["LEASE", "STATUS", "PROVIDER", "SINCE", "NEXT", "REASON"], rows));
    }
    let rows = leases.into_iter().map(|lease| {
        [
            lease.id.to_string(),
            lease.status.to_string(),
            lease.environment_name,
            lease.provider,
            or_nothing(lease.fencing_token),
            relative(lease.requested_at.0, now),
            or_nothing(lease.expires_at.map(|at| relative(at.0, now))),
            or_nothing(lease.next_action.map(|next| next.action)),
        ]
    });
    line(&table(["LEASE", "STATUS", "ENVIRONMENT", "PROVIDER", "TOKEN", "REQUESTED", "EXPIRES", "NEXT"], rows))
}

pub(super) async fn show(app: &App, args: &ShowArgs) -> Result<(), CliError> {
    let query = LeaseAtQuery { company_id: Some(app.company), at: args.at.clone() };
    show_answer(app, &Call::get(format!("/v1/leases/{}", args.id)).query(&query).send(&app.transport).await?)
}
