//! The `bubblewrap` provider: real sandboxes on one Linux machine, made by the program `bwrap`.
//!
//! A sandbox is a folder that outlives its commands (`store.rs`); each command runs in fresh namespaces around it: the
//! workspace at `/workspace`, the host's programs and libraries read-only, an own `/tmp` and `/dev/shm` that end with
//! the command, no other file, process, environment variable, capability or network of the host's (`command.rs`).
//! Limits are watched (`tree.rs`) and stand in the config (`config.rs`).
//!
//! **What it is not:** the kernel is the host's; the size of a workspace has no limit; without cgroups, memory that no
//! process has mapped (an unmapped memfd, up to `fileBytesMax` each) is not counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use lease_events::failure::Fault;
use lease_events::id::LeaseId;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{ReceiptState, ReleaseStatus, WorkspaceKind};
use lease_events::seam::Clock;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::config::Config;
use self::identity::Identity;
use self::store::{Holder, Label, Running, Store, StoreError};
use self::tree::NamespaceTree;
use super::provider::{Abilities, Call, SandboxProvider};
use super::{lease_of, provider_lease_id};
use crate::drivers::process::{self, Start, TIMEOUT_DEFAULT};
use crate::drivers::{
    Acquired, Command, Execution, Held, InvalidConfig, Listed, Outcome, OutputSink, ProbeReport, ProbeScope, Realized,
    RemotePlace, Resumed, SyncStrategy, Workspace,
};

mod command;
mod config;
mod identity;
mod probe;
mod store;
mod tree;

/// Its key, as configs name it.
pub const KEY: &str = "bubblewrap";
/// Where a sandbox's workspace is inside.
const CWD: &str = "/workspace";

/// The provider.
pub struct BubblewrapProvider {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

/// The programs of the host that it calls.
struct Programs {
    bwrap: PathBuf,
    prlimit: PathBuf,
    setpriv: PathBuf,
}

impl BubblewrapProvider {
    /// Keeps its sandboxes under `root`, which it makes where it is not there. Several processes may share it.
    #[must_use]
    pub fn new(root: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { store: Arc::new(Store::new(root.to_owned())), clock }
    }

    /// Works on the disk, off the runtime's threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Outcome<T> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(Ok(value)) => Outcome::Done(value),
            Ok(Err(error)) => error.into(),
            Err(_) => Outcome::Unknown(Fault::new("interrupted", "The work on the sandbox's folder was interrupted.")),
        }
    }

    async fn remove(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt> {
        let (lease, holder) = match names(call, held) {
            Ok(names) => names,
            Err(fault) => return Outcome::Refused(fault),
        };
        let removed = self.on_disk(move |store| store.remove(lease, holder)).await;
        removed.map(|was_there| receipt(held, if was_there { ReceiptState::Destroyed } else { ReceiptState::Gone }))
    }

    async fn run(
        &self,
        call: Call<'_>,
        lease: LeaseId,
        running: Running,
        command: Command,
        output: OutputSink,
    ) -> Outcome<Execution> {
        let prepared = Config::parse(call.config).map_err(|invalid| invalid.to_string()).and_then(|config| {
            let programs = Programs::find()?;
            let uid = Identity::of_this_process().uid(lease);
            command::sandboxed(&programs, &config, &command, &running.workspace(), uid)
                .and_then(|sandboxed| {
                    let reported = Arc::new(AtomicBool::new(false));
                    let told = Arc::clone(&reported);
                    let tree = NamespaceTree::new(sandboxed.status, config, sandboxed.stages, running, told)?;
                    Ok((config, sandboxed.process, tree, reported))
                })
                .map_err(|error| format!("The sandbox could not be prepared: {error}."))
        });
        let (config, process, tree, reported) = match prepared {
            Ok(prepared) => prepared,
            Err(sentence) => return Outcome::NotDone(Fault::new("sandbox-setup", sentence)),
        };
        let start = Start {
            command: process,
            stdin: command.stdin,
            timeout: command.timeout.unwrap_or(TIMEOUT_DEFAULT),
            output_bytes_max: config.output_bytes_max,
        };
        match process::run(start, Box::new(tree), output).await {
            Ok(execution) => {
                let killed = execution.timed_out || execution.limit.is_some() || execution.signal.is_some();
                if killed || reported.load(Ordering::Acquire) {
                    return Outcome::Done(execution);
                }
                let sentence = "The sandbox could not be set up; the command's error output says why.";
                Outcome::NotDone(Fault::new("sandbox-setup", sentence))
            }
            Err(error) => error.outcome("bwrap"),
        }
    }
}

