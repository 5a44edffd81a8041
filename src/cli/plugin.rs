//! `plugin …`: the programs that make environments.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::App;
use super::client::{Answer, Call, encoded, read};
use super::config::whole;
use super::exit::{CliError, Exit};
use super::plugin_check::{self, CheckArgs};
use super::render::{NOTHING, json, line, listed, or_nothing, pairs, table};
use super::settings::Global;
use crate::drivers::plugin::conformance::case::Fact;
use crate::http::wire::plugin::{DeclaredDriver, DriverCheck, InstallPlugin, InstalledPlugin, Plugin, WorkerCommand};

/// The manifest's name in its folder.
const MANIFEST_FILE: &str = "manifest.json";

/// `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// What the ledger does with them.
    #[command(flatten)]
    Manage(ManageCommand),
    /// Run a plugin's worker through the cases of docs/plugins.md, and say what it may be trusted with
    Check(CheckArgs),
}

impl PluginCommand {
    /// Whether it is a check.
    pub(super) fn is_check(&self) -> bool {
        matches!(self, Self::Check(_))
    }
}

/// What the ledger does with plugins.
#[derive(Debug, Subcommand)]
pub enum ManageCommand {
    /// Install a plugin, or upgrade the one with its key
    Install(InstallArgs),
    /// List plugins
    List,
    /// Show one plugin, its drivers with what a check has shown of them, and its worker
    Show(Named),
    /// Let a plugin be used
    Enable(Named),
    /// Let a plugin give nothing new; what it gave is still released and destroyed through it
    Disable(Named),
    /// Remove a plugin that no lease needs any more
    Remove(Named),
}

/// A plugin.
#[derive(Debug, Args)]
pub struct Named {
    /// Its key: the manifest's id
    #[arg(value_name = "KEY")]
    key: String,
}

/// `plugin install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The manifest, or the folder with its manifest.json; the worker starts in that folder
    #[arg(value_name = "MANIFEST|FOLDER")]
    manifest: PathBuf,
    /// The program that is started instead of `node` and the manifest's worker; a path, or a name in PATH
    #[arg(long, value_name = "PROGRAM")]
    command: Option<String>,
    /// An argument of the program; may be repeated
    #[arg(long = "arg", value_name = "ARG", requires = "command", allow_hyphen_values = true)]
    args: Vec<String>,
    /// The name of a variable of the ledger's process that the worker may see; may be repeated. An upgrade without
    /// any keeps those that were granted
    #[arg(long = "grant", value_name = "NAME", conflicts_with = "no_grants")]
    grants: Vec<String>,
    /// Take back what was granted before
    #[arg(long)]
    no_grants: bool,
    /// The plugin's own config as a JSON object, or @FILE to read it from a file. An upgrade without it keeps the config
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
}

/// Runs it.
pub async fn plugin(command: PluginCommand, global: &Global) -> Result<u8, CliError> {
    match command {
        PluginCommand::Check(args) => plugin_check::check(&args, global).await,
        PluginCommand::Manage(command) => {
            let app = App::open(global).await?;
            let result = manage(&app, command).await;
            app.transport.close().await;
            result.map(|()| Exit::Ok as u8)
        }
    }
}

async fn manage(app: &App, command: ManageCommand) -> Result<(), CliError> {
    match command {
        ManageCommand::Install(args) => install(app, args).await,
        ManageCommand::List => list(app).await,
        ManageCommand::Show(named) => show(app, &Call::get(path(&named, "")).send(&app.transport).await?),
        ManageCommand::Enable(named) => change(app, &named, "/enable").await,
        ManageCommand::Disable(named) => change(app, &named, "/disable").await,
        ManageCommand::Remove(named) => {
            let answer = Call::command(path(&named, "/remove")).send(&app.transport).await?;
            if app.json {
                return line(answer.text()?);
            }
            let plugin: Plugin = answer.parse()?;
            line(&format!("Removed {} {}.", plugin.key, plugin.version))
        }
    }
}

fn path(named: &Named, what: &str) -> String {
    format!("/v1/plugins/{}{what}", encoded(&named.key))
}

async fn change(app: &App, named: &Named, what: &str) -> Result<(), CliError> {
    show(app, &Call::command(path(named, what)).send(&app.transport).await?)
}

async fn install(app: &App, args: InstallArgs) -> Result<(), CliError> {
    // The server may stand in another folder.
    let given = absolute(&args.manifest)?;
    let file = if given.is_dir() { given.join(MANIFEST_FILE) } else { given };
    let folder = text(file.parent().unwrap_or(Path::new("/")))?;
    let command = match args.command {
        Some(program) if program.contains('/') => Some(text(&absolute(Path::new(&program))?)?),
        program => program,
    };
    let config = args.config.map(|config| whole("--config", &config)).transpose()?;
    let grants = (args.no_grants || !args.grants.is_empty()).then_some(args.grants);
    let command = command.map(|program| WorkerCommand { program, args: args.args });
    let body = InstallPlugin { manifest: manifest(&file)?, folder, command, grants, config };
    let answer = Call::post("/v1/plugins", &body).send(&app.transport).await?;
    if app.json {
        return line(answer.text()?);
    }
    let installed: InstalledPlugin = answer.parse()?;
    let (plugin, version) = (&installed.plugin, &installed.plugin.version);
    line(&match installed.replaced_version {
        Some(before) => format!("Upgraded {} from {before} to {version}; its id stays.", plugin.key),
        None => format!("Installed {} {version}.", plugin.key),
    })?;
    line(&details(plugin))?;
    check_due(plugin).map_or(Ok(()), |sentence| line(&format!("\n{sentence}")))
}

