//! The ledger's plugins: what is installed, and what operators do to it.

use std::future::Future;
use std::sync::Arc;

use super::Ledger;
use crate::commands::Context;
use crate::commands::caller::Caller;
use crate::commands::error::CommandError;
use crate::commands::plugin::{self, InstallPlugin, Installed, PluginFault, PluginState};
use crate::workers::WorkerHost;

impl Ledger {
    /// Every plugin that is installed, by key.
    pub fn plugins(&self) -> Result<Vec<PluginState>, CommandError> {
        Ok(plugin::list(&*self.host()?)?)
    }

    /// The plugin with this key.
    pub fn plugin(&self, plugin_key: &str) -> Result<PluginState, CommandError> {
        Ok(plugin::get(&*self.host()?, plugin_key)?)
    }

    /// Installs a plugin, or upgrades the one with its key.
    pub async fn install_plugin(&self, caller: Caller, request: InstallPlugin) -> Result<Installed, CommandError> {
        let work = |context: Arc<Context>, host: Arc<WorkerHost>| async move {
            plugin::install(&context, &host, &caller, request).await
        };
        self.change_plugin(work).await
    }

    /// Lets a plugin be used, or not.
    pub async fn set_plugin_enabled(
        &self,
        caller: Caller,
        plugin_key: String,
        enabled: bool,
    ) -> Result<PluginState, CommandError> {
        let work = move |_, host: Arc<WorkerHost>| async move {
            plugin::set_enabled(&host, &caller, &plugin_key, enabled).await
        };
        self.change_plugin(work).await
    }

    /// Takes a plugin away that no lease needs any more.
    pub async fn remove_plugin(&self, caller: Caller, plugin_key: String) -> Result<PluginState, CommandError> {
        let work = |context: Arc<Context>, host: Arc<WorkerHost>| async move {
            plugin::remove(&context, &host, &caller, &plugin_key).await
        };
        self.change_plugin(work).await
    }

    fn host(&self) -> Result<Arc<WorkerHost>, PluginFault> {
        let none = || PluginFault::Unavailable("This ledger hosts no plugins.".to_owned());
        self.workers.clone().ok_or_else(none)
    }

    /// Changes plugins, to the end: whoever asked may go away.
    async fn change_plugin<T, F>(
        &self,
        work: impl FnOnce(Arc<Context>, Arc<WorkerHost>) -> F,
    ) -> Result<T, CommandError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PluginFault>> + Send + 'static,
    {
        if self.stopping.is_cancelled() {
            return Err(CommandError::Stopping);
        }
        let task = self.tasks.spawn(work(Arc::clone(&self.context), self.host()?));
        Ok(task.await.map_err(|broken| CommandError::BrokenOff { cause: broken.to_string() })??)
    }
}
