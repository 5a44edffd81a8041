//! The `plugin` driver (B9, B10): environments that a plugin's worker makes.
//!
//! **Invariants:** a lease's plugin and driver come from its own metadata first, and from its config only where that
//! has none; `driverConfig` is used only while it names the same two. The policy is always ephemeral. The routing keys
//! are written last, and what the provider says stands apart, under `providerMetadata` (B25). A plugin is trusted with
//! what its check has shown, and with no more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{Policy, ReleaseStatus, WorkspaceKind};
use serde_json::{Map, Value, json};

pub use self::bridge::Bridge;
use self::bridge::{CALL_TIMEOUT, VISIBILITY_DELAY};
pub(in crate::drivers) use self::bridge::{Target, Who};
use self::config::PluginConfig;
pub use self::late::late_lease;
use self::outcome::Failure;
pub(in crate::drivers) use self::outcome::settled;
pub use self::schema::own_config_faults;
use self::wire::ProviderLease;
use super::{
    Acquired, Command, Diagnostic, DriverTraits, EnvironmentDriver, Execution, Held, IDENTITY_FIELDS, InvalidConfig,
    LeasePlan, LeaseScope, Listed, OnResumeFailure, Outcome, OutputSink, PlanRequest, ProbeReport, ProbeScope,
    Realized, RemotePlace, Resumed, Severity, SyncStrategy, Workspace,
};
use crate::workers::manifest::{DriverDeclaration, DriverKind};
use crate::workers::registry::InstalledPlugin;

pub mod conformance;

pub(in crate::drivers) mod bridge;
pub(in crate::drivers) mod wire;

mod config;
mod execute;
mod late;
mod outcome;
pub(in crate::drivers) mod schema;

#[cfg(test)]
pub(in crate::drivers) mod tests;

/// The driver.
pub struct PluginDriver {
    bridge: Bridge,
}

/// A plugin's driver, with the config for it.
struct Routed {
    plugin: Arc<InstalledPlugin>,
    driver: DriverDeclaration,
    config: Map<String, Value>,
}

impl Routed {
    fn target<'a>(&'a self, who: Who<'a>, deadline: Duration) -> Target<'a> {
        Target { plugin_key: self.plugin.key(), driver: &self.driver, config: self.config.clone(), who, deadline }
    }
}

impl PluginDriver {
    /// The driver.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self { bridge }
    }

    fn find(&self, plugin_key: &str, driver_key: &str) -> Option<(Arc<InstalledPlugin>, DriverDeclaration)> {
        let plugin = self.bridge.workers.registry().get(plugin_key).ok()??;
        let driver = plugin.manifest.driver(driver_key, DriverKind::EnvironmentDriver)?.clone();
        Some((plugin, driver))
    }

    fn route(&self, config: PluginConfig) -> Result<Routed, Failure> {
        let PluginConfig { plugin_key, driver_key, driver_config } = config;
        let (plugin, driver) =
            self.find(&plugin_key, &driver_key).ok_or_else(|| self.bridge.missing(&plugin_key, &driver_key))?;
        Ok(Routed { plugin, driver, config: driver_config })
    }

    fn route_config(&self, config: &Value) -> Result<Routed, Failure> {
        let invalid = |invalid: InvalidConfig| Failure::Refused(Fault::new("invalid-config", invalid.to_string()));
        self.route(PluginConfig::parse(config).map_err(invalid)?)
    }

    /// The plugin of a lease (B10). A lease that names its plugin needs no config to be ended.
    fn route_held(&self, config: &Value, held: &Held) -> Result<Routed, Failure> {
        let recorded = |key: &str| held.metadata.get(key)?.as_str().map(str::to_owned);
        let (Some(plugin_key), Some(driver_key)) = (recorded("pluginKey"), recorded("driverKey")) else {
            return self.route_config(config);
        };
        let same = |config: &PluginConfig| config.plugin_key == plugin_key && config.driver_key == driver_key;
        let config = PluginConfig::parse(config).ok().filter(same);
        let driver_config = config.map(|config| config.driver_config).unwrap_or_default();
        self.route(PluginConfig { plugin_key, driver_key, driver_config })
    }
}