/// What is to be done next, while a driver is trusted with nothing.
fn check_due(plugin: &Plugin) -> Option<String> {
    let unchecked = plugin.drivers.iter().filter(|driver| driver.check.is_none());
    let drivers: Vec<&str> = unchecked.map(|driver| driver.driver_key.as_str()).collect();
    (!drivers.is_empty()).then(|| {
        format!(
            "A check is due of {}: `lease-ledger plugin check {} --driver {}`. Until then nothing of it is reused, and an \
             operator settles what is unknown.",
            drivers.join(", "),
            plugin.key,
            drivers[0]
        )
    })
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| CliError::Usage(format!("{} cannot be found ({error}).", path.display())))
}

fn text(path: &Path) -> Result<String, CliError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| CliError::Usage(format!("The path {} is not UTF-8; rename it.", path.display())))
}

fn manifest(file: &Path) -> Result<Map<String, Value>, CliError> {
    let shown = file.display();
    let read = std::fs::read(file)
        .map_err(|error| CliError::Usage(format!("The manifest {shown} cannot be read ({error}).")))?;
    match serde_json::from_slice(&read) {
        Ok(Value::Object(manifest)) => Ok(manifest),
        Ok(_) => Err(CliError::Usage(format!("The manifest {shown} is not a JSON object."))),
        Err(error) => Err(CliError::Usage(format!("The manifest {shown} is not JSON ({error})."))),
    }
}

async fn list(app: &App) -> Result<(), CliError> {
    let found = Call::get("/v1/plugins").send(&app.transport).await?.member("plugins")?;
    if app.json {
        return found.iter().try_for_each(json);
    }
    let plugins: Vec<Plugin> = found.iter().map(|raw| read("the list of plugins", raw)).collect::<Result<_, _>>()?;
    let rows = plugins.into_iter().map(|plugin| {
        let drivers: Vec<&str> = plugin.drivers.iter().map(|driver| driver.driver_key.as_str()).collect();
        [
            plugin.key,
            plugin.version,
            status(plugin.enabled).to_owned(),
            plugin.worker.state,
            if drivers.is_empty() { NOTHING.to_owned() } else { drivers.join(", ") },
            plugin.id.to_string(),
        ]
    });
    line(&table(["KEY", "VERSION", "STATUS", "WORKER", "DRIVERS", "ID"], rows))
}

fn status(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

fn show(app: &App, answer: &Answer) -> Result<(), CliError> {
    if app.json { line(answer.text()?) } else { line(&details(&answer.parse()?)) }
}

fn details(plugin: &Plugin) -> String {
    let words = std::iter::once(&plugin.command.program).chain(&plugin.command.args);
    let command = words.map(String::as_str).collect::<Vec<_>>().join(" ");
    let has_config = plugin.config.as_object().is_some_and(|config| !config.is_empty());
    let rows = [
        ("plugin", Some(plugin.key.clone())),
        ("id", Some(plugin.id.to_string())),
        ("name", Some(plugin.display_name.clone())),
        ("version", Some(plugin.version.clone())),
        ("status", Some(status(plugin.enabled).to_owned())),
        ("command", Some(command)),
        ("folder", plugin.folder.clone()),
        ("grants", (!plugin.grants.is_empty()).then(|| plugin.grants.join(", "))),
        ("config", has_config.then(|| plugin.config.to_string())),
        ("worker", Some(plugin.worker.state.clone())),
        ("restarts", (plugin.worker.restarts > 0).then(|| plugin.worker.restarts.to_string())),
        ("last error", plugin.worker.last_error.clone()),
        ("methods", plugin.worker.methods.as_ref().map(|methods| methods.join(", "))),
    ];
    pairs(rows.into_iter().chain(plugin.drivers.iter().flat_map(driver)))
}

fn driver(driver: &DeclaredDriver) -> Vec<(&'static str, Option<String>)> {
    let reuse = if driver.supports_reusable_leases { "" } else { ", never reused" };
    let mut rows = vec![
        ("driver", Some(format!("{} ({}{reuse})", driver.driver_key, driver.kind))),
        ("  config schema", Some(or_nothing(driver.config_schema.as_ref()))),
    ];
    match &driver.check {
        None => rows.push(("  checked", Some("never".to_owned()))),
        Some(check) => rows.extend(checked(check)),
    }
    rows
}

fn checked(check: &DriverCheck) -> [(&'static str, Option<String>); 5] {
    let DriverCheck { checked_at, failed, trusted_with, visibility_delay_ms } = check;
    let not = Fact::ALL.iter().map(|fact| fact.name()).filter(|name| !trusted_with.iter().any(|fact| fact == name));
    [
        ("  checked", Some(checked_at.to_string())),
        ("  failed cases", (!failed.is_empty()).then(|| listed(failed))),
        ("  trusted with", Some(listed(trusted_with))),
        ("  not with", Some(listed(&not.collect::<Vec<_>>()))),
        ("  visibility delay", visibility_delay_ms.map(|delay| format!("{delay} ms"))),
    ]
}
