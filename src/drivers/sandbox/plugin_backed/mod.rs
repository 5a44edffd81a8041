//! Sandbox providers that plugins declare (B7, B8, B11, B12): found at each call, so that a plugin that was installed
//! a moment ago is there.
//!
//! **Invariants:** the worker gets the lease's own config, secrets resolved, with `reuseLease` and the time-outs, which
//! providers of the published SDK read, but without the keys that are only this ledger's. What the provider says of a
//! lease stands in its metadata beside the host's keys, which it cannot write (B25). A provider is trusted with what its
//! plugin's check has shown, and with no more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{ReleaseStatus, WorkspaceKind};
use serde_json::{Map, Value, json};

use super::CALL_TIMEOUT_MARGIN;
use super::config::SandboxConfig;
use super::provider::{Abilities, Call, ProviderSource, SandboxProvider};
use crate::drivers::plugin::bridge::VISIBILITY_DELAY;
use crate::drivers::plugin::schema;
use crate::drivers::plugin::wire::{ProviderLease, without_host_keys};
use crate::drivers::plugin::{Bridge, Target, Who, identity, not_reusable, not_shown_to_list, settled, with_check};
use crate::drivers::{
    Acquired, Command, Execution, Held, InvalidConfig, Listed, Outcome, OutputSink, ProbeReport, ProbeScope, Realized,
    RemotePlace, Resumed, SyncStrategy, Workspace,
};
use crate::workers::manifest::{DriverDeclaration, DriverKind};
use crate::workers::registry::InstalledPlugin;
use crate::workers::trust::Trust;

/// Config keys that the ledger reads, and no provider knows.
const LEDGER_KEYS: [&str; 4] = ["provider", "leasePolicy", "onResumeFailure", "workspaceKind"];
/// Config keys that the `sandbox` driver reads, and providers too.
pub(in crate::drivers) const SHARED_KEYS: [&str; 3] = ["reuseLease", "timeoutMs", "bridgeRequestTimeoutMs"];
/// The shells that a provider may name; commands run under the first where it names none.
const SHELLS: [&str; 2] = ["sh", "bash"];

/// Finds the providers that installed plugins declare.
pub struct PluginProviders {
    bridge: Bridge,
}

impl PluginProviders {
    /// Those of the bridge's workers.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self { bridge }
    }
}

impl ProviderSource for PluginProviders {
    fn provider(&self, key: &str) -> Option<Arc<dyn SandboxProvider>> {
        let (plugin, driver) = self.bridge.workers().registry().sandbox_provider(key).ok()??;
        Some(Arc::new(PluginProvider { bridge: self.bridge.clone(), plugin, driver }))
    }

    fn keys(&self) -> Vec<String> {
        let Ok(plugins) = self.bridge.workers().registry().all() else { return Vec::new() };
        let drivers = plugins.values().flat_map(|plugin| &plugin.manifest.drivers);
        let providers = drivers.filter(|driver| driver.kind == DriverKind::SandboxProvider);
        providers.map(|driver| driver.driver_key.clone()).collect()
    }
}

/// One provider of one plugin.
struct PluginProvider {
    bridge: Bridge,
    plugin: Arc<InstalledPlugin>,
    driver: DriverDeclaration,
}

impl PluginProvider {
    fn trust(&self) -> Trust {
        self.plugin.trust(&self.driver.driver_key)
    }

    /// A call for a lease, under the time that its config gives it (B22).
    fn target<'a>(&'a self, call: &Call<'a>) -> Target<'a> {
        let config = SandboxConfig::parse(&call.scope.config).ok();
        let longest = config.and_then(|config| config.call_timeout()).unwrap_or_default();
        self.target_within(call, longest + CALL_TIMEOUT_MARGIN)
    }

    fn target_within<'a>(&'a self, call: &Call<'a>, deadline: Duration) -> Target<'a> {
        let whole = call.scope.config.as_object().cloned().unwrap_or_default();
        let config = whole.into_iter().filter(|(key, _)| !LEDGER_KEYS.contains(&key.as_str())).collect();
        Target { plugin_key: self.plugin.key(), driver: &self.driver, config, who: Who::Lease(call.scope), deadline }
    }

    fn look<'a>(&'a self, scope: &'a ProbeScope, config: &Map<String, Value>) -> Target<'a> {
        let (config, deadline) = (config.clone(), CALL_TIMEOUT_MARGIN);
        Target { plugin_key: self.plugin.key(), driver: &self.driver, config, who: Who::Look(scope), deadline }
    }

    /// What the ledger records of a provider's lease.
    fn acquired(&self, lease: ProviderLease) -> Acquired {
        let mut metadata = lease.metadata;
        let shell = shell(&metadata);
        metadata.insert("shellCommand".to_owned(), shell.into());
        metadata.insert("pluginId".to_owned(), json!(self.plugin.plugin_id));
        metadata.insert("pluginKey".to_owned(), json!(self.plugin.key()));
        metadata.insert("sandboxProviderPlugin".to_owned(), json!(true));
        metadata.extend(identity(&self.driver));
        Acquired { provider_lease_id: lease.id, metadata, expires_at: lease.expires_at }
    }

