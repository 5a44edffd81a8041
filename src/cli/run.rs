//! `run`: one command through the whole life of a lease. It is acquired for a run of its own, and released whatever
//! happens: the command's end, a failure, a signal.

use clap::Args;
use data_encoding::HEXLOWER;
use lease_events::environment::EnvironmentStatus;
use lease_events::id::{EnvironmentId, RunId};
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_events::seam::{Ids, SystemIds};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::client::Call;
use super::config::{Entry, add};
use super::environment::{named, resolve};
use super::exit::{CliError, Exit};
use super::lease::exec::{CommandArgs, code, execute};
use super::settings::Global;
use super::signals::{Asked, Signals};
use super::{App, complain};
use crate::http::wire::environment::{CreateEnvironment, Environment};
use crate::http::wire::execute::ExecuteCommand;
use crate::http::wire::lease::{AcquireLease, AcquiredLease, Lease, RealizeLease, ReleaseLease, Workspace};
use crate::http::wire::run::{ReleaseRun, ReleasedRun};

/// The provider where nothing else is asked for.
const PROVIDER_DEFAULT: &str = "bubblewrap";
/// How many bytes of its config's hash an environment's name bears, two hexadecimal digits each.
const NAME_HASH_BYTES: usize = 4;

/// `run`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").multiple(false))]
pub struct RunArgs {
    /// An environment that is there
    #[arg(long, value_name = "NAME|ID", group = "where", conflicts_with_all = ["reuse", "config", "network"])]
    environment: Option<String>,
    /// A driver, such as local: its environment is made on first use
    #[arg(long, value_name = "DRIVER", group = "where")]
    driver: Option<String>,
    /// A sandbox provider [default: bubblewrap]: its environment is made on first use
    #[arg(long, value_name = "PROVIDER", group = "where")]
    provider: Option<String>,
    /// Take over what an earlier run of the same flags left, and leave it to a later one
    #[arg(long)]
    reuse: bool,
    /// The execution workspace: what is reused is reused within it
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// A key of the driver's or provider's config; other config is another environment
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<Entry>,
    /// Let the sandbox reach the network: the same as --config network=true
    #[arg(long)]
    network: bool,
    #[command(flatten)]
    command: CommandArgs,
}

/// What an environment that is made on first use is.
struct FirstUse {
    name: String,
    driver: String,
    config: Map<String, Value>,
}

/// Runs it; answers the command's exit code.
pub async fn run(mut args: RunArgs, global: &Global) -> Result<u8, CliError> {
    let mut signals = Signals::listen()?;
    let first_use = args.environment.is_none().then(|| first_use(&mut args)).transpose()?;
    let place = Place { environment: args.environment, first_use, workspace: args.workspace };
    let prepared = async {
        let request = args.command.request().await?;
        Ok::<_, CliError>((App::open(global).await?, request))
    };
    let (app, request) = tokio::select! {
        prepared = prepared => prepared?,
        asked = signals.next() => return Ok(asked.code()),
    };
    let run_id = RunId(SystemIds.fresh());
    let result = tokio::select! {
        result = leased(&app, &place, run_id, request) => result,
        asked = signals.next() => return interrupted(app, run_id, asked, &mut signals).await,
    };
    app.transport.close().await;
    result
}

/// Where a command is to run.
struct Place {
    environment: Option<String>,
    first_use: Option<FirstUse>,
    workspace: Option<String>,
}

