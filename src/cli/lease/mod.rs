//! `lease …`: the whole life of a lease, one command a step.

mod acquire;
mod change;
pub mod exec;
mod history;
mod list;
mod story;
mod why;

pub(super) use change::absolute_text;
use clap::{Args, Subcommand};
use lease_events::id::LeaseId;

use super::App;
use super::client::Answer;
use super::duration::{absolute, relative};
use super::exit::{CliError, Exit};
use super::render::{line, pairs};
use super::settings::now;
use crate::http::wire::lease::{Lease, LeaseAnswer};
use lease_events::lease::vocabulary::CleanupStatus;

/// `lease`.
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Acquire a lease of an environment
    Acquire(acquire::AcquireArgs),
    /// Make the workspace of a lease ready
    Realize(change::RealizeArgs),
    /// Run a command in the workspace of a lease; exits with the command's code
    Exec(exec::ExecArgs),
    /// Let a lease last until a new moment
    Renew(change::RenewArgs),
    /// End a lease
    Release(change::ReleaseArgs),
    /// Tear down what a lease holds, whatever its policy
    Destroy(change::ChangeArgs),
    /// Make what a lease holds run again, under a new fencing token
    Resume(change::ChangeArgs),
    /// List leases, newest first
    List(list::ListArgs),
    /// Show a lease, as it is or as it was
    Show(list::ShowArgs),
    /// Tell the story of a lease: what happened, when, by whom, why, and what comes next
    History(Named),
    /// Say why a lease got the sandbox that it got
    Why(Named),
    /// What leases may still hold at their providers
    #[command(subcommand)]
    Cleanup(change::CleanupCommand),
    /// End every lease of a run; the run can acquire nothing any more
    ReleaseRun(change::ReleaseRunArgs),
}

/// A lease.
#[derive(Debug, Args)]
pub struct Named {
    /// The lease
    #[arg(value_name = "LEASE-ID")]
    id: LeaseId,
}

/// By what right a lease is changed.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct AuthorityArgs {
    /// The holder's fencing token, as the acquire answered it
    #[arg(long, value_name = "N")]
    token: Option<u64>,
    /// An operator's reason, which goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Runs it.
pub async fn lease(app: &App, command: LeaseCommand) -> Result<u8, CliError> {
    match command {
        LeaseCommand::Acquire(args) => acquire::acquire(app, args).await?,
        LeaseCommand::Realize(args) => change::realize(app, args).await?,
        LeaseCommand::Exec(args) => return exec::exec(app, args).await,
        LeaseCommand::Renew(args) => change::renew(app, args).await?,
        LeaseCommand::Release(args) => change::release(app, args).await?,
        LeaseCommand::Destroy(args) => change::plain(app, args, "destroy").await?,
        LeaseCommand::Resume(args) => change::plain(app, args, "resume").await?,
        LeaseCommand::List(args) => list::list(app, &args).await?,
        LeaseCommand::Show(args) => list::show(app, &args).await?,
        LeaseCommand::History(named) => history::history(app, named.id).await?,
        LeaseCommand::Why(named) => why::why(app, named.id).await?,
        LeaseCommand::Cleanup(change::CleanupCommand::Waive(args)) => change::waive(app, args).await?,
        LeaseCommand::ReleaseRun(args) => return change::release_run(app, args).await,
    }
    Ok(Exit::Ok as u8)
}

/// Shows the lease that an answer holds.
fn show_answer(app: &App, answer: &Answer) -> Result<(), CliError> {
    if app.json { line(answer.text()?) } else { line(&described(&answer.parse::<LeaseAnswer>()?.lease)) }
}

/// A lease as people read it.
fn described(lease: &Lease) -> String {
    let now = now();
    let at = |moment: crate::http::wire::Moment| format!("{} ({})", absolute(moment.0), relative(moment.0, now));
    let next = lease.next_action.as_ref().map(|next| {
        let when = next.at.map_or_else(String::new, |moment| format!(" at {}", at(moment)));
        format!("{}{when}, because {}", next.action, next.because)
    });
    let status = match lease.cleanup_status {
        Some(cleanup) => format!("{} (cleanup: {cleanup})", lease.status),
        None => lease.status.to_string(),
    };
    let has_now =
        lease.status.is_open() || lease.cleanup_status.is_some_and(|cleanup| cleanup != CleanupStatus::Success);
    let holding = if has_now { "holds" } else { "held" };
    pairs([
        ("lease", Some(lease.id.to_string())),
        ("status", Some(status)),
        ("token", lease.fencing_token.map(|token| token.to_string())),
        ("environment", Some(format!("{} ({})", lease.environment_name, lease.environment_id))),
        ("provider", Some(format!("{}, {}", lease.driver, lease.provider))),
        (holding, lease.provider_lease_id.clone()),
        ("policy", Some(lease.policy.to_string())),
        ("run", lease.run_id.map(|run| run.to_string())),
        ("issue", lease.issue_id.clone()),
        ("agent", lease.agent_id.clone()),
        ("workspace", lease.execution_workspace_id.clone()),
        ("directory", lease.cwd.clone()),
        ("requested", Some(at(lease.requested_at))),
        ("acquired", lease.acquired_at.map(at)),
        ("expires", lease.expires_at.map(at)),
        ("ended", lease.ended_at.map(at)),
        ("because", lease.end_reason.map(|reason| reason.to_string())),
        ("failure", lease.failure_reason.clone()),
        ("resumed from", lease.resumed_from.map(|from| from.to_string())),
        ("handed to", lease.claimed_by.map(|to| to.to_string())),
        ("attention", lease.needs_attention.then(|| "an operator must look".to_owned())),
        ("next", next),
    ])
}
