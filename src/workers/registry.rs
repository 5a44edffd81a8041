//! The installed plugins, in one JSON file that several processes share.
//!
//! **Invariants:** the file is whole, or not there (written aside, then renamed), and changed under a lock. A plugin
//! keeps its id through a new manifest, and loses what a check has shown of it. No secret stands in it: what the operator
//! grants is a variable's name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lease_events::seam::Ids;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::manifest::{DriverDeclaration, DriverKind, Manifest};
use super::trust::{self, Checked, Trust};

/// How a worker is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartCommand {
    /// The program.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Where it starts; the host's own directory where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

impl StartCommand {
    /// `node WORKER`, in the folder of the manifest.
    #[must_use]
    pub fn node(manifest: &Manifest, folder: &Path) -> Self {
        let args = vec![manifest.worker.clone()];
        Self { program: "node".to_owned(), args, directory: Some(folder.to_owned()) }
    }
}

/// What is to be installed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPlugin {
    /// What it declares.
    pub manifest: Manifest,
    /// How its worker is started.
    pub start: StartCommand,
    /// The names of this process's variables that its worker may see.
    pub grants: Vec<String>,
    /// The plugin's own config, the same for every company.
    pub config: Value,
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstalledPlugin {
    /// Made when it was installed first.
    pub plugin_id: Uuid,
    /// What it declares; its id is the plugin key.
    pub manifest: Manifest,
    /// How its worker is started.
    pub start: StartCommand,
    /// The names of this process's variables that its worker may see.
    pub grants: Vec<String>,
    /// The plugin's own config.
    pub config: Value,
    /// Whether it may be used.
    pub enabled: bool,
    /// What a check has shown of each of its drivers, by their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Checked>,
}

impl InstalledPlugin {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.manifest.id
    }

    /// What the driver may be trusted with: nothing, where it was not checked.
    #[must_use]
    pub fn trust(&self, driver_key: &str) -> Trust {
        self.checks.get(driver_key).map(|checked| checked.trust.clone()).unwrap_or_default()
    }

    /// Whether a worker of `other` is a worker of this one: what a check shows changes no worker.
    pub(super) fn has_the_worker_of(&self, other: &Self) -> bool {
        let Self { plugin_id, manifest, start, grants, config, enabled: _, checks: _ } = self;
        *plugin_id == other.plugin_id
            && *manifest == other.manifest
            && *start == other.start
            && *grants == other.grants
            && *config == other.config
    }

    /// Forgets what was shown of another manifest or start command.
    fn without_stale_checks(mut self) -> Self {
        if !self.checks.is_empty() {
            let digest = trust::digest(&self);
            self.checks.retain(|_, checked| checked.digest == digest);
        }
        self
    }
}

/// Why the registry did not do something.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file cannot be read or written.
    #[error("The list of plugins {} cannot be used: {cause}.", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was seen.
        cause: io::Error,
    },
    /// There is no such plugin.
    #[error("There is no plugin \"{plugin_key}\"; install it, or name one of: {known}.")]
    Unknown {
        /// As given.
        plugin_key: String,
        /// Those that there are.
        known: String,
    },
    /// Another plugin has that sandbox provider.
    #[error("The plugin \"{plugin_key}\" declares the sandbox provider \"{provider}\" already; remove it first.")]
    ProviderTaken {
        /// Who has it.
        plugin_key: String,
        /// The provider's key.
        provider: String,
    },
    /// A name that no variable can have.
    #[error("\"{name}\" is no name of an environment variable; grant names such as PROVIDER_TOKEN.")]
    InvalidGrant {
        /// As given.
        name: String,
    },
    /// What was checked is not what is installed now.
    #[error("The plugin \"{plugin_key}\" was installed anew while it was checked; check it again.")]
    CheckedAnother {
        /// The plugin.
        plugin_key: String,
    },
}

type Plugins = BTreeMap<String, Arc<InstalledPlugin>>;