/// What the ledger records of a provider's lease.
fn acquired(routed: &Routed, lease: ProviderLease) -> Acquired {
    let (plugin_key, driver_key) = (routed.plugin.key(), &routed.driver.driver_key);
    let metadata = json!({
        "driver": "plugin",
        "provider": config::provider(plugin_key, driver_key),
        "pluginId": routed.plugin.plugin_id,
        "pluginKey": plugin_key,
        "driverKey": driver_key,
        "providerMetadata": lease.metadata,
    });
    let mut metadata = wire::object(Some(&metadata));
    metadata.extend(identity(&routed.driver));
    Acquired { provider_lease_id: lease.id, metadata, expires_at: lease.expires_at }
}

/// What the lease records of the plugin's declaration by which a sandbox is known; later manifests change nothing of it.
pub(in crate::drivers) fn identity(driver: &DriverDeclaration) -> Option<(String, Value)> {
    let fields = &driver.identity_fields;
    (!fields.is_empty()).then(|| (IDENTITY_FIELDS.to_owned(), json!(fields)))
}

/// The provider's own metadata of a lease.
fn own_metadata(held: &Held) -> Map<String, Value> {
    wire::object(held.metadata.get("providerMetadata"))
}

#[async_trait]
impl EnvironmentDriver for PluginDriver {
    fn key(&self) -> &'static str {
        "plugin"
    }

    fn traits(&self, config: &Value) -> DriverTraits {
        let config = PluginConfig::parse(config).ok();
        let found = config.and_then(|config| self.find(&config.plugin_key, &config.driver_key));
        let (trust, reusable) = found.map_or_else(Default::default, |(plugin, driver)| {
            (plugin.trust(&driver.driver_key), driver.supports_reusable_leases)
        });
        DriverTraits {
            effect_free: false,
            idempotent_acquire: trust.idempotent_acquire,
            can_list: trust.can_list,
            can_confirm_absence: trust.can_confirm_absence,
            supports_reuse: reusable && trust.supports_reuse,
            visibility_delay: trust.visibility_delay().unwrap_or(VISIBILITY_DELAY),
            call_timeout: self.bridge.limit(CALL_TIMEOUT),
        }
    }

    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig> {
        let config = PluginConfig::parse(config)?;
        let routed = self
            .route(config.clone())
            .map_err(|failure| InvalidConfig { faults: vec![failure.fault().message.clone()] })?;
        let own = self.bridge.validate(routed.plugin.key(), &routed.driver, &routed.config, &[]).await?;
        Ok(config.normal_form(&own))
    }

    fn secret_fields(&self, config: &Value) -> Vec<String> {
        let name = |key: &str| config[key].as_str().unwrap_or_default();
        let Some((_, driver)) = self.find(name("pluginKey"), name("driverKey")) else { return Vec::new() };
        let own = schema::secret_fields(driver.config_schema.as_ref());
        own.into_iter().map(|pointer| format!("/driverConfig{pointer}")).collect()
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig> {
        let config = PluginConfig::parse(request.config)?;
        Ok(LeasePlan {
            provider: config.provider(),
            policy: Policy::Ephemeral,
            may_take_over: false,
            workspace_kind: WorkspaceKind::Unknown,
            config: request.config.clone(),
            keys_outside_fingerprint: &[],
            on_resume_failure: OnResumeFailure::Fresh,
        })
    }

    async fn probe(&self, scope: &ProbeScope, config: &Value) -> ProbeReport {
        let invalid = match PluginConfig::parse(config) {
            Ok(config) => match self.route(config) {
                Ok(routed) => {
                    let report = self.bridge.probe(routed.target(Who::Look(scope), CALL_TIMEOUT)).await;
                    return with_check(report, &routed.plugin, &routed.driver);
                }
                Err(failure) => InvalidConfig { faults: vec![failure.fault().message.clone()] },
            },
            Err(invalid) => invalid,
        };
        ProbeReport::invalid(&invalid)
    }

    async fn acquire(&self, scope: &LeaseScope, requested_expires_at: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        let effect = async {
            let routed = self.route_config(&scope.config)?;
            let target = routed.target(Who::Lease(scope), CALL_TIMEOUT);
            let lease = self.bridge.acquire(target, requested_expires_at).await?;
            Ok(acquired(&routed, lease))
        };
        settled(effect.await)
    }

    async fn resume(&self, scope: &LeaseScope, held: &Held) -> Outcome<Resumed> {
        let effect = async {
            let routed = self.route_held(&scope.config, held)?;
            if !routed.driver.supports_reusable_leases {
                return Err(not_reusable(&routed.driver));
            }
            let target = routed.target(Who::Lease(scope), CALL_TIMEOUT);
            let lease = self.bridge.resume(target, held, &own_metadata(held)).await?;
            Ok(lease.map_or(Resumed::Gone, |lease| Resumed::Same(acquired(&routed, lease))))
        };
        settled(effect.await)
    }

    async fn release(&self, scope: &LeaseScope, held: &Held, _: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        let effect = async {
            let routed = self.route_held(&scope.config, held)?;
            let target = routed.target(Who::Lease(scope), CALL_TIMEOUT);
            self.bridge.end(target, held, &own_metadata(held), keep).await
        };
        settled(effect.await)
    }

    async fn destroy(&self, scope: &LeaseScope, held: &Held) -> Outcome<Receipt> {
        self.release(scope, held, ReleaseStatus::Released, false).await
    }

    async fn realize(&self, scope: &LeaseScope, held: &Held, workspace: &Workspace) -> Outcome<Realized> {
        let effect = async {
            let routed = self.route_held(&scope.config, held)?;
            let target = routed.target(Who::Lease(scope), CALL_TIMEOUT);
            let (cwd, metadata) = self.bridge.realize(target, held, &own_metadata(held), workspace).await?;
            Ok(Realized {
                sync: SyncStrategy::ProviderDefined,
                summary: format!("Plugin workspace realized by {} at {cwd}.", routed.plugin.key()),
                remote: RemotePlace { path: Some(cwd.clone()), ..RemotePlace::default() },
                metadata,
                cwd,
            })
        };
        settled(effect.await)
    }

    async fn execute(
        &self,
        scope: &LeaseScope,
        held: &Held,
        command: Command,
        output: OutputSink,
    ) -> Outcome<Execution> {
        if let Err(fault) = super::process::check(&command) {
            return Outcome::Refused(fault);
        }
        let effect = async {
            let routed = self.route_held(&scope.config, held)?;
            let configured = routed.config.get("timeoutMs").and_then(Value::as_u64).map(Duration::from_millis);
            let command = Command { timeout: command.timeout.or(configured), ..command };
            let deadline = command.timeout.unwrap_or_default() + CALL_TIMEOUT;
            let target = routed.target(Who::Lease(scope), deadline);
            self.bridge.execute(target, held, &own_metadata(held), command, output).await
        };
        settled(effect.await)
    }

    async fn list(&self, scope: &ProbeScope, config: &Value) -> Outcome<Vec<Listed>> {
        let effect = async {
            let routed = self.route_config(config)?;
            if !routed.plugin.trust(&routed.driver.driver_key).can_list {
                return Err(not_shown_to_list(routed.plugin.key(), &routed.driver));
            }
            self.bridge.list(routed.target(Who::Look(scope), CALL_TIMEOUT)).await
        };
        settled(effect.await)
    }
}

