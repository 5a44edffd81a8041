//! A plugin's manifest: what it declares, and the rules that it must keep. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The capability that a plugin with environment drivers must list.
const DRIVERS_CAPABILITY: &str = "environment.drivers.register";
/// The only version of the plugin API.
const API_VERSION: u64 = 1;

/// A manifest that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Manifest {
    /// Its id: the plugin key.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its name for people.
    pub display_name: String,
    /// The worker, a path from the manifest's folder on.
    pub worker: String,
    /// What it makes environments with.
    pub drivers: Vec<DriverDeclaration>,
    /// The manifest as it was given: the worker gets all of it.
    pub raw: Value,
}

/// A driver that a plugin declares.
#[derive(Debug, Clone, PartialEq)]
pub struct DriverDeclaration {
    /// Its key, unique in the plugin.
    pub driver_key: String,
    /// What it is.
    pub kind: DriverKind,
    /// Its name for people.
    pub display_name: String,
    /// The JSON Schema of its config.
    pub config_schema: Option<Value>,
    /// Whether what one lease leaves may be resumed for another.
    pub supports_reusable_leases: bool,
    /// The keys of lease metadata by which a sandbox is known, besides `remoteCwd` (B16).
    pub identity_fields: Vec<String>,
}

/// What a declared driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// A driver of the `plugin` driver.
    EnvironmentDriver,
    /// A provider of the `sandbox` driver.
    SandboxProvider,
}

impl DriverKind {
    /// As manifests spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnvironmentDriver => "environment_driver",
            Self::SandboxProvider => "sandbox_provider",
        }
    }
}

/// A manifest that is not taken: every fault of it, each a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The manifest is not valid: {}", .faults.join(" "))]
pub struct InvalidManifest {
    /// One sentence a fault.
    pub faults: Vec<String>,
}

impl Manifest {
    /// Checks a manifest.
    pub fn parse(raw: Value) -> Result<Self, InvalidManifest> {
        let mut faults = Vec::new();
        let id = key(&raw, "id", &mut faults);
        if raw["apiVersion"].as_u64() != Some(API_VERSION) {
            faults.push(format!("\"apiVersion\" is {}; it must be {API_VERSION}.", shown(&raw["apiVersion"])));
        }
        let version = text(&raw, "version", &mut faults);
        let display_name = text(&raw, "displayName", &mut faults);
        let worker = raw["entrypoints"]["worker"].as_str().unwrap_or_default().to_owned();
        if worker.is_empty() {
            faults.push("\"entrypoints.worker\" is missing; it must name the worker's file.".to_owned());
        }
        let declared = match &raw["environmentDrivers"] {
            Value::Null => Vec::new(),
            Value::Array(drivers) => drivers.clone(),
            _ => {
                faults.push("\"environmentDrivers\" must be a list.".to_owned());
                Vec::new()
            }
        };
        let lists =
            |capability| raw["capabilities"].as_array().is_some_and(|all| all.iter().any(|one| one == capability));
        if !declared.is_empty() && !lists(DRIVERS_CAPABILITY) {
            faults.push(format!(
                "It declares environment drivers, so \"capabilities\" must list \"{DRIVERS_CAPABILITY}\"."
            ));
        }
        let drivers: Vec<DriverDeclaration> = declared.iter().map(|driver| declaration(driver, &mut faults)).collect();
        for (at, driver) in drivers.iter().enumerate() {
            if drivers.iter().take(at).any(|before| before.driver_key == driver.driver_key) {
                faults.push(format!("The driver key \"{}\" is there twice; keys are unique.", driver.driver_key));
            }
        }
        if !faults.is_empty() {
            return Err(InvalidManifest { faults });
        }
        Ok(Self { id, version, display_name, worker, drivers, raw })
    }

    /// The driver of this key and kind.
    #[must_use]
    pub fn driver(&self, driver_key: &str, kind: DriverKind) -> Option<&DriverDeclaration> {
        self.drivers.iter().find(|driver| driver.driver_key == driver_key && driver.kind == kind)
    }

    /// Its driver of the same key and kind as that one.
    #[must_use]
    pub fn driver_like(&self, other: &DriverDeclaration) -> Option<&DriverDeclaration> {
        self.driver(&other.driver_key, other.kind)
    }
}

impl TryFrom<Value> for Manifest {
    type Error = InvalidManifest;

    fn try_from(raw: Value) -> Result<Self, InvalidManifest> {
        Self::parse(raw)
    }
}

impl From<Manifest> for Value {
    fn from(manifest: Manifest) -> Self {
        manifest.raw
    }
}

