//! `store …`: the care of the place where the events are. These commands work on stores themselves, and on no ledger.

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lease_stores::copy::{Copied, CopyError, Progress, Stage, copy};
use serde_json::json;

use super::exit::{CliError, Exit};
use super::render::{self, line, table};
use super::settings::{Global, store_url};
use crate::wiring::{self, ROLES, Settings, StoreUrl};

/// `store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Show what the store holds, and which processes use it
    Status,
    /// Make the tables of the store, or bring those of an older program to the newest format
    Migrate,
    /// Make these projections those of the ledger on a KurrentDB server, where the ones that it had are lost; whoever uses those
    /// appends nothing any more
    Attach,
    /// Copy a whole ledger to another store, as it is, and compare the two; goes on where an earlier copy was broken off
    Copy(CopyArgs),
    /// Print the SQL that makes the roles writer, auditor and analyst in a PostgreSQL database
    Roles,
}

/// `store copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The store to copy: sqlite:PATH, or the address of a database, as docs/postgres.md says
    #[arg(long, value_name = "URL", env = "LEASE_LEDGER_COPY_FROM", hide_env_values = true)]
    from: String,
    /// Where to: an empty or new one, or an earlier copy of the same ledger
    #[arg(long, value_name = "URL", env = "LEASE_LEDGER_COPY_TO", hide_env_values = true)]
    to: String,
}

/// Runs it.
pub async fn store(global: &Global, command: StoreCommand) -> Result<u8, CliError> {
    match command {
        StoreCommand::Status => status(global).await,
        StoreCommand::Migrate => migrate(global).await,
        StoreCommand::Attach => attach(global).await,
        StoreCommand::Copy(args) => copy_ledger(global, &args).await,
        StoreCommand::Roles => line(ROLES.trim_end()).map(|()| Exit::Ok as u8),
    }
}

async fn status(global: &Global) -> Result<u8, CliError> {
    let settings = global.settings()?;
    let store = &settings.store;
    let status = wiring::status_of(&settings).await?;
    if global.json {
        let processes: Vec<_> = status
            .processes
            .iter()
            .map(|process| {
                json!({ "owner": process.owner, "startedAt": process.started_at, "isSilent": process.is_silent,
                        "duties": process.duties })
            })
            .collect();
        render::json(&json!({
            "store": store.to_string(), "ledgerId": status.ledger_id, "position": status.head.0,
            "sealedSecrets": status.sealed, "processes": processes,
        }))?;
        return Ok(Exit::Ok as u8);
    }
    line(&format!(
        "{store} holds ledger {}: {} events, {} sealed secret values.",
        status.ledger_id, status.head.0, status.sealed
    ))?;
    if !status.processes.is_empty() {
        let rows = status.processes.into_iter().map(|process| {
            let alive = if process.is_silent { "silent" } else { "alive" };
            [process.owner, alive.to_owned(), process.started_at, process.duties.join(", ")]
        });
        line(&table(["PROCESS", "STATE", "STARTED", "DUTIES"], rows))?;
    }
    Ok(Exit::Ok as u8)
}

async fn migrate(global: &Global) -> Result<u8, CliError> {
    let settings = global.settings()?;
    let store = &settings.store;
    let ledger_id = wiring::migrate(&settings).await?;
    if global.json {
        render::json(&json!({ "store": store.to_string(), "ledgerId": ledger_id }))?;
    } else {
        line(&format!("{store} holds ledger {ledger_id}, in the newest format."))?;
    }
    Ok(Exit::Ok as u8)
}

async fn attach(global: &Global) -> Result<u8, CliError> {
    let settings = global.settings()?;
    let ledger_id = wiring::attach(&settings).await?;
    let Settings { store, projections, .. } = &settings;
    if global.json {
        let (store, projections) = (store.to_string(), projections.to_string());
        render::json(&json!({ "store": store, "projections": projections, "ledgerId": ledger_id }))?;
    } else {
        line(&format!("Ledger {ledger_id} on {store} keeps its projections in {projections} now."))?;
    }
    Ok(Exit::Ok as u8)
}

async fn copy_ledger(global: &Global, args: &CopyArgs) -> Result<u8, CliError> {
    let (from, to) = (store_url("--from", &args.from)?, store_url("--to", &args.to)?);
    let settings = global.settings()?;
    let source = wiring::home_of(&Settings { store: from.clone(), ..settings }).await?;
    let target = wiring::home_for(source.ledger_id, &to).await?;
    let bar = bar();
    let copied = copy(&source, &target, |progress| tell(&bar, progress)).await;
    bar.finish_and_clear();
    source.store.close().await;
    target.store.close().await;
    let copied = copied.map_err(|error| refused(&error))?;
    if global.json {
        render::json(&json!({
            "from": from.to_string(), "to": to.to_string(), "ledgerId": source.ledger_id, "events": copied.head.0,
            "foundThere": copied.found, "sealedSecrets": copied.sealed, "sourceMovedOn": copied.source_moved_on,
        }))?;
    } else {
        line(&told(&from, &to, &copied))?;
    }
    Ok(Exit::Ok as u8)
}

fn told(from: &StoreUrl, to: &StoreUrl, copied: &Copied) -> String {
    let found =
        if copied.found == 0 { String::new() } else { format!(", {} of which were there before", copied.found) };
    let moved = if copied.source_moved_on {
        " The source has got further events since: stop whoever uses it, and copy again, before you change over."
    } else {
        ""
    };
    format!(
        "Copied {} events{found}, and {} sealed secret values, from {from} to {to}; read again, they are equal.{moved}",
        copied.head.0, copied.sealed
    )
}

/// Hidden by itself where standard error is no terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} ({eta})") {
        bar.set_style(style);
    }
    bar
}

fn tell(bar: &ProgressBar, progress: Progress) {
    bar.set_message(match progress.stage {
        Stage::Copying => "copying",
        Stage::Verifying => "comparing",
    });
    bar.set_length(progress.head.0);
    bar.set_position(progress.position.0);
}

fn refused(error: &CopyError) -> CliError {
    match error {
        CopyError::AnotherLedger { .. } | CopyError::Diverged { .. } | CopyError::InUse { .. } => {
            CliError::Conflict(format!("Nothing more was copied: {error}."))
        }
        CopyError::SealedDiffers { .. } => CliError::Differences(format!("{error}.")),
        CopyError::Read(_) | CopyError::Write(_) | CopyError::Sealed(_) => CliError::Unavailable(format!("{error}.")),
    }
}
