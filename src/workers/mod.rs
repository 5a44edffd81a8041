//! The worker host: plugins as child processes that speak JSON-RPC over stdio. It knows no lease.
//!
//! - [`registry`], [`manifest`]: which plugins there are. [`trust`]: what a check has shown of them.
//! - [`supervisor`], [`process`]: their workers' lives.
//! - [`connection`], [`calls`], [`rpc`], [`mod@line`], [`invocation`]: what is said.
//! - [`host_services`]: what workers may ask. `log`: what they say, without a secret.
//!
//! **Invariants:** a worker is started when it is first needed, and one serves every company. Nothing that a worker
//! does can hold up the host or another worker: every queue and every wait has its limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

pub mod calls;
pub mod connection;
pub mod host_services;
pub mod invocation;
pub mod line;
pub mod manifest;
pub mod process;
pub mod registry;
pub mod rpc;
pub mod supervisor;
pub mod trust;

mod log;

#[cfg(test)]
mod tests;

use calls::{LATE_ANSWERS_MAX, LateAnswer};
use host_services::HostServices;
use process::Launcher;
use registry::{InstalledPlugin, Registry, RegistryError};
use supervisor::{Host, Running, State, Timings, Worker};

/// What a worker host is made of.
pub struct WorkerHostParts {
    /// Which plugins there are.
    pub registry: Arc<Registry>,
    /// Starts their workers.
    pub launcher: Arc<dyn Launcher>,
    /// Serves their requests.
    pub services: Arc<dyn HostServices>,
    /// How long things may take.
    pub timings: Timings,
    /// What workers are told this host is.
    pub instance_id: String,
}

/// The worker host.
pub struct WorkerHost {
    registry: Arc<Registry>,
    host: Arc<Host>,
    workers: Mutex<HashMap<String, Arc<Worker>>>,
    late_answers: Mutex<Option<mpsc::Receiver<LateAnswer>>>,
}

/// What a worker is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To do whatever a plugin that is enabled does.
    Work,
    /// To settle what is there already: a plugin that is disabled still owes that.
    Settle,
}

/// How a plugin's worker is in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Where it is.
    pub state: WorkerState,
    /// How often it was started again after it had ended by itself.
    pub restarts: u64,
    /// How it ended the last time.
    pub last_error: Option<String>,
    /// The optional methods that it answers; `None` while none of its starts has told.
    pub methods: Option<Arc<[String]>>,
}

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Nobody needed it yet, or it was stopped.
    Stopped,
    /// It is starting.
    Starting,
    /// It answers.
    Running,
    /// It ended by itself, and is started again after a while.
    Waiting,
    /// It ended by itself too often, and is left alone.
    GivenUp,
}

impl WorkerState {
    /// Every word of [`WorkerState::as_str`].
    pub const WORDS: [&'static str; 5] = ["stopped", "starting", "running", "waiting", "given-up"];

    /// A stable word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::GivenUp => "given-up",
        }
    }
}

/// Why no worker can be called (B8).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRunning {
    /// No such plugin is installed.
    #[error("No plugin \"{plugin_key}\" is installed; install it with `lease-ledger plugin install`.")]
    Missing {
        /// As asked for.
        plugin_key: String,
    },
    /// It is installed, and must not be used.
    #[error("The plugin \"{plugin_key}\" is not ready: {because}.")]
    NotReady {
        /// The plugin.
        plugin_key: String,
        /// Why.
        because: String,
    },
    /// It may be used, but its worker is not there.
    #[error("The worker of plugin \"{plugin_key}\" is not available: {because}.")]
    WorkerUnavailable {
        /// The plugin.
        plugin_key: String,
        /// What was seen.
        because: String,
    },
}

impl NotRunning {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "plugin-missing",
            Self::NotReady { .. } => "plugin-not-ready",
            Self::WorkerUnavailable { .. } => "worker-unavailable",
        }
    }
}

impl WorkerHost {
    /// A host; it starts no worker yet.
    #[must_use]
    pub fn new(parts: WorkerHostParts) -> Arc<Self> {
        let WorkerHostParts { registry, launcher, services, timings, instance_id } = parts;
        let (late_answers, drained) = mpsc::channel(LATE_ANSWERS_MAX);
        Arc::new(Self {
            registry,
            host: Arc::new(Host { launcher, services, late_answers, timings, instance_id }),
            workers: Mutex::default(),
            late_answers: Mutex::new(Some(drained)),
        })
    }

