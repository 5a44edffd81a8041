//! Plugins as operators see them: installed, upgraded, enabled, disabled, removed.
//!
//! They are no tenant's and no event's: they stand in the worker host's registry, and what is done to them is logged
//! with who did it.
//!
//! **Invariant:** no change of a plugin strands a lease. What a lease still needs to be cleaned up stays installed; a
//! plugin that is disabled gives nothing new, and still ends what it gave.

mod fault;
mod install;
mod need;

pub use fault::PluginFault;
pub use install::{InstallPlugin, install};

use std::sync::Arc;

use super::Context;
use super::caller::Caller;
pub use crate::workers::WorkerState;
use crate::workers::registry::InstalledPlugin;
pub use crate::workers::trust::Checked;
use crate::workers::{WorkerHost, WorkerStatus};

/// A plugin, and how its worker is in this process.
#[derive(Debug, Clone)]
pub struct PluginState {
    /// What is installed.
    pub plugin: Arc<InstalledPlugin>,
    /// Its worker.
    pub worker: WorkerStatus,
}

/// What an installation made.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The plugin as it is now.
    pub state: PluginState,
    /// The version that was there before, where this was an upgrade.
    pub replaced_version: Option<String>,
}

/// Every plugin, by key.
pub fn list(host: &WorkerHost) -> Result<Vec<PluginState>, PluginFault> {
    let plugins = host.registry().all()?;
    Ok(plugins.values().map(|plugin| state(host, Arc::clone(plugin))).collect())
}

/// The plugin with this key.
pub fn get(host: &WorkerHost, plugin_key: &str) -> Result<PluginState, PluginFault> {
    Ok(state(host, host.registry().known(plugin_key)?))
}

/// Lets a plugin be used, or not. One that is disabled gives nothing from now on, and its worker is stopped; it is
/// started again for what still has to be released or destroyed.
pub async fn set_enabled(
    host: &WorkerHost,
    caller: &Caller,
    plugin_key: &str,
    enabled: bool,
) -> Result<PluginState, PluginFault> {
    let plugin = host.registry().set_enabled(plugin_key, enabled)?;
    if !enabled {
        host.stop(plugin_key).await;
    }
    log(caller, &plugin, if enabled { "a plugin was enabled" } else { "a plugin was disabled" });
    Ok(state(host, plugin))
}

/// Takes a plugin away. Refused while a lease needs it that is open, or may still hold something there.
pub async fn remove(
    context: &Context,
    host: &WorkerHost,
    caller: &Caller,
    plugin_key: &str,
) -> Result<PluginState, PluginFault> {
    let before = host.registry().known(plugin_key)?;
    need::nobody(context, &before, |_| true).await?;
    // Now nothing new is given; what was begun meanwhile is on record then, and seen by a second look.
    host.registry().set_enabled(plugin_key, false)?;
    if let Err(fault) = need::nobody(context, &before, |_| true).await {
        host.registry().set_enabled(plugin_key, before.enabled)?;
        return Err(fault);
    }
    host.registry().remove(plugin_key)?;
    host.stop(plugin_key).await;
    log(caller, &before, "a plugin was removed");
    Ok(state(host, before))
}

fn state(host: &WorkerHost, plugin: Arc<InstalledPlugin>) -> PluginState {
    let worker = host.status(plugin.key());
    PluginState { plugin, worker }
}

fn log(caller: &Caller, plugin: &InstalledPlugin, what: &'static str) {
    tracing::info!(plugin = plugin.key(), version = plugin.manifest.version, actor = %caller.actor, "{what}");
}