/// Acquire, realize, execute, release.
async fn leased(app: &App, place: &Place, run_id: RunId, mut request: ExecuteCommand) -> Result<u8, CliError> {
    let environment_id = match (&place.environment, &place.first_use) {
        (Some(called), _) => resolve(app, called).await?.id,
        (None, Some(first_use)) => find_or_create(app, first_use).await?,
        (None, None) => return Err(CliError::Usage("Name an environment.".to_owned())),
    };
    let body = AcquireLease {
        company_id: app.company,
        environment_id,
        run_id: Some(run_id),
        issue_id: None,
        agent_id: None,
        execution_workspace_id: place.workspace.clone(),
        execution_workspace_mode: None,
        adapter_type: None,
        requested_expires_at: None,
    };
    let acquired = match Call::post("/v1/leases", &body).send(&app.transport).await {
        Ok(answer) => answer.parse::<AcquiredLease>()?,
        Err(error) => {
            // An acquire whose answer is lost may have been done: the run's release makes sure that nothing stays.
            if matches!(error.exit(), Exit::Provider | Exit::Unavailable | Exit::Error)
                && let Err(not_released) = release_run(app, run_id).await
            {
                complain(&not_released, app.json);
            }
            return Err(error);
        }
    };
    let lease = acquired.lease;
    eprintln!("lease {}", lease.id);
    request.fencing_token = lease.fencing_token;
    let executed = match realize(app, &lease).await {
        Ok(()) => execute(app, lease.id, request).await,
        Err(error) => Err(error),
    };
    let status = if executed.is_ok() { ReleaseStatus::Released } else { ReleaseStatus::Failed };
    let released = release(app, &lease, status).await;
    match (executed, released) {
        (Ok(ended), Ok(())) => Ok(code(&ended)),
        (Ok(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        (Err(error), Err(not_released)) => {
            complain(&not_released, app.json);
            Err(error)
        }
    }
}

async fn realize(app: &App, lease: &Lease) -> Result<(), CliError> {
    // The local driver works in place: where this command was typed.
    let local_path = (lease.driver == "local").then(|| super::lease::absolute_text(".".as_ref())).transpose()?;
    let body = RealizeLease {
        company_id: Some(app.company),
        fencing_token: lease.fencing_token,
        reason: None,
        workspace: Workspace { local_path, ..Workspace::default() },
    };
    Call::post(format!("/v1/leases/{}/realize", lease.id), &body).send(&app.transport).await.map(|_| ())
}

async fn release(app: &App, lease: &Lease, status: ReleaseStatus) -> Result<(), CliError> {
    let body = ReleaseLease {
        company_id: Some(app.company),
        fencing_token: lease.fencing_token,
        reason: None,
        status: Some(status),
    };
    Call::post(format!("/v1/leases/{}/release", lease.id), &body).send(&app.transport).await.map(|_| ())
}

/// Ends whatever the run holds, or is about to.
async fn release_run(app: &App, run_id: RunId) -> Result<(), CliError> {
    let body = ReleaseRun { company_id: app.company, status: Some(ReleaseStatus::Failed) };
    let answer = Call::post(format!("/v1/runs/{run_id}/release"), &body).send(&app.transport).await?;
    match answer.parse::<ReleasedRun>()?.failed.into_iter().next() {
        None => Ok(()),
        Some(failed) => Err(CliError::Problem(Box::new(failed.problem))),
    }
}

/// Releases the run: that ends its lease with all that runs in it, and wins even over an acquire that is still at
/// the provider. A second signal does not wait for it.
async fn interrupted(app: App, run_id: RunId, asked: Asked, signals: &mut Signals) -> Result<u8, CliError> {
    let orderly = async {
        let released = release_run(&app, run_id).await;
        app.transport.close().await;
        released.map(|()| asked.code())
    };
    tokio::select! {
        result = orderly => result,
        again = signals.next() => {
            eprintln!(
                "lease-ledger: stopped at once; run {run_id} may still hold a lease, which \
                 `lease-ledger lease release-run {run_id} --status failed` ends."
            );
            Ok(again.code())
        }
    }
}

/// What the flags ask for. The same flags are always the same environment, and other config is another one.
fn first_use(args: &mut RunArgs) -> Result<FirstUse, CliError> {
    let taken = |entry: &&Entry| ["provider", "reuseLease"].contains(&entry.key());
    if let Some(entry) = args.config.iter().find(taken) {
        return Err(CliError::Usage(format!("Give --provider and --reuse instead of --config {}=….", entry.key())));
    }
    let mut typed = Map::new();
    if args.network {
        typed.insert("network".to_owned(), json!(true));
    }
    add(&mut typed, &args.config)?;
    let (driver, provider) = match (args.driver.take(), args.provider.take()) {
        (Some(driver), _) if driver == "sandbox" => {
            return Err(CliError::Usage("Driver sandbox needs a provider; give --provider instead.".to_owned()));
        }
        (Some(driver), _) => (driver, None),
        (None, provider) => ("sandbox".to_owned(), Some(provider.unwrap_or_else(|| PROVIDER_DEFAULT.to_owned()))),
    };
    if provider.is_none() && args.reuse {
        return Err(CliError::Usage(format!("Driver {driver} leaves nothing to reuse; --reuse needs --provider.")));
    }
    let mut name = provider.clone().unwrap_or_else(|| driver.clone());
    if args.reuse {
        name.push_str("-reuse");
    }
    if !typed.is_empty() {
        name.push('-');
        name.push_str(&short_hash(&typed));
    }
    let mut config = typed;
    if let Some(provider) = provider {
        config.insert("provider".to_owned(), json!(provider));
        config.insert("reuseLease".to_owned(), json!(args.reuse));
    }
    Ok(FirstUse { name, driver, config })
}

/// The same for the same config, in whatever order it was typed: the map's keys are sorted.
fn short_hash(config: &Map<String, Value>) -> String {
    let text = Value::Object(config.clone()).to_string();
    HEXLOWER.encode(&Sha256::digest(text.as_bytes())[..NAME_HASH_BYTES])
}

async fn find_or_create(app: &App, wanted: &FirstUse) -> Result<EnvironmentId, CliError> {
    if let Some(found) = find(app, wanted).await? {
        return Ok(found);
    }
    let body = CreateEnvironment {
        company_id: app.company,
        name: wanted.name.clone(),
        driver: wanted.driver.clone(),
        config: wanted.config.clone(),
    };
    match Call::post("/v1/environments", &body).send(&app.transport).await {
        Ok(answer) => Ok(answer.parse::<Environment>()?.id),
        // Another run was faster.
        Err(error) if error.exit() == Exit::Conflict => find(app, wanted).await?.ok_or(error),
        Err(error) => Err(error),
    }
}

async fn find(app: &App, wanted: &FirstUse) -> Result<Option<EnvironmentId>, CliError> {
    let found = named(app, &wanted.name, Some(&wanted.driver)).await?;
    Ok(found.into_iter().find(|found| found.status == EnvironmentStatus::Active).map(|found| found.id))
}