    async fn end(&self, call: Call<'_>, held: &Held, keep: bool) -> Outcome<Receipt> {
        let ended = self.bridge.end(self.target(&call), held, &without_host_keys(&held.metadata), keep).await;
        settled(ended)
    }
}

/// The shell that commands run under (B12).
fn shell(metadata: &Map<String, Value>) -> &'static str {
    let named = metadata.get("shellCommand").and_then(Value::as_str);
    SHELLS.into_iter().find(|shell| named == Some(shell)).unwrap_or(SHELLS[0])
}

/// The command under the lease's shell, which becomes the command: its words need no quoting, its signals and exit
/// code stay its own.
fn under_shell(held: &Held, command: Command) -> Command {
    let mut args = vec!["-c".to_owned(), "exec \"$0\" \"$@\"".to_owned(), command.command];
    args.extend(command.args);
    Command { command: shell(&held.metadata).to_owned(), args, ..command }
}

#[async_trait]
impl SandboxProvider for PluginProvider {
    fn key(&self) -> &str {
        &self.driver.driver_key
    }

    fn abilities(&self) -> Abilities {
        let trust = self.trust();
        Abilities {
            idempotent_acquire: trust.idempotent_acquire,
            can_list: trust.can_list,
            can_confirm_absence: trust.can_confirm_absence,
            supports_reuse: self.driver.supports_reusable_leases && trust.supports_reuse,
            visibility_delay: trust.visibility_delay().unwrap_or(VISIBILITY_DELAY),
            workspace_kind: WorkspaceKind::Unknown,
        }
    }

    fn start_wait(&self) -> Duration {
        self.bridge.limit(Duration::ZERO)
    }

    fn secret_fields(&self) -> Vec<String> {
        schema::secret_fields(self.driver.config_schema.as_ref())
    }

    async fn validate(&self, config: &Map<String, Value>) -> Result<Map<String, Value>, InvalidConfig> {
        self.bridge.validate(self.plugin.key(), &self.driver, config, &SHARED_KEYS).await
    }

    async fn probe(&self, scope: &ProbeScope, config: &Map<String, Value>) -> ProbeReport {
        with_check(self.bridge.probe(self.look(scope, config)).await, &self.plugin, &self.driver)
    }

    async fn acquire(&self, call: Call<'_>, requested_expires_at: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        settled(self.bridge.acquire(self.target(&call), requested_expires_at).await).map(|lease| self.acquired(lease))
    }

    async fn resume(&self, call: Call<'_>, held: &Held) -> Outcome<Resumed> {
        if !self.driver.supports_reusable_leases {
            return not_reusable(&self.driver).outcome();
        }
        let resumed = self.bridge.resume(self.target(&call), held, &without_host_keys(&held.metadata)).await;
        settled(resumed).map(|lease| lease.map_or(Resumed::Gone, |lease| Resumed::Same(self.acquired(lease))))
    }

    async fn release(&self, call: Call<'_>, held: &Held, _: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        self.end(call, held, keep).await
    }

    async fn destroy(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt> {
        self.end(call, held, false).await
    }

    async fn realize(&self, call: Call<'_>, held: &Held, workspace: &Workspace) -> Outcome<Realized> {
        let metadata = without_host_keys(&held.metadata);
        let (cwd, metadata) = match self.bridge.realize(self.target(&call), held, &metadata, workspace).await {
            Ok(realized) => realized,
            Err(failure) => return failure.outcome(),
        };
        let sandbox_id = held.provider_lease_id.clone();
        Outcome::Done(Realized {
            sync: SyncStrategy::ProviderDefined,
            summary: format!("Sandbox workspace realized at {}:{cwd}.", sandbox_id.as_deref().unwrap_or(self.key())),
            remote: RemotePlace { path: Some(cwd.clone()), sandbox_id, ..RemotePlace::default() },
            metadata,
            cwd,
        })
    }

    async fn execute(&self, call: Call<'_>, held: &Held, command: Command, output: OutputSink) -> Outcome<Execution> {
        let target = self.target_within(&call, command.timeout.unwrap_or_default() + CALL_TIMEOUT_MARGIN);
        let metadata = without_host_keys(&held.metadata);
        let executed = self.bridge.execute(target, held, &metadata, under_shell(held, command), output).await;
        settled(executed)
    }

    async fn list(&self, scope: &ProbeScope, config: &Map<String, Value>) -> Outcome<Vec<Listed>> {
        if !self.trust().can_list {
            return not_shown_to_list(self.plugin.key(), &self.driver).outcome();
        }
        let listed = self.bridge.list(self.look(scope, config)).await;
        settled(listed)
    }
}

#[cfg(test)]
mod tests;