    /// Which plugins there are.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How long things may take.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.host.timings
    }

    /// The answers that come after their callers stopped waiting: for whoever asks first.
    pub fn take_late_answers(&self) -> Option<mpsc::Receiver<LateAnswer>> {
        self.late_answers.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The plugin's worker, started where it is not; waits for it up to [`Timings::start_wait`] (B8).
    pub async fn running(&self, plugin_key: &str, need: Need) -> Result<Running, NotRunning> {
        let end = Instant::now() + self.host.timings.start_wait;
        loop {
            let because = match self.worker(plugin_key, need)?.state() {
                State::Running(running) => return Ok(running),
                State::Over { because } => return Err(unavailable(plugin_key, because)),
                State::Starting => "it is still starting".to_owned(),
                State::Waiting { because } => format!("{because}; it is started again soon"),
            };
            let now = Instant::now();
            if now >= end {
                return Err(unavailable(plugin_key, because));
            }
            tokio::time::sleep_until((now + self.host.timings.look_interval).min(end)).await;
        }
    }

    /// The worker where it runs now; nothing is started, and nothing waited for.
    #[must_use]
    pub fn running_now(&self, plugin_key: &str) -> Option<Running> {
        match self.workers().get(plugin_key)?.state() {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// How the plugin's worker is now; nothing is started.
    #[must_use]
    pub fn status(&self, plugin_key: &str) -> WorkerStatus {
        let worker = self.workers().get(plugin_key).cloned();
        let stopped = WorkerStatus { state: WorkerState::Stopped, restarts: 0, last_error: None, methods: None };
        worker.map_or(stopped, |worker| worker.status())
    }

    /// Stops the plugin's worker, and waits until nothing of it is left. The next call starts another.
    pub async fn stop(&self, plugin_key: &str) {
        let worker = self.workers().remove(plugin_key);
        if let Some(worker) = worker {
            worker.stop().await;
        }
    }

    /// Stops all workers, at once, and waits until nothing of them is left.
    pub async fn stop_all(&self) {
        let workers: Vec<Arc<Worker>> = self.workers().drain().map(|(_, worker)| worker).collect();
        futures_util::future::join_all(workers.iter().map(|worker| worker.stop())).await;
    }

    /// The plugin's worker, on its way at least.
    fn worker(&self, plugin_key: &str, need: Need) -> Result<Arc<Worker>, NotRunning> {
        let plugin = self.usable(plugin_key, need)?;
        let mut workers = self.workers();
        if let Some(worker) = workers.get(plugin_key) {
            if worker.plugin.has_the_worker_of(&plugin) {
                return Ok(Arc::clone(worker));
            }
            // Installed anew meanwhile: the old one ends by itself, beside the new one.
            let old = Arc::clone(worker);
            tokio::spawn(async move { old.stop().await });
        }
        let worker = Worker::start(plugin, Arc::clone(&self.host));
        workers.insert(plugin_key.to_owned(), Arc::clone(&worker));
        Ok(worker)
    }

    fn usable(&self, plugin_key: &str, need: Need) -> Result<Arc<InstalledPlugin>, NotRunning> {
        let not_ready = |because: String| NotRunning::NotReady { plugin_key: plugin_key.to_owned(), because };
        match self.registry.get(plugin_key) {
            Ok(Some(plugin)) if plugin.enabled || need == Need::Settle => Ok(plugin),
            Ok(Some(_)) => Err(not_ready("it is disabled; enable it with `lease-ledger plugin enable`".to_owned())),
            Ok(None) => Err(NotRunning::Missing { plugin_key: plugin_key.to_owned() }),
            Err(error @ RegistryError::File { .. }) => {
                Err(not_ready(error.to_string().trim_end_matches('.').to_owned()))
            }
            Err(error) => Err(not_ready(error.to_string())),
        }
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<String, Arc<Worker>>> {
        // Whole after every statement.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(plugin_key: &str, because: String) -> NotRunning {
    NotRunning::WorkerUnavailable { plugin_key: plugin_key.to_owned(), because }
}
