//! `plugin check`: a diagnosis on this machine. It opens no ledger and needs no server; what it records stands in the list
//! of plugins, which a server reads again when it changes.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use lease_events::seam::{Ids, SystemIds};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::config::{ConfigArgs, whole};
use super::exit::{CliError, Exit};
use super::render::{json, line, listed, pairs, table};
use super::settings::{Global, now};
use super::signals::Signals;
use crate::drivers::plugin::conformance::case::Fact;
use crate::drivers::plugin::conformance::subject::{Subject, in_folder};
use crate::drivers::plugin::conformance::{CheckError, Report, check as run_check};
use crate::wiring;

/// `plugin check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The key of an installed plugin, or the path of a folder with a manifest.json, such as ./my-plugin
    #[arg(value_name = "KEY|PATH")]
    plugin: String,
    /// Which of its drivers, where it has several
    #[arg(long, value_name = "KEY")]
    driver: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// The config of another account, which does not see what the first one makes; or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    other_config_json: Option<String>,
    /// With a path: the name of a variable that the worker may see
    #[arg(long, value_name = "NAME")]
    grant: Vec<String>,
    /// With a path: how its worker is started in that folder, where it is not `node WORKER`
    #[arg(last = true, value_name = "COMMAND")]
    start: Vec<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a Report,
    recorded: bool,
}

/// Runs it.
pub async fn check(args: &CheckArgs, global: &Global) -> Result<u8, CliError> {
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let registry = wiring::plugin_registry(&global.settings()?.data_dir, &ids);
    let is_path = args.plugin.contains('/') || args.plugin == ".";
    let plugin = if is_path {
        in_folder(Path::new(&args.plugin), &args.start, args.grant.clone(), ids.as_ref())
            .map_err(|error| fault(&error))?
    } else if args.start.is_empty() && args.grant.is_empty() {
        let found = registry.get(&args.plugin).map_err(|error| CliError::Other(error.to_string()))?;
        (*found.ok_or_else(|| not_installed(&args.plugin))?).clone()
    } else {
        let sentence = "--grant and a start command are for a path; an installed plugin has its own.";
        return Err(CliError::Usage(sentence.to_owned()));
    };
    let other_config = args.other_config_json.as_deref().map(|text| whole("--other-config-json", text)).transpose()?;
    let config = args.config.object()?;
    let subject = Subject { plugin, driver_key: args.driver.clone(), config, other_config };

    let mut signals = Signals::listen()?;
    let (means, stop) = (wiring::check_means(ids), CancellationToken::new());
    let mut checking = std::pin::pin!(run_check(subject, &means, &stop));
    let (report, asked) = tokio::select! {
        report = &mut checking => (report, None),
        asked = signals.next() => {
            stop.cancel();
            // Whoever asks twice does not want to wait until it is cleaned up.
            tokio::select! {
                report = &mut checking => (report, Some(asked)),
                asked = signals.next() => return Ok(asked.code()),
            }
        }
    };
    let report = report.map_err(|error| fault(&error))?;
    let recorded = !is_path && report.complete;
    if recorded {
        report.record(&registry, now()).map_err(|error| CliError::Conflict(error.to_string()))?;
    }
    if global.json {
        json(&Printed { report: &report, recorded })?;
    } else {
        show(&report, recorded)?;
    }
    Ok(match asked {
        Some(asked) => asked.code(),
        None if report.failed().next().is_some() || !report.left.is_empty() => Exit::Differences as u8,
        None => Exit::Ok as u8,
    })
}

fn fault(error: &CheckError) -> CliError {
    match error {
        CheckError::NotRunning(_) => CliError::Unavailable(error.to_string()),
        _ => CliError::Usage(error.to_string()),
    }
}

fn not_installed(key: &str) -> CliError {
    CliError::NotFound(format!("No plugin \"{key}\" is installed; name one that is, or a folder as ./{key}."))
}

fn show(report: &Report, recorded: bool) -> Result<(), CliError> {
    let Report { plugin_key, version, driver_key, cases, trust, left, complete, .. } = report;
    let rows = cases
        .iter()
        .map(|one| [one.case.name().to_owned(), one.verdict.word().to_owned(), one.told.clone().unwrap_or_default()]);
    line(&table(["CASE", "VERDICT", "WHAT HAPPENED"], rows))?;
    let names = |trusted: bool| {
        let facts = Fact::ALL.iter().filter(|fact| fact.is_in(trust) == trusted);
        listed(&facts.map(|fact| fact.name()).collect::<Vec<_>>())
    };
    let kept = match (recorded, complete) {
        (true, _) => "with the installed plugin; the ledger trusts it with just that",
        (false, true) => "nowhere: it is not installed from here",
        (false, false) => "nowhere: the check was interrupted",
    };
    let delay = trust.visibility_delay_ms.map(|delay| format!("{delay} ms"));
    let summary = [
        ("plugin", Some(format!("{plugin_key} {version}, driver \"{driver_key}\""))),
        ("trusted with", Some(names(true))),
        ("not with", Some(names(false))),
        ("visibility delay", delay),
        ("recorded", Some(kept.to_owned())),
    ];
    let left = left.iter().map(|one| ("left behind", Some(format!("{}: {}", one.provider_lease_id, one.because))));
    line("")?;
    line(&pairs(summary.into_iter().chain(left)))
}
