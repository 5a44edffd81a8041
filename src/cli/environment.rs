//! `environment …`: the places where leases are given.

use clap::{Args, Subcommand};
use lease_events::environment::EnvironmentStatus;
use lease_events::id::EnvironmentId;

use super::App;
use super::client::{Answer, Call, items, read};
use super::config::ConfigArgs;
use super::duration::absolute;
use super::exit::{CliError, Exit};
use super::render::{json, line, or_nothing, pairs, table};
use crate::http::wire::environment::{
    ArchiveEnvironment, CreateEnvironment, Environment, EnvironmentQuery, EnvironmentScope, ProbeEnvironment,
    ProbedEnvironment, Severity, UpdateEnvironment,
};

/// How many environments `list` shows at most, unless it is told otherwise.
const LIST_DEFAULT: usize = 100;

/// `environment`.
#[derive(Debug, Subcommand)]
pub enum EnvironmentCommand {
    /// Create an environment
    Create(CreateArgs),
    /// List environments, newest first
    List(ListArgs),
    /// Show one environment
    Show(Named),
    /// Give an environment a new config; leases that are there keep theirs
    Update(UpdateArgs),
    /// Archive an environment: it gives no new leases, and its history stays
    Archive(ArchiveArgs),
    /// Look whether an environment would work
    Probe(Named),
}

/// An environment, however it is called.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    environment: String,
}

/// `environment create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name, unique together with the driver
    name: String,
    /// The driver, such as local or sandbox
    #[arg(long)]
    driver: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// `environment list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this driver
    #[arg(long)]
    driver: Option<String>,
    /// Only active or archived ones
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<EnvironmentStatus>,
    /// Most environments to show
    #[arg(long, value_name = "N", default_value_t = LIST_DEFAULT)]
    limit: usize,
}

/// `environment update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    config: ConfigArgs,
}

/// `environment archive`.
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    named: Named,
    /// Why, in your own words; it goes on record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

fn status(word: &str) -> Result<EnvironmentStatus, String> {
    [EnvironmentStatus::Active, EnvironmentStatus::Archived]
        .into_iter()
        .find(|status| status.as_str() == word)
        .ok_or_else(|| format!("\"{word}\" is no status of an environment; it is active or archived"))
}