fn declaration(driver: &Value, faults: &mut Vec<String>) -> DriverDeclaration {
    let driver_key = key(driver, "driverKey", faults);
    let kind = match driver["kind"].as_str() {
        Some("sandbox_provider") => DriverKind::SandboxProvider,
        Some("environment_driver") => DriverKind::EnvironmentDriver,
        // A manifest without a kind is from before there were two.
        None if driver["kind"].is_null() => DriverKind::EnvironmentDriver,
        _ => {
            let kind = shown(&driver["kind"]);
            faults.push(format!("\"kind\" is {kind}; it must be \"environment_driver\" or \"sandbox_provider\"."));
            DriverKind::EnvironmentDriver
        }
    };
    let display_name = text(driver, "displayName", faults);
    let config_schema = driver.get("configSchema").filter(|schema| !schema.is_null()).cloned();
    if let Some(schema) = &config_schema
        && jsonschema::validator_for(schema).is_err()
    {
        faults.push(format!("\"configSchema\" of driver \"{driver_key}\" is no JSON Schema that can be used."));
    }
    let supports_reusable_leases = driver["supportsReusableLeases"].as_bool().unwrap_or(true);
    let identity_fields = identity_fields(driver, &driver_key, faults);
    DriverDeclaration { driver_key, kind, display_name, config_schema, supports_reusable_leases, identity_fields }
}

/// `identityFields`: a list of texts, where it is there.
fn identity_fields(driver: &Value, driver_key: &str, faults: &mut Vec<String>) -> Vec<String> {
    let fields = match &driver["identityFields"] {
        Value::Null => Some(Vec::new()),
        Value::Array(fields) => {
            fields.iter().map(|field| field.as_str().filter(|field| !field.is_empty()).map(str::to_owned)).collect()
        }
        _ => None,
    };
    fields.unwrap_or_else(|| {
        faults.push(format!(
            "\"identityFields\" of driver \"{driver_key}\" must be a list of keys of lease metadata, such as \
             [\"volumeId\"]."
        ));
        Vec::new()
    })
}

/// `^[a-z0-9][a-z0-9._-]*$`
fn key(object: &Value, name: &str, faults: &mut Vec<String>) -> String {
    let key = object[name].as_str().unwrap_or_default().to_owned();
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !(key.bytes().next().is_some_and(first) && key.bytes().all(|byte| first(byte) || b"._-".contains(&byte))) {
        faults.push(format!(
            "\"{name}\" is {}; it must be lower-case letters, digits, \".\", \"_\" and \"-\", such as \"my-provider\".",
            shown(&object[name])
        ));
    }
    key
}

fn text(object: &Value, name: &str, faults: &mut Vec<String>) -> String {
    let text = object[name].as_str().unwrap_or_default().to_owned();
    if text.is_empty() {
        faults.push(format!("\"{name}\" is missing; it must be a text."));
    }
    text
}

fn shown(value: &Value) -> String {
    if value.is_null() { "missing".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_of_a_manifest_is_told() {
        let manifest = json!({
            "id": "Up", "apiVersion": 2, "displayName": "x", "capabilities": [], "entrypoints": {},
            "environmentDrivers": [
                { "driverKey": "a", "displayName": "A", "kind": "other" },
                { "driverKey": "a", "displayName": "A", "configSchema": { "type": 7 }, "identityFields": ["x", 7] },
            ],
        });
        let faults = Manifest::parse(manifest).unwrap_err().faults;
        let starts = [
            "\"id\" is \"Up\"",
            "\"apiVersion\" is 2; it must be 1",
            "\"version\" is missing",
            "\"entrypoints.worker\" is missing",
            "It declares environment drivers, so \"capabilities\" must list",
            "\"kind\" is \"other\"",
            "\"configSchema\" of driver \"a\"",
            "\"identityFields\" of driver \"a\" must be a list",
            "The driver key \"a\" is there twice",
        ];
        assert_eq!(faults.len(), starts.len(), "{faults:#?}");
        assert!(faults.iter().zip(starts).all(|(fault, start)| fault.starts_with(start)), "{faults:#?}");
    }

    #[test]
    fn what_is_not_said_has_its_default_and_the_text_is_kept() {
        let raw = json!({
            "id": "p", "apiVersion": 1, "version": "1.0.0", "displayName": "P", "author": "me",
            "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "w.mjs" },
            "environmentDrivers": [{ "driverKey": "d", "displayName": "D" }],
        });
        let manifest = Manifest::parse(raw.clone()).unwrap();
        let driver = manifest.driver("d", DriverKind::EnvironmentDriver).unwrap();
        assert!(driver.supports_reusable_leases && driver.config_schema.is_none());
        assert!(driver.identity_fields.is_empty());
        assert!(manifest.driver("d", DriverKind::SandboxProvider).is_none());
        assert_eq!(serde_json::to_value(&manifest).unwrap(), raw);
    }
}
