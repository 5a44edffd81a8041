//! Install: a manifest, with how its worker is started and what the operator gives it. Where the plugin is there
//! already, it is an upgrade, which keeps its id, and whatever is not given anew.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{Installed, PluginFault, log, need, state};
use crate::commands::Context;
use crate::commands::caller::Caller;
use crate::drivers::plugin::own_config_faults;
use crate::workers::WorkerHost;
use crate::workers::manifest::Manifest;
use crate::workers::registry::{Installation, InstalledPlugin, NewPlugin, StartCommand};

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct InstallPlugin {
    /// The manifest, as its file has it.
    pub manifest: Value,
    /// The folder that the manifest stands in, absolute: the worker is started there.
    pub folder: PathBuf,
    /// The program that is started, and its arguments; `node` and the manifest's worker where absent.
    pub command: Option<(String, Vec<String>)>,
    /// The names of the host's variables that the worker may see; absent: those that it was granted before.
    pub grants: Option<Vec<String>>,
    /// The plugin's own config; absent: the one that it has.
    pub config: Option<Map<String, Value>>,
}

/// Installs it. All that is wrong with its manifest is told at once, or with its config.
pub async fn install(
    context: &Context,
    host: &WorkerHost,
    caller: &Caller,
    request: InstallPlugin,
) -> Result<Installed, PluginFault> {
    let plugin = checked(host, request)?;
    if let Some(before) = host.registry().get(&plugin.manifest.id)? {
        dropped_by_nobody(context, &before, &plugin.manifest).await?;
    }
    let Installation { plugin, before } = host.registry().install(plugin)?;
    if let Some(before) = &before
        // What is not declared any more gives nothing now; what was begun meanwhile is on record, and seen.
        && let Err(fault) = dropped_by_nobody(context, before, &plugin.manifest).await
    {
        host.registry().put_back(before)?;
        return Err(fault);
    }
    let replaced_version = before.map(|before| before.manifest.version.clone());
    log(caller, &plugin, if replaced_version.is_some() { "a plugin was upgraded" } else { "a plugin was installed" });
    Ok(Installed { state: state(host, plugin), replaced_version })
}

/// That no lease needs a driver which the new manifest does not declare any more.
async fn dropped_by_nobody(context: &Context, before: &InstalledPlugin, now: &Manifest) -> Result<(), PluginFault> {
    let dropped = |driver: &_| now.driver_like(driver).is_none();
    if before.manifest.drivers.iter().any(dropped) { need::nobody(context, before, dropped).await } else { Ok(()) }
}

fn checked(host: &WorkerHost, request: InstallPlugin) -> Result<NewPlugin, PluginFault> {
    let InstallPlugin { manifest, folder, command, grants, config } = request;
    let invalid = |field, faults| PluginFault::Invalid { field, faults };
    if !folder.is_absolute() || !folder.is_dir() {
        let sentence = format!("\"folder\" is {}; it must be the path of a folder, from / on.", folder.display());
        return Err(invalid("folder", vec![sentence]));
    }
    let manifest = Manifest::parse(manifest).map_err(|error| invalid("manifest", error.faults))?;
    let start = match command {
        Some((program, _)) if program.is_empty() => {
            return Err(invalid("command", vec!["\"command.program\" is empty; name a program.".to_owned()]));
        }
        Some((program, args)) => StartCommand { program, args, directory: Some(folder) },
        None if !folder.join(&manifest.worker).is_file() => {
            let worker = folder.join(&manifest.worker);
            let sentence = format!(
                "The worker {} is not there; \"entrypoints.worker\" must name its file, or give a command that starts it.",
                worker.display()
            );
            return Err(invalid("manifest", vec![sentence]));
        }
        None => StartCommand::node(&manifest, &folder),
    };
    let config = config.map(Value::Object);
    let kept = host.registry().get(&manifest.id)?.map(|before| before.config.clone());
    let faults = own_config_faults(&manifest, config.as_ref().or(kept.as_ref()));
    if faults.is_empty() { Ok(NewPlugin { manifest, start, grants, config }) } else { Err(invalid("config", faults)) }
}
