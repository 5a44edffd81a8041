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
use serde_json::{Map, Value};
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
    /// The names of this process's variables that its worker may see; absent: those that it was granted before.
    pub grants: Option<Vec<String>>,
    /// The plugin's own config, the same for every company; absent: the one that it has, or an empty one.
    pub config: Option<Value>,
}

/// A plugin that was just installed.
#[derive(Debug, Clone, PartialEq)]
pub struct Installation {
    /// As it is now.
    pub plugin: Arc<InstalledPlugin>,
    /// As it was before, where this is an upgrade.
    pub before: Option<Arc<InstalledPlugin>>,
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

    /// Whether a worker that was started for the other one serves this one as well. That it may be used, or not, and
    /// what a check has shown of it, is the host's business, and no worker's.
    #[must_use]
    pub fn has_the_worker_of(&self, other: &Self) -> bool {
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
    #[error("There is no plugin \"{plugin_key}\"; {}.", installed(.known))]
    Unknown {
        /// As given.
        plugin_key: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Another plugin has that sandbox provider.
    #[error("The plugin \"{plugin_key}\" declares the sandbox provider \"{provider}\" already; remove it first.")]
    ProviderTaken {
        /// Who has it.
        plugin_key: String,
        /// The provider's key.
        provider: String,
    },
    /// The ledger has that sandbox provider itself.
    #[error("The sandbox provider \"{provider}\" is built in; give the plugin's driver another driverKey.")]
    ProviderBuiltIn {
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
    /// A variable that may not be granted here.
    #[error(
        "The variable \"{name}\" may not be granted on this server; start it with --plugin-variable {name}, or leave it out."
    )]
    NotGrantable {
        /// As given.
        name: String,
    },
    /// A variable that no worker gets.
    #[error("The variable \"{name}\" is the ledger's own, and granted to no plugin.")]
    ForbiddenGrant {
        /// As given.
        name: String,
    },
}

/// What the names of variables begin with that hold the ledger's keys and secrets.
const OWN_VARIABLES: &str = "LEASE_";

type Plugins = BTreeMap<String, Arc<InstalledPlugin>>;

/// The registry.
pub struct Registry {
    path: PathBuf,
    ids: Arc<dyn Ids>,
    built_in: &'static [&'static str],
    grantable: Option<Vec<String>>,
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
        Self { path, ids, built_in: &[], grantable: None, read: Mutex::default(), fixed: None }
    }

    /// A registry of this one plugin, in no file: for whoever looks at a plugin that may not be installed. It cannot be
    /// changed.
    #[must_use]
    pub fn fixed(plugin: InstalledPlugin, ids: Arc<dyn Ids>) -> Self {
        let plugins = Plugins::from([(plugin.key().to_owned(), Arc::new(plugin))]);
        Self { fixed: Some(Arc::new(plugins)), ..Self::new(PathBuf::from("(in memory)"), ids) }
    }

    /// The same registry, where no plugin may declare these sandbox providers: they are built in.
    #[must_use]
    pub fn with_built_in(self, providers: &'static [&'static str]) -> Self {
        Self { built_in: providers, ..self }
    }

    /// The same registry, where only these variables may be granted, also to a plugin that has them already.
    #[must_use]
    pub fn with_grantable(self, names: Option<Vec<String>>) -> Self {
        Self { grantable: names, ..self }
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

    /// Installs a plugin, enabled, or gives one that is installed a new manifest and start command: an upgrade, which
    /// keeps its id and whether it is enabled. What a check has shown is forgotten either way: the worker's files may be
    /// others.
    pub fn install(&self, plugin: NewPlugin) -> Result<Installation, RegistryError> {
        plugin.grants.iter().flatten().try_for_each(|name| check_grant(name))?;
        self.change(|plugins| {
            let NewPlugin { manifest, start, grants, config } = plugin;
            for driver in manifest.drivers.iter().filter(|driver| driver.kind == DriverKind::SandboxProvider) {
                if self.built_in.contains(&driver.driver_key.as_str()) {
                    return Err(RegistryError::ProviderBuiltIn { provider: driver.driver_key.clone() });
                }
                let declares = |other: &&Arc<InstalledPlugin>| {
                    other.key() != manifest.id
                        && other.manifest.driver(&driver.driver_key, DriverKind::SandboxProvider).is_some()
                };
                if let Some(other) = plugins.values().find(declares) {
                    let (plugin_key, provider) = (other.key().to_owned(), driver.driver_key.clone());
                    return Err(RegistryError::ProviderTaken { plugin_key, provider });
                }
            }
            let before = plugins.get(&manifest.id).cloned();
            let had = before.as_deref();
            let grants = grants.or_else(|| Some(had?.grants.clone())).unwrap_or_default();
            if let Some(grantable) = &self.grantable
                && let Some(name) = grants.iter().find(|name| !grantable.contains(name))
            {
                // Whoever upgrades a plugin chooses what program sees its variables.
                return Err(RegistryError::NotGrantable { name: name.clone() });
            }
            let plugin = Arc::new(InstalledPlugin {
                plugin_id: had.map_or_else(|| self.ids.fresh(), |had| had.plugin_id),
                grants,
                config: config.or_else(|| Some(had?.config.clone())).unwrap_or_else(|| Value::Object(Map::new())),
                enabled: had.is_none_or(|had| had.enabled),
                manifest,
                start,
                checks: BTreeMap::new(),
            });
            plugins.insert(plugin.key().to_owned(), Arc::clone(&plugin));
            Ok(Installation { plugin, before })
        })
    }

    /// The plugin with this key, or which there are.
    pub fn known(&self, plugin_key: &str) -> Result<Arc<InstalledPlugin>, RegistryError> {
        known(&*self.all()?, plugin_key)
    }

    /// Makes a plugin again what it was before an upgrade.
    pub fn put_back(&self, before: &Arc<InstalledPlugin>) -> Result<(), RegistryError> {
        self.change(|plugins| {
            plugins.insert(before.key().to_owned(), Arc::clone(before));
            Ok(())
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

/// That a worker may see the variable of this name.
pub fn check_grant(name: &str) -> Result<(), RegistryError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(RegistryError::InvalidGrant { name: name.to_owned() });
    }
    if name.starts_with(OWN_VARIABLES) {
        return Err(RegistryError::ForbiddenGrant { name: name.to_owned() });
    }
    Ok(())
}

fn known(plugins: &Plugins, plugin_key: &str) -> Result<Arc<InstalledPlugin>, RegistryError> {
    plugins.get(plugin_key).cloned().ok_or_else(|| RegistryError::Unknown {
        plugin_key: plugin_key.to_owned(),
        known: plugins.keys().cloned().collect(),
    })
}

fn installed(known: &[String]) -> String {
    if known.is_empty() { "none is installed".to_owned() } else { format!("there is: {}", known.join(", ")) }
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
        NewPlugin { manifest, start, grants: Some(vec!["TOKEN".to_owned()]), config: None }
    }

    #[test]
    fn what_one_process_installs_another_finds() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Registry::new(folder.path().join("data/plugins.json"), Arc::new(SystemIds));
        let (one, other) = (open(), open());
        assert!(other.all().unwrap().is_empty());
        let installed = one.install(new_plugin("p", "boxes")).unwrap().plugin;
        assert_eq!(other.get("p").unwrap().unwrap(), installed);
        assert_eq!(other.sandbox_provider("boxes").unwrap().unwrap().0.plugin_id, installed.plugin_id);

        other.set_enabled("p", false).unwrap();
        assert!(!one.get("p").unwrap().unwrap().enabled);
        let upgrade = NewPlugin { grants: None, config: Some(json!({ "a": 1 })), ..new_plugin("p", "crates") };
        let Installation { plugin: again, before } = one.install(upgrade).unwrap();
        assert_eq!((again.plugin_id, again.enabled), (installed.plugin_id, false), "it is the same plugin still");
        assert_eq!((&again.grants, &again.config), (&installed.grants, &json!({ "a": 1 })), "what is not said stays");
        assert_eq!(before.unwrap().manifest, installed.manifest);
        assert!(other.sandbox_provider("boxes").unwrap().is_none());

        one.remove("p").unwrap();
        assert!(other.get("p").unwrap().is_none());
        let error = one.remove("p").unwrap_err().to_string();
        assert_eq!(error, "There is no plugin \"p\"; none is installed.");
    }

    #[test]
    fn what_a_check_has_shown_holds_for_what_was_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugins.json");
        let open = || Registry::new(path.clone(), Arc::new(SystemIds));
        let (one, other) = (open(), open());
        let installed = one.install(new_plugin("p", "boxes")).unwrap().plugin;
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

        let upgraded = one.install(new_plugin("p", "boxes")).unwrap().plugin;
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
        let registry = Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds)).with_built_in(&["own"]);
        registry.install(new_plugin("p", "boxes")).unwrap();
        let error = registry.install(new_plugin("q", "boxes")).unwrap_err().to_string();
        assert_eq!(error, "The plugin \"p\" declares the sandbox provider \"boxes\" already; remove it first.");
        let error = registry.install(new_plugin("q", "own")).unwrap_err().to_string();
        assert_eq!(error, "The sandbox provider \"own\" is built in; give the plugin's driver another driverKey.");
    }

    #[test]
    fn what_is_no_variable_or_the_ledgers_own_is_not_granted() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds));
        let granting = |name: &str| NewPlugin { grants: Some(vec![name.to_owned()]), ..new_plugin("q", "other") };
        for name in ["", "A=B", "A\0"] {
            assert!(matches!(registry.install(granting(name)), Err(RegistryError::InvalidGrant { .. })), "{name}");
        }
        for name in ["LEASE_LEDGER_SECRET_KEY", "LEASE_SECRET_X_TOKEN"] {
            assert!(matches!(registry.install(granting(name)), Err(RegistryError::ForbiddenGrant { .. })), "{name}");
        }
        registry.install(granting("RELEASE_TOKEN")).unwrap();

        // An upgrade hands what was granted to another program.
        let server = Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds));
        let server = server.with_grantable(Some(vec!["API_KEY".to_owned()]));
        for grants in [None, Some(vec!["API_KEY".to_owned(), "RELEASE_TOKEN".to_owned()])] {
            let refused = server.install(NewPlugin { grants, ..new_plugin("q", "other") });
            assert!(matches!(&refused, Err(RegistryError::NotGrantable { name }) if name == "RELEASE_TOKEN"));
        }
        server.install(granting("API_KEY")).unwrap();
    }
}
