//! Plugins under the whole ledger, with real workers: reuse, cleanup whatever became of the environment, and a run on
//! every driver at once.

mod drivers;
mod http;
mod reuse;
mod services;
mod stranding;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lease_events::environment::EnvironmentState;
use lease_events::id::{EnvironmentId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_events::seam::{Ids, SystemIds};
use lease_ledger::commands::acquire::AcquireAnswer;
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::plugin::InstallPlugin;
use lease_ledger::ledger::Ledger;
use lease_ledger::queries::AsOf;
use lease_ledger::secrets::key::KeySource;
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::wiring::{self, Settings, StoreUrl};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::example_plugin::{SDKS, stage};
use crate::shown;
use crate::support::{acquire_request, caller, company, operator, release_request, run};
use crate::tidy::root;

/// A ledger on a file, as `serve` opens it.
struct World {
    ledger: Ledger,
    folder: TempDir,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = StoreUrl::Sqlite(folder.path().join("ledger.db"));
        let secrets = SecretSettings { key: Some(KeySource::random()), ..SecretSettings::default() };
        let settings = Settings { secrets, ..Settings::new(store, folder.path().join("data")) };
        Self { ledger: wiring::open(&settings).await.expect("it opens"), folder }
    }

    /// One with the example provider, whose manifest is changed first.
    async fn with_example(edit: impl FnOnce(&mut Value)) -> Self {
        let world = Self::open().await;
        let home = world.folder.path().join("plugin");
        stage(&home, SDKS[1]);
        let text = std::fs::read(home.join("manifest.json")).expect("a manifest");
        let mut manifest = serde_json::from_slice(&text).expect("JSON");
        edit(&mut manifest);
        world.install(manifest, home, None).await;
        world.trust("file-provider", "folders");
        world.trust("file-provider", "folder-box");
        world
    }

    /// One with the bad worker, which behaves so, as sandbox provider `bad-box`.
    async fn with_bad(behaviour: &str, declared: &Value) -> Self {
        let world = Self::open().await;
        let mut driver = json!({ "driverKey": "bad-box", "displayName": "Bad box", "kind": "sandbox_provider" });
        driver.as_object_mut().expect("an object").extend(declared.as_object().expect("an object").clone());
        let worker = root().join("tests/plugins/bad-worker.mjs").display().to_string();
        let command = ("node".to_owned(), vec![worker, behaviour.to_owned()]);
        let folder = world.folder.path().to_owned();
        world.install(manifest("bad", &driver), folder, Some(command)).await;
        world.trust("bad", "bad-box");
        world
    }

    async fn install(&self, manifest: Value, folder: PathBuf, command: Option<(String, Vec<String>)>) {
        let request = InstallPlugin { manifest, folder, command, grants: None, config: Some(own_config()) };
        self.ledger.install_plugin(caller(), request).await.expect("installed");
    }

    /// Trusts a driver with what a check shows of the example.
    fn trust(&self, plugin_key: &str, driver_key: &str) {
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let registry = wiring::plugin_registry(&self.folder.path().join("data"), &ids);
        shown::record(&registry, plugin_key, driver_key, shown::of_the_example());
    }

    async fn environment(&self, name: &str, driver: &str, config: Value) -> EnvironmentState {
        let request =
            CreateEnvironment { company_id: company(), name: name.to_owned(), driver: driver.to_owned(), config };
        self.ledger.create_environment(caller(), request).await.expect("the environment is valid")
    }

    async fn acquire(&self, environment: EnvironmentId, run_number: u32) -> Result<AcquireAnswer, CommandError> {
        self.ledger.acquire(caller(), acquire_request(environment, Some(run(run_number)))).await
    }

    async fn release(&self, lease_id: LeaseId, status: ReleaseStatus) -> LeaseState {
        let request = release_request(lease_id, Some(operator()), status);
        self.ledger.release(caller(), request).await.expect("released")
    }

    async fn destroy(&self, lease_id: LeaseId) -> Result<LeaseState, CommandError> {
        let (company_id, authority) = (Some(company()), Some(operator()));
        let request = DestroyRequest { company_id, lease_id, authority, if_revision: None };
        self.ledger.destroy(caller(), request).await
    }

    async fn lease(&self, lease_id: LeaseId) -> LeaseState {
        self.ledger.lease(lease_id, None, AsOf::Now).await.expect("the lease is there")
    }

    /// Where the example makes its sandboxes.
    fn root(&self) -> PathBuf {
        let root = self.folder.path().join("sandboxes");
        std::fs::create_dir_all(&root).expect("a folder");
        root.canonicalize().expect("it is there")
    }

    /// The sandboxes that the example holds.
    fn held(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The config of the example as sandbox provider, with further keys.
    fn boxes(&self, further: &Value) -> Value {
        let mut config = json!({ "provider": "folder-box", "root": self.root() });
        config.as_object_mut().expect("an object").extend(further.as_object().expect("an object").clone());
        config
    }

    /// The config of the example as driver.
    fn folders(&self) -> Value {
        json!({ "pluginKey": "file-provider", "driverKey": "folders", "driverConfig": { "root": self.root() } })
    }

    /// Ends the ledger; no process that it started may be left.
    async fn close(self) {
        self.ledger.stop().await;
        let mark = format!("LEASE_LEDGER_ID={}", self.ledger.ledger_id());
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
        let left = environments.filter(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())).count();
        assert_eq!(left, 0, "processes are left behind");
    }
}

/// A manifest with this driver.
fn manifest(id: &str, driver: &Value) -> Value {
    json!({
        "id": id, "apiVersion": 1, "version": "1.0.0", "displayName": id, "author": "test",
        "description": "A test.", "categories": ["automation"],
        "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "./worker.mjs" },
        "environmentDrivers": [driver],
    })
}

/// The config that plugins are installed with.
fn own_config() -> serde_json::Map<String, Value> {
    json!({ "endpoint": "https://boxes.example" }).as_object().cloned().expect("an object")
}

/// What the example keeps of a sandbox, broken so that it cannot tell what is there; and mended again.
struct Broken {
    path: PathBuf,
    record: Vec<u8>,
}

impl Broken {
    fn new(sandbox: &Path) -> Self {
        let path = sandbox.join("record.json");
        let record = std::fs::read(&path).expect("a record");
        std::fs::write(&path, "{").expect("a file");
        Self { path, record }
    }

    fn mend(self) {
        std::fs::write(self.path, self.record).expect("a file");
    }
}
