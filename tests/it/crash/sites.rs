//! The providers of the matrix, each with its state on disk, as somebody sees them who asks neither them nor the ledger.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lease_events::id::LeaseId;
use lease_events::seam::SystemIds;
use lease_ledger::workers::manifest::Manifest;
use lease_ledger::workers::registry::{NewPlugin, Registry, StartCommand};
use lease_ledger::workers::trust::Trust;
use serde_json::{Value, json};

use crate::shown;

/// The name of what an obstruction has put aside.
const ASIDE: &str = "aside-of-the-test";

/// A provider whose folder can be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Site {
    /// Real sandboxes.
    Bubblewrap,
    /// Records that the program itself keeps.
    Fake,
    /// A plugin whose worker is a process of its own, which can list.
    Worker,
}

/// What an environment's config makes go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// They are not acquired.
    Acquire,
    /// They are not released at the first try.
    Release,
    /// They are never torn down.
    Teardown,
}

impl Site {
    pub(super) const ALL: [Self; 3] = [Self::Bubblewrap, Self::Fake, Self::Worker];

    /// Makes the provider known to a ledger on this data folder.
    pub(super) fn install(self, data: &Path) {
        if self != Self::Worker {
            return;
        }
        let manifest = json!({
            "id": "listing", "apiVersion": 1, "version": "1.0.0", "displayName": "Listing", "author": "lease-ledger",
            "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "listing-worker.mjs" },
            "environmentDrivers": [{
                "driverKey": "records", "kind": "sandbox_provider", "displayName": "Records",
                "configSchema": { "type": "object", "required": ["root"] },
            }],
        });
        let manifest = Manifest::parse(manifest).expect("a manifest");
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/listing-worker.mjs");
        let args = vec![worker.to_str().expect("UTF-8").to_owned()];
        let start = StartCommand { program: "node".to_owned(), args, directory: None };
        let plugin = NewPlugin { manifest, start, grants: None, config: None };
        let registry = Registry::new(data.join("plugins.json"), Arc::new(SystemIds));
        registry.install(plugin).expect("installed");
        let trust = Trust { can_list: true, visibility_delay_ms: Some(100), ..shown::of_the_example() };
        shown::record(&registry, "listing", "records", trust);
    }

    /// The config of an environment.
    pub(super) fn config(self, data: &Path, reuse: bool, trouble: Trouble) -> Value {
        let mut config = match self {
            Self::Bubblewrap => json!({ "provider": "bubblewrap" }),
            Self::Fake => json!({ "provider": "fake" }),
            Self::Worker => json!({ "provider": "records", "root": self.folder(data) }),
        };
        config["reuseLease"] = reuse.into();
        let knobs: &[(&str, &str)] = match (self, trouble) {
            // What has no knob is obstructed from outside.
            (_, Trouble::None) | (Self::Bubblewrap, _) | (Self::Worker, Trouble::Release) => &[],
            (Self::Fake, Trouble::Acquire) => &[("failAcquire", "refused")],
            (Self::Fake, Trouble::Release) => &[("failRelease", "not-done")],
            (Self::Fake, Trouble::Teardown) => &[("failRelease", "refused"), ("failDestroy", "refused")],
            (Self::Worker, Trouble::Acquire) => &[("fails", "environmentAcquireLease")],
            (Self::Worker, Trouble::Teardown) => &[("fails", "environmentDestroyLease")],
        };
        for (key, word) in knobs {
            config[*key] = (*word).into();
        }
        config
    }