#[async_trait]
impl SandboxProvider for BubblewrapProvider {
    fn key(&self) -> &str {
        KEY
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_acquire: true,
            can_list: true,
            can_confirm_absence: true,
            supports_reuse: true,
            visibility_delay: Duration::ZERO,
            workspace_kind: WorkspaceKind::Derived,
        }
    }

    async fn validate(&self, config: &Map<String, Value>) -> Result<Map<String, Value>, InvalidConfig> {
        Config::parse(config).map(|config| config.normal_form())
    }

    async fn probe(&self, _: &ProbeScope, _: &Map<String, Value>) -> ProbeReport {
        let store = Arc::clone(&self.store);
        let report = tokio::task::spawn_blocking(move || probe::probe(&store)).await;
        report.unwrap_or_else(|_| ProbeReport {
            ok: false,
            summary: "The probe was interrupted.".to_owned(),
            diagnostics: Vec::new(),
        })
    }

    async fn acquire(&self, call: Call<'_>, _: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        if let Err(invalid) = Config::parse(call.config) {
            return Outcome::Refused(Fault::new("invalid-config", invalid.to_string()));
        }
        let label = label(call, self.clock.now());
        let (lease, holder) = (label.lease_id, holder(call));
        let owner = Identity::of_this_process().uid(lease);
        let made = self.on_disk(move |store| {
            // The same lease: the same sandbox, whichever attempt made it.
            let there = store.create(&label, owner)? || store.hold(lease, holder)?.is_some();
            Ok(there)
        });
        match made.await {
            Outcome::Done(true) => Outcome::Done(acquired(lease)),
            Outcome::Done(false) => Outcome::NotDone(gone()),
            other => other.map(|_| acquired(lease)),
        }
    }

    async fn resume(&self, call: Call<'_>, held: &Held) -> Outcome<Resumed> {
        let (lease, holder) = match names(call, held) {
            Ok(names) => names,
            Err(fault) => return Outcome::Refused(fault),
        };
        let found = self.on_disk(move |store| store.hold(lease, holder)).await;
        found.map(|found| found.map_or(Resumed::Gone, |_| Resumed::Same(acquired(lease))))
    }

    async fn release(&self, call: Call<'_>, held: &Held, _: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        if !keep {
            return self.remove(call, held).await;
        }
        let (lease, holder) = match names(call, held) {
            Ok(names) => names,
            Err(fault) => return Outcome::Refused(fault),
        };
        let stopped = self.on_disk(move |store| store.stop(lease, holder)).await;
        stopped.map(|found| receipt(held, if found.is_some() { ReceiptState::Kept } else { ReceiptState::Gone }))
    }

    async fn destroy(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt> {
        self.remove(call, held).await
    }

    async fn realize(&self, call: Call<'_>, held: &Held, _: &Workspace) -> Outcome<Realized> {
        let (lease, holder) = match names(call, held) {
            Ok(names) => names,
            Err(fault) => return Outcome::Refused(fault),
        };
        let id = provider_lease_id(KEY, &lease.to_string());
        match self.on_disk(move |store| store.hold(lease, holder)).await {
            Outcome::Done(None) => Outcome::Refused(gone()),
            other => other.map(|_| Realized {
                cwd: CWD.to_owned(),
                sync: SyncStrategy::ProviderDefined,
                summary: format!("Sandbox workspace realized at {id}:{CWD}."),
                remote: RemotePlace { path: Some(CWD.to_owned()), sandbox_id: Some(id), ..RemotePlace::default() },
                metadata: Map::new(),
            }),
        }
    }

    async fn execute(&self, call: Call<'_>, held: &Held, command: Command, output: OutputSink) -> Outcome<Execution> {
        let (lease, holder) = match names(call, held) {
            Ok(names) => names,
            Err(fault) => return Outcome::Refused(fault),
        };
        match self.on_disk(move |store| store.begin(lease, holder)).await {
            Outcome::Done(Some(running)) => self.run(call, lease, running, command, output).await,
            Outcome::Done(None) => Outcome::Refused(gone()),
            other => other.map(|_| Execution::default()),
        }
    }

    fn lists_all(&self) -> bool {
        true
    }

    async fn list(&self, _: &ProbeScope, _: &Map<String, Value>) -> Outcome<Vec<Listed>> {
        let listed = |label: Label| Listed {
            provider_lease_id: provider_lease_id(KEY, &label.lease_id.to_string()),
            ledger_id: Some(label.ledger_id),
            lease_id: Some(label.lease_id),
            created_at: Some(label.created_at),
        };
        let labels = self.on_disk(|store| Ok(store.all()?)).await;
        labels.map(|labels| labels.into_iter().map(listed).collect())
    }
}

impl<T> From<StoreError> for Outcome<T> {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(fault) => Self::Refused(fault),
            StoreError::Busy => {
                Self::NotDone(Fault::new("sandbox-busy", "The sandbox is in use by a command, or is being removed."))
            }
            StoreError::Io(error) => Self::NotDone(Fault::new(
                "sandbox-folder",
                format!("The sandbox's folder could not be worked on: {error}."),
            )),
        }
    }
}

fn label(call: Call<'_>, now: DateTime<Utc>) -> Label {
    let scope = call.scope;
    // Object keys are sorted, so the same config has the same digest.
    let config = serde_json::to_vec(call.config).unwrap_or_default();
    let digest = HEXLOWER.encode(&Sha256::digest(&config));
    Label {
        ledger_id: scope.ledger_id,
        lease_id: scope.lease_id,
        company_id: scope.company_id,
        environment_id: scope.environment_id,
        run_id: scope.run_id,
        attempt: scope.attempt,
        created_at: now,
        fencing_token: scope.fencing_token,
        config_digest: digest,
    }
}

fn holder(call: Call<'_>) -> Holder {
    Holder { ledger_id: call.scope.ledger_id, fencing_token: call.scope.fencing_token }
}

/// The sandbox that a call is about, and who makes it.
fn names(call: Call<'_>, held: &Held) -> Result<(LeaseId, Holder), Fault> {
    lease_of(held, KEY).map(|lease| (lease, holder(call)))
}

fn acquired(lease: LeaseId) -> Acquired {
    let facts = [("remoteCwd", CWD), ("shellCommand", BubblewrapProvider::shell())];
    Acquired {
        provider_lease_id: Some(provider_lease_id(KEY, &lease.to_string())),
        metadata: facts.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
        expires_at: None,
    }
}

fn receipt(held: &Held, state: ReceiptState) -> Receipt {
    Receipt { state, provider_lease_id: held.provider_lease_id.clone() }
}

fn gone() -> Fault {
    Fault::new("gone", "The sandbox is gone.")
}

#[cfg(test)]
mod tests;