/// The registry.
pub struct Registry {
    path: PathBuf,
    ids: Arc<dyn Ids>,
    read: Mutex<Option<(Version, Arc<Plugins>)>>,
    /// What there is without a file.
    fixed: Option<Arc<Plugins>>,
}

/// Tells one text of the file from another: each rename puts another inode there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    format: u32,
    plugins: Vec<InstalledPlugin>,
}

impl Registry {
    /// The registry in this file; it is made with the first plugin.
    #[must_use]
    pub fn new(path: PathBuf, ids: Arc<dyn Ids>) -> Self {
        Self { path, ids, read: Mutex::default(), fixed: None }
    }

    /// A registry of this one plugin, in no file: for whoever looks at a plugin that may not be installed. It cannot be
    /// changed.
    #[must_use]
    pub fn fixed(plugin: InstalledPlugin, ids: Arc<dyn Ids>) -> Self {
        let plugins = Plugins::from([(plugin.key().to_owned(), Arc::new(plugin))]);
        Self { fixed: Some(Arc::new(plugins)), ..Self::new(PathBuf::from("(in memory)"), ids) }
    }

    /// Every plugin, by key. Read again only where the file changed.
    pub fn all(&self) -> Result<Arc<Plugins>, RegistryError> {
        self.load().map_err(|cause| self.failed(cause))
    }

    /// The plugin with this key.
    pub fn get(&self, plugin_key: &str) -> Result<Option<Arc<InstalledPlugin>>, RegistryError> {
        Ok(self.all()?.get(plugin_key).cloned())
    }

    /// The plugin that declares this sandbox provider, with the declaration.
    pub fn sandbox_provider(
        &self,
        provider: &str,
    ) -> Result<Option<(Arc<InstalledPlugin>, DriverDeclaration)>, RegistryError> {
        let plugins = self.all()?;
        Ok(plugins.values().find_map(|plugin| {
            let driver = plugin.manifest.driver(provider, DriverKind::SandboxProvider)?;
            Some((Arc::clone(plugin), driver.clone()))
        }))
    }

    /// Installs a plugin, enabled, or gives one that is installed a new manifest and start command. What a check has
    /// shown is forgotten either way: the worker's files may be others.
    pub fn install(&self, plugin: NewPlugin) -> Result<Arc<InstalledPlugin>, RegistryError> {
        let bad = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = plugin.grants.iter().find(bad) {
            return Err(RegistryError::InvalidGrant { name: name.clone() });
        }
        self.change(|plugins| {
            let NewPlugin { manifest, start, grants, config } = plugin;
            for driver in manifest.drivers.iter().filter(|driver| driver.kind == DriverKind::SandboxProvider) {
                let declares = |other: &&Arc<InstalledPlugin>| {
                    other.key() != manifest.id
                        && other.manifest.driver(&driver.driver_key, DriverKind::SandboxProvider).is_some()
                };
                if let Some(other) = plugins.values().find(declares) {
                    let (plugin_key, provider) = (other.key().to_owned(), driver.driver_key.clone());
                    return Err(RegistryError::ProviderTaken { plugin_key, provider });
                }
            }
            let before = plugins.get(&manifest.id);
            let plugin_id = before.map_or_else(|| self.ids.fresh(), |before| before.plugin_id);
            let enabled = before.is_none_or(|before| before.enabled);
            let key = manifest.id.clone();
            let checks = BTreeMap::new();
            let installed = Arc::new(InstalledPlugin { plugin_id, manifest, start, grants, config, enabled, checks });
            plugins.insert(key, Arc::clone(&installed));
            Ok(installed)
        })
    }

    /// Lets a plugin be used, or not.
    pub fn set_enabled(&self, plugin_key: &str, enabled: bool) -> Result<Arc<InstalledPlugin>, RegistryError> {
        self.change(|plugins| {
            let plugin = known(plugins, plugin_key)?;
            let changed = Arc::new(InstalledPlugin { enabled, ..(*plugin).clone() });
            plugins.insert(plugin_key.to_owned(), Arc::clone(&changed));
            Ok(changed)
        })
    }