    /// Where it keeps what it makes.
    pub(super) fn folder(self, data: &Path) -> PathBuf {
        data.join(match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Fake => "fake",
            Self::Worker => "records",
        })
    }

    /// The provider's name of what it made for a lease.
    pub(super) fn provider_lease_id(self, lease: &str) -> String {
        match self {
            Self::Bubblewrap => format!("sandbox://bubblewrap/{lease}"),
            Self::Fake => format!("sandbox://fake/{lease}"),
            Self::Worker => format!("record://{lease}"),
        }
    }

    /// Every sandbox that is there, by the provider's name of it.
    pub(super) fn things(self, data: &Path) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.folder(data)) else { return BTreeSet::new() };
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let leases = names.filter_map(|name| {
            let lease = match self {
                Self::Bubblewrap => name.as_str(),
                Self::Fake | Self::Worker => name.strip_suffix(".json")?,
            };
            lease.parse::<LeaseId>().ok().map(|_| self.provider_lease_id(lease))
        });
        leases.collect()
    }

    /// Removes a sandbox, without a word to anybody.
    pub(super) fn remove(self, data: &Path, provider_lease_id: &str) {
        let lease = provider_lease_id.rsplit('/').next().expect("a name");
        match self {
            Self::Bubblewrap => fs::remove_dir_all(self.folder(data).join(lease)).expect("it was there"),
            Self::Fake | Self::Worker => {
                fs::remove_file(self.folder(data).join(format!("{lease}.json"))).expect("it was there");
            }
        }
    }

    /// Lets nothing be made, where no knob does.
    pub(super) fn obstruct_making(self, data: &Path) {
        if self == Self::Bubblewrap {
            let root = self.folder(data);
            if root.is_dir() {
                fs::rename(&root, data.join(ASIDE)).expect("a folder");
            }
            fs::write(root, "no folder").expect("a file");
        }
    }

    /// Lets this sandbox not be torn down, where no knob does.
    pub(super) fn obstruct_teardown(self, data: &Path, provider_lease_id: &str) {
        let lease = provider_lease_id.rsplit('/').next().expect("a name");
        match self {
            Self::Bubblewrap => {
                let folder = self.folder(data).join(lease);
                fs::rename(folder.join("label.json"), folder.join(ASIDE)).expect("a label");
            }
            Self::Worker => fs::write(self.folder(data).join("obstructed"), lease).expect("a file"),
            Self::Fake => {}
        }
    }

    /// Takes all obstructions away.
    pub(super) fn clear(self, data: &Path) {
        let root = self.folder(data);
        if self == Self::Bubblewrap && root.is_file() {
            fs::remove_file(&root).expect("a file");
            if data.join(ASIDE).is_dir() {
                fs::rename(data.join(ASIDE), &root).expect("a folder");
            }
        }
        for entry in fs::read_dir(&root).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.join(ASIDE).is_file() {
                fs::rename(path.join(ASIDE), path.join("label.json")).expect("a label");
            } else if path.file_name().is_some_and(|name| name == "obstructed") {
                fs::remove_file(path).expect("a file");
            }
        }
    }

    /// Every effect that it has noted, where it notes them.
    pub(super) fn journal(self, data: &Path) -> Vec<Value> {
        let text = fs::read_to_string(self.folder(data).join("journal.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// How often it has made a sandbox of this lease, as far as it notes that.
    pub(super) fn made(self, data: &Path, lease: &str) -> usize {
        self.journal(data).iter().filter(|line| line["what"] == "create" && line["leaseId"] == lease).count()
    }

    /// How often the matrix's command has run in the sandbox of this lease, as far as that shows: no lease is told of more
    /// than one.
    pub(super) fn ran(self, data: &Path, lease: &str) -> usize {
        match self {
            Self::Bubblewrap => {
                let notes = self.folder(data).join(lease).join("workspace/notes");
                fs::read_to_string(notes).unwrap_or_default().lines().count()
            }
            Self::Fake => {
                let record = fs::read_to_string(self.folder(data).join(format!("{lease}.json"))).unwrap_or_default();
                let record: Value = serde_json::from_str(&record).unwrap_or_default();
                record["files"]["notes"].as_str().unwrap_or_default().lines().count()
            }
            Self::Worker => {
                let noted = self.journal(data);
                noted.iter().filter(|line| line["what"] == "execute" && line["leaseId"] == lease).count()
            }
        }
    }

    /// Makes a sandbox like that of `lease`, under the ledger's own label, old, and of a lease that nobody knows.
    pub(super) fn plant(self, data: &Path, lease: &str, orphan: &str) {
        let relabel = |from: &Path, to: &Path| {
            let label = fs::read_to_string(from).expect("a label");
            let mut label: Value = serde_json::from_str(&label).expect("JSON");
            label["leaseId"] = orphan.into();
            label["createdAt"] = "2020-01-01T00:00:00Z".into();
            fs::write(to, label.to_string()).expect("a file");
        };
        let root = self.folder(data);
        if self != Self::Bubblewrap {
            return relabel(&root.join(format!("{lease}.json")), &root.join(format!("{orphan}.json")));
        }
        let (from, to) = (root.join(lease), root.join(orphan));
        for folder in ["executions", "workspace"] {
            fs::create_dir_all(to.join(folder)).expect("a folder");
        }
        for file in ["lock", "use"] {
            fs::write(to.join(file), "").expect("a file");
        }
        relabel(&from.join("label.json"), &to.join("label.json"));
    }

    /// A command that every sandbox of it understands, and that changes its workspace.
    pub(super) fn command(self) -> (&'static str, [&'static str; 2]) {
        match self {
            Self::Bubblewrap => ("sh", ["-c", "echo kept >> notes"]),
            Self::Fake | Self::Worker => ("append", ["notes", "kept"]),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Fake => "fake",
            Self::Worker => "worker",
        })
    }
}
