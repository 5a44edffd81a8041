//! The plugin driver's own tests, on real Node workers: the example provider on the published SDK, and one that
//! misbehaves. `cargo xtask test` installs what they need.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::seam::{Ids, SystemIds};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Bridge, PluginDriver};
use crate::drivers::contract::{Subject, command, done, keeps_the_contract, refused};
use crate::drivers::secrets::{SecretError, SecretReader, SecretRef, SecretResolver};
use crate::drivers::{EnvironmentDriver, Held, LeaseScope, Outcome, Resumed, Workspace};
use crate::workers::host_services::PluginServices;
use crate::workers::manifest::Manifest;
use crate::workers::process::SystemLauncher;
use crate::workers::registry::{NewPlugin, Registry, StartCommand};
use crate::workers::supervisor::Timings;
use crate::workers::trust::Trust;
use crate::workers::{Need, WorkerHost, WorkerHostParts};

mod bad;
#[path = "../../../tests/support/example_plugin.rs"]
mod example_plugin;
#[path = "../../../tests/support/shown.rs"]
mod shown;

pub(in crate::drivers) use example_plugin::SDKS;
pub(in crate::drivers) use shown::of_the_example as shown_of_the_example;

/// The value of every secret in these tests.
pub(in crate::drivers) const SECRET: &str = "canary-5d1f0a77";

/// A host with a folder of its own. [`Farm::close`] ends its workers.
pub(in crate::drivers) struct Farm {
    pub(in crate::drivers) host: Arc<WorkerHost>,
    pub(in crate::drivers) bridge: Bridge,
    pub(in crate::drivers) folder: tempfile::TempDir,
}

struct OneSecret;

#[async_trait]
impl SecretResolver for OneSecret {
    async fn resolve(&self, reference: &SecretRef, _: &SecretReader) -> Result<SecretString, SecretError> {
        if reference.secret_id.is_nil() {
            return Err(SecretError::Unknown { reference: reference.clone() });
        }
        Ok(SECRET.into())
    }
}

/// A reference to it.
pub(in crate::drivers) fn reference() -> Value {
    json!({ "type": "secret_ref", "secretId": "0198c0de-0000-7000-8000-000000000001", "version": "latest" })
}

