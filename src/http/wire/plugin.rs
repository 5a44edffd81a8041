//! Plugins on the wire.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::moment::Moment;
use super::vocabulary as schema;
use crate::commands::plugin::{Checked, Installed, PluginState};
use crate::drivers::plugin::conformance::case::Fact;

/// A program that makes environments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Made when it was installed first; upgrades keep it.
    pub id: Uuid,
    /// Its key: the manifest's `id`.
    pub key: String,
    /// Its version.
    pub version: String,
    /// Its name for people.
    pub display_name: String,
    /// Whether it may be used. One that is disabled gives nothing new, and still ends what it gave.
    pub enabled: bool,
    /// How its worker is started.
    pub command: WorkerCommand,
    /// The folder that it is started in.
    pub folder: Option<String>,
    /// The names of the host's variables that its worker may see.
    pub grants: Vec<String>,
    /// Its own config, the same for every company.
    #[schema(value_type = Object)]
    pub config: Value,
    /// The drivers that it declares.
    pub drivers: Vec<DeclaredDriver>,
    /// Its worker, in the process that answers.
    pub worker: PluginWorker,
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerCommand {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
}

/// A driver that a plugin declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredDriver {
    /// Its key: of the `plugin` driver unique in the plugin, of the `sandbox` driver unique in the ledger.
    pub driver_key: String,
    /// What it is.
    #[schema(value_type = schema::DeclaredDriverKind)]
    pub kind: String,
    /// Its name for people.
    pub display_name: String,
    /// The JSON Schema of its config.
    #[schema(value_type = Option<Object>)]
    pub config_schema: Option<Value>,
    /// Whether what one lease leaves may be resumed for another.
    pub supports_reusable_leases: bool,
    /// The keys of lease metadata by which a sandbox is known, besides `remoteCwd`.
    pub identity_fields: Vec<String>,
    /// What the last check has shown; `null` where what is installed was never checked, and is trusted with nothing.
    pub check: Option<DriverCheck>,
}

/// What a check has shown of a driver. What it has not shown, the ledger does not assume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriverCheck {
    /// When.
    pub checked_at: Moment,
    /// The names of the cases that failed.
    pub failed: Vec<String>,
    /// What the driver is trusted with.
    #[schema(value_type = Vec<schema::TrustFact>)]
    pub trusted_with: Vec<String>,
    /// How long a new sandbox may stay out of its listing, in milliseconds, where that was measured.
    pub visibility_delay_ms: Option<u64>,
}

/// A plugin's worker, in the process that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginWorker {
    /// Where it is.
    #[schema(value_type = schema::WorkerState)]
    pub state: String,
    /// How often it was started again after it had ended by itself.
    pub restarts: u64,
    /// How it ended the last time, by itself.
    pub last_error: Option<String>,
    /// The methods that it answers; `null` while none of its starts has told.
    pub methods: Option<Vec<String>>,
}

/// Every plugin that is installed, by key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginList {
    /// The plugins.
    pub plugins: Vec<Plugin>,
}

/// A plugin to install, or to upgrade where its key is installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallPlugin {
    /// The manifest, as its file has it.
    pub manifest: Map<String, Value>,
    /// The folder on the ledger's machine that the manifest stands in, from `/` on: the worker is started there.
    pub folder: String,
    /// How the worker is started; `node` and the manifest's `entrypoints.worker` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<WorkerCommand>,
    /// The names of the host's variables that the worker may see; absent: those that it was granted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// The plugin's own config, without secrets; absent: the one that it has.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
}

/// A plugin that was just installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstalledPlugin {
    /// As it is now.
    pub plugin: Plugin,
    /// The version that was there before, where this was an upgrade.
    pub replaced_version: Option<String>,
}

impl From<PluginState> for Plugin {
    fn from(state: PluginState) -> Self {
        let (plugin, worker) = (state.plugin, state.worker);
        let drivers = plugin.manifest.drivers.iter().map(|driver| DeclaredDriver {
            driver_key: driver.driver_key.clone(),
            kind: driver.kind.as_str().to_owned(),
            display_name: driver.display_name.clone(),
            config_schema: driver.config_schema.clone(),
            supports_reusable_leases: driver.supports_reusable_leases,
            identity_fields: driver.identity_fields.clone(),
            check: plugin.checks.get(&driver.driver_key).map(DriverCheck::from),
        });
        Self {
            id: plugin.plugin_id,
            key: plugin.key().to_owned(),
            version: plugin.manifest.version.clone(),
            display_name: plugin.manifest.display_name.clone(),
            enabled: plugin.enabled,
            command: WorkerCommand { program: plugin.start.program.clone(), args: plugin.start.args.clone() },
            folder: plugin.start.directory.as_ref().map(|folder| folder.display().to_string()),
            grants: plugin.grants.clone(),
            config: plugin.config.clone(),
            drivers: drivers.collect(),
            worker: PluginWorker {
                state: worker.state.as_str().to_owned(),
                restarts: worker.restarts,
                last_error: worker.last_error,
                methods: worker.methods.map(|methods| methods.to_vec()),
            },
        }
    }
}

impl From<&Checked> for DriverCheck {
    fn from(checked: &Checked) -> Self {
        let trusted = Fact::ALL.into_iter().filter(|fact| fact.is_in(&checked.trust));
        Self {
            checked_at: checked.checked_at.into(),
            failed: checked.failed.clone(),
            trusted_with: trusted.map(|fact| fact.name().to_owned()).collect(),
            visibility_delay_ms: checked.trust.visibility_delay_ms,
        }
    }
}

impl From<Installed> for InstalledPlugin {
    fn from(installed: Installed) -> Self {
        Self { plugin: installed.state.into(), replaced_version: installed.replaced_version }
    }
}
