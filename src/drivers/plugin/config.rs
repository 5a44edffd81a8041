//! The config of a `plugin` environment (B9), checked key by key. Pure.

use serde_json::{Map, Value, json};

use crate::drivers::InvalidConfig;
use crate::drivers::config::{Fields, object};

/// A parsed config.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PluginConfig {
    /// Which plugin.
    pub(super) plugin_key: String,
    /// Which of its drivers.
    pub(super) driver_key: String,
    /// That driver's own config.
    pub(super) driver_config: Map<String, Value>,
}

impl PluginConfig {
    pub(super) fn parse(config: &Value) -> Result<Self, InvalidConfig> {
        let map = object(config)?;
        let mut fields = Fields::new("driver \"plugin\"", map);
        let mut name = |key: &'static str, example: &str| {
            let name = fields.text(key).unwrap_or_default().to_owned();
            if name.is_empty() {
                fields.fault(format!("\"{key}\" is missing; name one, such as \"{example}\"."));
            }
            name
        };
        let (plugin_key, driver_key) = (name("pluginKey", "my-plugin"), name("driverKey", "my-driver"));
        let driver_config = fields.object("driverConfig").cloned().unwrap_or_default();
        fields.finish()?;
        Ok(Self { plugin_key, driver_key, driver_config })
    }

    /// The normal form, with the driver's config as it normalised it.
    pub(super) fn normal_form(&self, driver_config: &Map<String, Value>) -> Value {
        json!({ "pluginKey": self.plugin_key, "driverKey": self.driver_key, "driverConfig": driver_config })
    }

    /// The provider, as leases name it.
    pub(super) fn provider(&self) -> String {
        provider(&self.plugin_key, &self.driver_key)
    }
}

/// The provider, as leases name it.
pub(super) fn provider(plugin_key: &str, driver_key: &str) -> String {
    format!("plugin:{plugin_key}:{driver_key}")
}