/// Runs it.
pub async fn environment(app: &App, command: EnvironmentCommand) -> Result<u8, CliError> {
    match command {
        EnvironmentCommand::Create(args) => {
            let body = CreateEnvironment {
                company_id: app.company,
                name: args.name,
                driver: args.driver,
                config: args.config.object()?,
            };
            show(app, &Call::post("/v1/environments", &body).send(&app.transport).await?)?;
        }
        EnvironmentCommand::List(args) => list(app, &args).await?,
        EnvironmentCommand::Show(named) => {
            let id = resolve(app, &named.environment).await?.id;
            show(app, &get(app, id).send(&app.transport).await?)?;
        }
        EnvironmentCommand::Update(args) => {
            if args.config.is_empty() {
                return Err(CliError::Usage(
                    "There is nothing to update; give --config KEY=VALUE or --config-json.".to_owned(),
                ));
            }
            let before = resolve(app, &args.named.environment).await?;
            // The typed keys change; those that were not typed stay, unless a whole config was given.
            let mut config = args.config.object()?;
            if args.config.whole.is_none() {
                for (key, value) in before.config.as_object().into_iter().flatten() {
                    config.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            let body = UpdateEnvironment { company_id: Some(app.company), config };
            let call = Call::patch(format!("/v1/environments/{}", before.id), &body);
            // What was read is what is changed.
            let answer = call.header("if-match", Some(format!("\"{}\"", before.revision))).send(&app.transport).await?;
            show(app, &answer)?;
        }
        EnvironmentCommand::Archive(args) => {
            let id = resolve(app, &args.named.environment).await?.id;
            let body = ArchiveEnvironment { company_id: Some(app.company), note: args.note };
            let call = Call::post(format!("/v1/environments/{id}/archive"), &body);
            show(app, &call.send(&app.transport).await?)?;
        }
        EnvironmentCommand::Probe(named) => return probe(app, &named).await,
    }
    Ok(Exit::Ok as u8)
}

/// The environment of this name or id. A name stands for an active environment before an archived one.
pub async fn resolve(app: &App, called: &str) -> Result<Environment, CliError> {
    if let Ok(id) = called.parse::<EnvironmentId>() {
        return get(app, id).send(&app.transport).await?.parse();
    }
    let (active, archived): (Vec<_>, Vec<_>) = named(app, called, None)
        .await?
        .into_iter()
        .partition(|environment| environment.status == EnvironmentStatus::Active);
    let mut found = if active.is_empty() { archived } else { active }.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(CliError::NotFound(format!(
            "There is no environment \"{called}\" in company {}; `lease-ledger environment list` shows those that \
             there are.",
            app.company
        ))),
        (Some(first), Some(second)) => Err(CliError::Usage(format!(
            "\"{called}\" names several environments ({} with driver {}, {} with driver {}); give the id.",
            first.id, first.driver, second.id, second.driver
        ))),
    }
}

/// The environments of this name, newest first.
pub async fn named(app: &App, name: &str, driver: Option<&str>) -> Result<Vec<Environment>, CliError> {
    let query = EnvironmentQuery {
        company_id: Some(app.company),
        name: Some(name.to_owned()),
        driver: driver.map(str::to_owned),
        ..EnvironmentQuery::default()
    };
    let call = Call::get("/v1/environments").query(&query);
    let found = items(&app.transport, &call, "environments", LIST_DEFAULT).await?;
    found.iter().map(|raw| read("the list of environments", raw)).collect()
}

fn get(app: &App, id: EnvironmentId) -> Call {
    let scope = EnvironmentScope { company_id: Some(app.company) };
    Call::get(format!("/v1/environments/{id}")).query(&scope)
}

async fn list(app: &App, args: &ListArgs) -> Result<(), CliError> {
    let query = EnvironmentQuery {
        company_id: Some(app.company),
        driver: args.driver.clone(),
        status: args.status,
        ..EnvironmentQuery::default()
    };
    let call = Call::get("/v1/environments").query(&query);
    let found = items(&app.transport, &call, "environments", args.limit).await?;
    if app.json {
        return found.iter().try_for_each(json);
    }
    let environments: Vec<Environment> =
        found.iter().map(|raw| read("the list of environments", raw)).collect::<Result<_, _>>()?;
    let rows = environments.into_iter().map(|environment| {
        [
            environment.name,
            environment.driver,
            environment.status.as_str().to_owned(),
            or_nothing(environment.last_probe.map(|probe| if probe.ok { "ok" } else { "failed" })),
            absolute(environment.created_at.0),
            environment.id.to_string(),
        ]
    });
    line(&table(["NAME", "DRIVER", "STATUS", "PROBE", "CREATED", "ID"], rows))
}

fn show(app: &App, answer: &Answer) -> Result<(), CliError> {
    if app.json {
        return line(answer.text()?);
    }
    let environment: Environment = answer.parse()?;
    line(&pairs([
        ("environment", Some(environment.id.to_string())),
        ("name", Some(environment.name)),
        ("driver", Some(environment.driver)),
        ("status", Some(environment.status.as_str().to_owned())),
        ("config", Some(environment.config.to_string())),
        ("created", Some(absolute(environment.created_at.0))),
        ("archived", environment.archived_at.map(|at| absolute(at.0))),
        ("probed", environment.last_probe.map(|probe| format!("{}: {}", absolute(probe.at.0), probe.summary))),
    ]))
}

/// Exits with the provider's code where the environment would not work.
async fn probe(app: &App, named: &Named) -> Result<u8, CliError> {
    let id = resolve(app, &named.environment).await?.id;
    let body = ProbeEnvironment { company_id: Some(app.company) };
    let answer = Call::post(format!("/v1/environments/{id}/probe"), &body).send(&app.transport).await?;
    let probed: ProbedEnvironment = answer.parse()?;
    if app.json {
        line(answer.text()?)?;
    } else {
        let verdict = if probed.probe.ok { "It would work" } else { "It would not work" };
        line(&super::render::harmless(&format!("{verdict}: {}", probed.probe.summary)))?;
        let rows = probed.probe.diagnostics.into_iter().map(|finding| {
            let severity = match finding.severity {
                Severity::Info => "info",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            (severity, Some(finding.message))
        });
        let findings = pairs(rows);
        if !findings.is_empty() {
            line(&findings)?;
        }
    }
    Ok(if probed.probe.ok { Exit::Ok } else { Exit::Provider } as u8)
}