/// A listing that was not shown to be whole proves nothing.
pub(in crate::drivers) fn not_shown_to_list(plugin_key: &str, driver: &DriverDeclaration) -> Failure {
    let sentence = format!(
        "The listing of driver \"{}\" is not relied on, since no check has shown that it is whole; run \
         `lease-ledger plugin check {plugin_key} --driver {}`.",
        driver.driver_key, driver.driver_key
    );
    Failure::Refused(Fault::new("not-supported", sentence))
}

/// A report that tells whether the driver was checked.
pub(in crate::drivers) fn with_check(
    mut report: ProbeReport,
    plugin: &InstalledPlugin,
    driver: &DriverDeclaration,
) -> ProbeReport {
    if !plugin.checks.contains_key(&driver.driver_key) {
        report.diagnostics.push(Diagnostic {
            severity: Severity::Info,
            message: format!(
                "The driver \"{}\" was not checked: nothing of it is reused, and an operator settles what is unknown; \
                 run `lease-ledger plugin check {} --driver {}`.",
                driver.driver_key,
                plugin.key(),
                driver.driver_key
            ),
            code: Some("not-checked".to_owned()),
        });
    }
    report
}

/// The plugin says that what one lease leaves is not for another.
pub(in crate::drivers) fn not_reusable(driver: &DriverDeclaration) -> Failure {
    let sentence = format!("The driver \"{}\" does not support reusable leases.", driver.driver_key);
    Failure::Refused(Fault::new("not-supported", sentence))
}