impl Farm {
    pub(in crate::drivers) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let brief = Duration::from_millis(300);
        let registry = Arc::new(Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds)));
        let host = WorkerHost::new(WorkerHostParts {
            services: Arc::new(PluginServices::new(Arc::clone(&registry))),
            registry,
            launcher: Arc::new(SystemLauncher::new(Arc::new(SystemIds), LedgerId(SystemIds.fresh()))),
            // Room for a machine under load, but brief where a worker is meant not to obey.
            timings: Timings {
                start_wait: Duration::from_secs(30),
                shutdown: brief,
                terminate: brief,
                ..Timings::default()
            },
            instance_id: "test".to_owned(),
        });
        let bridge = Bridge::new(Arc::clone(&host), Arc::new(OneSecret));
        Self { host, bridge, folder }
    }

    /// Installs the example provider, on this version of the SDK.
    pub(in crate::drivers) fn install_example(&self, sdk: &str) {
        let home = self.path().join("plugin");
        example_plugin::stage(&home, sdk);
        let text = std::fs::read(home.join("manifest.json")).unwrap();
        let manifest = Manifest::parse(serde_json::from_slice(&text).unwrap()).unwrap();
        let start = StartCommand::node(&manifest, &home);
        self.install(manifest, start);
    }

    /// Installs the bad worker with this behaviour, as plugin `bad` with a driver and a sandbox provider.
    pub(in crate::drivers) fn install_bad(&self, behaviour: &str, declared: &Value) {
        let schema = json!({ "properties": { "token": { "type": "string", "format": "secret-ref" } } });
        let mut drivers = json!([
            { "driverKey": "bad", "displayName": "Bad", "configSchema": schema },
            { "driverKey": "bad-box", "displayName": "Bad box", "kind": "sandbox_provider", "configSchema": schema },
        ]);
        drivers[1].as_object_mut().unwrap().extend(declared.as_object().unwrap().clone());
        let manifest = json!({
            "id": "bad", "apiVersion": 1, "version": "1.0.0", "displayName": "Bad", "author": "x",
            "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "bad-worker.mjs" },
            "environmentDrivers": drivers,
        });
        let worker = repository().join("tests/plugins/bad-worker.mjs").to_str().unwrap().to_owned();
        let start = StartCommand {
            program: "node".to_owned(),
            args: vec![worker, behaviour.to_owned(), self.mark()],
            directory: None,
        };
        self.install(Manifest::parse(manifest).unwrap(), start);
    }

    /// Records that a check has shown this of a driver.
    pub(in crate::drivers) fn trust(&self, plugin_key: &str, driver_key: &str, trust: Trust) {
        shown::record(self.host.registry(), plugin_key, driver_key, trust);
    }

    fn install(&self, manifest: Manifest, start: StartCommand) {
        let plugin = NewPlugin { manifest, start, grants: None, config: None };
        self.host.registry().install(plugin).unwrap();
    }

    /// Where sandboxes are made.
    pub(in crate::drivers) fn root(&self) -> String {
        let root = self.path().join("sandboxes");
        std::fs::create_dir_all(&root).unwrap();
        root.to_str().unwrap().to_owned()
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// A number of seconds that no other test sleeps.
    fn mark(&self) -> String {
        let drawn = SystemIds.fresh().as_u128() % 1_000_000;
        let path = self.folder.path().join("mark");
        let mark = std::fs::read_to_string(&path).unwrap_or_else(|_| format!("9{drawn:06}"));
        std::fs::write(path, &mark).unwrap();
        mark
    }

    /// Stops the workers; nothing of them may be left.
    pub(in crate::drivers) async fn close(self) {
        self.host.stop_all().await;
        let left = processes_with(&[self.path().to_str().unwrap(), &self.mark()]);
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command lines of processes that have one of these words in them.
fn processes_with(words: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .collect()
}

fn subject(farm: &Farm) -> Subject {
    Subject {
        driver: Arc::new(PluginDriver::new(farm.bridge.clone())),
        config: json!({
            "pluginKey": "file-provider",
            "driverKey": "folders",
            "driverConfig": { "root": farm.root(), "outputBytesMax": 1_024 * 1_024, "reuseLease": true },
        }),
        shell: true,
        workspace: Workspace::default(),
        own_env: &["PATH"],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_a_worker_process_of_each_sdk() {
    for sdk in SDKS {
        let farm = Farm::new();
        farm.install_example(sdk);
        let subject = subject(&farm);
        assert!(!subject.driver.traits(&subject.config).supports_reuse, "what was not shown is not assumed");
        let told = || async { subject.driver.probe(&subject.probe_scope(), &subject.config).await.diagnostics };
        assert_eq!(told().await[0].code.as_deref(), Some("not-checked"));
        keeps_the_contract(&subject).await;
        farm.trust("file-provider", "folders", shown_of_the_example());
        assert!(subject.driver.traits(&subject.config).supports_reuse);
        assert_eq!(told().await, []);
        keeps_the_contract(&subject).await;
        farm.close().await;
    }
}

#[tokio::test]
async fn a_worker_process_is_asked_about_a_config_once_it_runs() {
    let farm = Farm::new();
    farm.install_example(SDKS[1]);
    let driver = PluginDriver::new(farm.bridge.clone());
    let config = json!({
        "pluginKey": "file-provider", "driverKey": "folders",
        "driverConfig": { "root": farm.root(), "token": reference() },
    });
    assert_eq!(driver.validate(&config).await.unwrap(), config, "by its schema only");
    farm.host.running("file-provider", Need::Work).await.unwrap();
    let normal = driver.validate(&config).await.unwrap();
    assert_eq!(normal["driverConfig"]["outputBytesMax"], 8 * 1_024 * 1_024);
    assert_eq!(normal["driverConfig"]["token"], reference(), "whatever the worker saw, the reference is kept");

    assert_eq!(driver.secret_fields(&config), ["/driverConfig/token"]);
    let mut plain = config.clone();
    plain["driverConfig"]["token"] = "hunter2".into();
    let invalid = driver.validate(&plain).await.unwrap_err().to_string();
    assert!(invalid.contains("\"token\" must be a reference") && !invalid.contains("hunter2"), "{invalid}");
    for (key, sentence) in [
        ("pluginKey", "No plugin \"other\" is installed"),
        ("driverKey", "The plugin \"file-provider\" does not declare the driver \"other\""),
    ] {
        let mut wrong = config.clone();
        wrong[key] = "other".into();
        let invalid = driver.validate(&wrong).await.unwrap_err().to_string();
        assert!(invalid.contains(sentence), "{invalid}");
    }
    farm.close().await;
}

#[tokio::test]
async fn a_lease_finds_its_worker_process_by_its_own_record() {
    let farm = Farm::new();
    farm.install_example(SDKS[0]);
    let subject = subject(&farm);
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let metadata = &held.metadata;
    assert_eq!(metadata["provider"], "plugin:file-provider:folders");
    assert_eq!((&metadata["pluginKey"], &metadata["driverKey"]), (&json!("file-provider"), &json!("folders")));
    assert!(metadata["pluginId"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(metadata["providerMetadata"]["remoteCwd"].as_str().unwrap().starts_with(&farm.root()));

    // Its environment's config names another plugin now: its driver config is not this one's (B10).
    let changed = json!({ "pluginKey": "other", "driverKey": "other", "driverConfig": { "root": "/nowhere" } });
    let elsewhere = LeaseScope { config: changed, ..scope.clone() };
    let outcome = subject.driver.destroy(&elsewhere, &held).await;
    // The example needs its root; it got {} and said so.
    assert!(matches!(&outcome, Outcome::Unknown(fault) if fault.code == "provider-error"), "{outcome:?}");

    // A plugin that is disabled gives nothing, and still ends what it gave, trusted as before.
    farm.trust("file-provider", "folders", shown_of_the_example());
    farm.host.registry().set_enabled("file-provider", false).unwrap();
    assert!(subject.driver.traits(&subject.config).can_confirm_absence);
    let outcome = subject.driver.acquire(&scope, None).await;
    assert!(matches!(&outcome, Outcome::NotDone(fault) if fault.code == "plugin-not-ready"), "{outcome:?}");
    done(subject.driver.destroy(&scope, &held).await);
    farm.host.registry().remove("file-provider").unwrap();
    let outcome = subject.driver.destroy(&scope, &held).await;
    assert!(matches!(&outcome, Outcome::NotDone(fault) if fault.code == "plugin-missing"), "{outcome:?}");
    farm.close().await;
}