    /// Keeps what a check has shown of a driver, in the place of what the one before has.
    pub fn record_check(
        &self,
        plugin_key: &str,
        driver_key: &str,
        checked: Checked,
    ) -> Result<Arc<InstalledPlugin>, RegistryError> {
        self.change(|plugins| {
            let plugin = known(plugins, plugin_key)?;
            if trust::digest(&plugin) != checked.digest {
                return Err(RegistryError::CheckedAnother { plugin_key: plugin_key.to_owned() });
            }
            let mut changed = (*plugin).clone();
            changed.checks.insert(driver_key.to_owned(), checked);
            let changed = Arc::new(changed);
            plugins.insert(plugin_key.to_owned(), Arc::clone(&changed));
            Ok(changed)
        })
    }

    /// Takes a plugin off the list.
    pub fn remove(&self, plugin_key: &str) -> Result<Arc<InstalledPlugin>, RegistryError> {
        self.change(|plugins| {
            let plugin = known(plugins, plugin_key)?;
            plugins.remove(plugin_key);
            Ok(plugin)
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Plugins) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let _lock = self.lock().map_err(|cause| self.failed(cause))?;
        let mut plugins = (*self.all()?).clone();
        let value = change(&mut plugins)?;
        self.store(plugins).map_err(|cause| self.failed(cause))?;
        Ok(value)
    }

    fn lock(&self) -> io::Result<File> {
        if self.fixed.is_some() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is in no file"));
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::create(self.path.with_extension("lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn load(&self) -> io::Result<Arc<Plugins>> {
        if let Some(fixed) = &self.fixed {
            return Ok(Arc::clone(fixed));
        }
        let version = match fs::metadata(&self.path) {
            Ok(found) => {
                Version { inode: found.ino(), modified: (found.mtime(), found.mtime_nsec()), length: found.len() }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(error),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, plugins)) = &*read
            && *known == version
        {
            return Ok(Arc::clone(plugins));
        }
        let stored: Stored = serde_json::from_slice(&fs::read(&self.path)?)?;
        let plugins = stored.plugins.into_iter().map(InstalledPlugin::without_stale_checks);
        let plugins: Plugins = plugins.map(|plugin| (plugin.key().to_owned(), Arc::new(plugin))).collect();
        // What did not change stays the same thing, so that its worker is not taken for another's.
        let before = read.as_ref().map(|(_, plugins)| Arc::clone(plugins)).unwrap_or_default();
        let kept = plugins.into_iter().map(|(key, plugin)| {
            let same = before.get(&key).filter(|known| **known == plugin).cloned();
            (key, same.unwrap_or(plugin))
        });
        let plugins = Arc::new(kept.collect::<Plugins>());
        *read = Some((version, Arc::clone(&plugins)));
        Ok(plugins)
    }

    fn store(&self, plugins: Plugins) -> io::Result<()> {
        let stored = Stored { format: 1, plugins: plugins.into_values().map(Arc::unwrap_or_clone).collect() };
        let aside = self.path.with_extension("aside");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)
    }

    fn failed(&self, cause: io::Error) -> RegistryError {
        RegistryError::File { path: self.path.clone(), cause }
    }
}

fn known(plugins: &Plugins, plugin_key: &str) -> Result<Arc<InstalledPlugin>, RegistryError> {
    plugins.get(plugin_key).cloned().ok_or_else(|| {
        let known = plugins.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        RegistryError::Unknown { plugin_key: plugin_key.to_owned(), known }
    })
}

#[cfg(test)]
mod tests {
    use lease_events::seam::SystemIds;
    use serde_json::json;

    use super::*;

    fn new_plugin(id: &str, provider: &str) -> NewPlugin {
        let manifest = Manifest::parse(json!({
            "id": id, "apiVersion": 1, "version": "1.0.0", "displayName": id,
            "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "w.mjs" },
            "environmentDrivers": [{ "driverKey": provider, "displayName": "x", "kind": "sandbox_provider" }],
        }))
        .unwrap();
        let start = StartCommand::node(&manifest, Path::new("/plugins"));
        NewPlugin { manifest, start, grants: vec!["TOKEN".to_owned()], config: json!({}) }
    }

    #[test]
    fn what_one_process_installs_another_finds() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Registry::new(folder.path().join("data/plugins.json"), Arc::new(SystemIds));
        let (one, other) = (open(), open());
        assert!(other.all().unwrap().is_empty());
        let installed = one.install(new_plugin("p", "boxes")).unwrap();
        assert_eq!(other.get("p").unwrap().unwrap(), installed);
        assert_eq!(other.sandbox_provider("boxes").unwrap().unwrap().0.plugin_id, installed.plugin_id);

        other.set_enabled("p", false).unwrap();
        assert!(!one.get("p").unwrap().unwrap().enabled);
        let again = one.install(new_plugin("p", "crates")).unwrap();
        assert_eq!((again.plugin_id, again.enabled), (installed.plugin_id, false), "it is the same plugin still");
        assert!(other.sandbox_provider("boxes").unwrap().is_none());

        one.remove("p").unwrap();
        assert!(other.get("p").unwrap().is_none());
        let error = one.remove("p").unwrap_err().to_string();
        assert!(error.starts_with("There is no plugin \"p\""), "{error}");
    }

    #[test]
    fn what_a_check_has_shown_holds_for_what_was_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins.json");
        let open = || Registry::new(path.clone(), Arc::new(SystemIds));
        let (one, other) = (open(), open());
        let installed = one.install(new_plugin("p", "boxes")).unwrap();
        assert_eq!(installed.trust("boxes"), Trust::default(), "what was not shown is not assumed");
        let trust = Trust { supports_reuse: true, ..Trust::default() };
        let checked = |plugin: &InstalledPlugin| Checked {
            digest: trust::digest(plugin),
            checked_at: chrono::DateTime::UNIX_EPOCH,
            failed: Vec::new(),
            trust: trust.clone(),
        };
        let trusted = one.record_check("p", "boxes", checked(&installed)).unwrap();
        assert!(trusted.has_the_worker_of(&installed), "its worker runs on");
        assert_eq!(other.get("p").unwrap().unwrap().trust("boxes"), trust, "another process sees it at once");
        assert_eq!(trusted.trust("crates"), Trust::default(), "it is that driver's");
        other.set_enabled("p", false).unwrap();
        assert_eq!(one.get("p").unwrap().unwrap().trust("boxes"), trust);

        let upgraded = one.install(new_plugin("p", "boxes")).unwrap();
        assert_eq!(upgraded.trust("boxes"), Trust::default(), "an upgrade is checked anew");
        let changed = InstalledPlugin { grants: Vec::new(), ..(*upgraded).clone() };
        let error = one.record_check("p", "boxes", checked(&changed)).unwrap_err().to_string();
        assert!(error.ends_with("was installed anew while it was checked; check it again."), "{error}");

        one.record_check("p", "boxes", checked(&upgraded)).unwrap();
        let edited = std::fs::read_to_string(&path).unwrap().replace("/plugins", "/elsewhere");
        std::fs::write(&path, edited).unwrap();
        assert_eq!(open().get("p").unwrap().unwrap().trust("boxes"), Trust::default(), "it is started otherwise now");
        let fixed = Registry::fixed(changed, Arc::new(SystemIds));
        assert!(fixed.get("p").unwrap().is_some() && fixed.remove("p").is_err());
    }

    #[test]
    fn a_sandbox_provider_has_one_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds));
        registry.install(new_plugin("p", "boxes")).unwrap();
        let error = registry.install(new_plugin("q", "boxes")).unwrap_err().to_string();
        assert_eq!(error, "The plugin \"p\" declares the sandbox provider \"boxes\" already; remove it first.");
        let invalid = NewPlugin { grants: vec!["A=B".to_owned()], ..new_plugin("q", "other") };
        assert!(matches!(registry.install(invalid), Err(RegistryError::InvalidGrant { .. })));
    }
}
