//! What is checked: an installed plugin, or one in a folder, with a config that its driver takes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use async_trait::async_trait;
use lease_events::seam::Ids;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::CheckError;
use crate::drivers::plugin::schema;
use crate::drivers::secrets::{SecretError, SecretReader, SecretRef, SecretResolver};
use crate::workers::manifest::{DriverDeclaration, Manifest};
use crate::workers::registry::{InstalledPlugin, StartCommand, check_grant};

/// The file of a plugin's manifest in its folder.
const MANIFEST_FILE: &str = "manifest.json";

/// What is to be checked, and with what. Not to be printed: its configs hold secret values.
#[derive(Clone)]
pub struct Subject {
    /// The plugin; it need not be installed.
    pub plugin: InstalledPlugin,
    /// Which of its drivers; may be left out where there is one.
    pub driver_key: Option<String>,
    /// A config that works. A secret field holds the value itself: it stays in memory, and is shown nowhere.
    pub config: Map<String, Value>,
    /// A config of another account, which cannot see what the first one makes.
    pub other_config: Option<Map<String, Value>>,
}

/// The plugin whose manifest is in this folder, or is this file. `start` is the words of its start command where it is
/// not `node WORKER`; `grants` are names of variables that its worker may see.
pub fn in_folder(
    path: &Path,
    start: &[String],
    grants: Vec<String>,
    ids: &dyn Ids,
) -> Result<InstalledPlugin, CheckError> {
    let unreadable = |path: &Path, cause: String| CheckError::Manifest { path: path.to_owned(), cause };
    let file = if path.is_dir() { path.join(MANIFEST_FILE) } else { path.to_owned() };
    let text = std::fs::read(&file).map_err(|error| unreadable(&file, error.to_string()))?;
    let raw: Value = serde_json::from_slice(&text).map_err(|error| unreadable(&file, error.to_string()))?;
    let manifest = Manifest::parse(raw).map_err(|error| unreadable(&file, error.to_string()))?;
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    let folder = std::path::absolute(&folder).map_err(|error| unreadable(&file, error.to_string()))?;
    let start = match start.split_first() {
        Some((program, args)) => {
            StartCommand { program: program.clone(), args: args.to_vec(), directory: Some(folder) }
        }
        None => StartCommand::node(&manifest, &folder),
    };
    grants.iter().try_for_each(|name| check_grant(name)).map_err(CheckError::Grant)?;
    let (plugin_id, config, checks) = (ids.fresh(), json!({}), BTreeMap::new());
    Ok(InstalledPlugin { plugin_id, manifest, start, grants, config, enabled: true, checks })
}

/// The driver that is meant.
pub(super) fn driver(plugin: &InstalledPlugin, driver_key: Option<&str>) -> Result<DriverDeclaration, CheckError> {
    let drivers = &plugin.manifest.drivers;
    let known = || drivers.iter().map(|driver| driver.driver_key.clone()).collect::<Vec<_>>().join(", ");
    match (driver_key, drivers.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(CheckError::NoDriver { plugin_key: plugin.key().to_owned() }),
        (None, _) => Err(CheckError::WhichDriver { plugin_key: plugin.key().to_owned(), known: known() }),
        (Some(key), _) => {
            drivers.iter().find(|driver| driver.driver_key == key).cloned().ok_or_else(|| CheckError::UnknownDriver {
                plugin_key: plugin.key().to_owned(),
                driver_key: key.to_owned(),
                known: known(),
            })
        }
    }
}

/// The secret values of the configs, by the references that stand there instead.
#[derive(Default)]
pub(super) struct Values(HashMap<Uuid, SecretString>);

impl Values {
    /// Takes the values out of the secret fields of a config.
    pub(super) fn take(&mut self, config: &mut Map<String, Value>, fields: &[String], ids: &dyn Ids) {
        schema::replace_texts(config, fields, |text| {
            let secret_id = ids.fresh();
            self.0.insert(secret_id, text.into());
            json!({ "type": "secret_ref", "secretId": secret_id, "version": "latest" })
        });
    }
}

#[async_trait]
impl SecretResolver for Values {
    async fn resolve(&self, reference: &SecretRef, _: &SecretReader) -> Result<SecretString, SecretError> {
        let unknown = || SecretError::Unknown { reference: reference.clone() };
        self.0.get(&reference.secret_id).cloned().ok_or_else(unknown)
    }
}
