//! One plugin's worker: started, watched, restarted after a crash, stopped with everything that it started.
//!
//! **Invariants:** at most one worker of a plugin runs in this process, whatever number of companies use it. A call
//! is sent only to a worker that answered `initialize`. A crash rejects what is in flight, and only that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::LateAnswer;
use super::connection::{Call, Connection, Ends};
use super::host_services::HostServices;
use super::process::{Launched, Launcher, WorkerProcess};
use super::registry::InstalledPlugin;
use super::{WorkerState, WorkerStatus};

/// The version of the plugin API that this host speaks.
const API_VERSION: u64 = 1;
/// After that many crashes within [`CRASH_WINDOW`] a worker is not started again by itself.
pub const CRASHES_MAX: usize = 10;
/// See [`CRASHES_MAX`].
pub const CRASH_WINDOW: Duration = Duration::from_mins(10);
/// Why a worker ended that still ran.
const OUTPUT_CLOSED: &str = "it closed its output";
/// How long a worker that closed its output may take to end by itself: how it ended says more.
const EXIT_MAX: Duration = Duration::from_millis(500);
/// How long what a worker wrote before it ended may take to be read.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// The answer to `initialize`: 15 s.
    pub initialize: Duration,
    /// From `shutdown` to the worker's own end: 10 s.
    pub shutdown: Duration,
    /// From SIGTERM to SIGKILL: 5 s.
    pub terminate: Duration,
    /// The wait before the first restart, doubled each time: 1 s.
    pub restart_first: Duration,
    /// The longest wait before a restart, and how long a worker must have run for the waits to begin anew: 5 min.
    pub restart_longest: Duration,
    /// How long a call waits for a worker that is starting: 5 s (B8).
    pub start_wait: Duration,
    /// How often it looks meanwhile: every 100 ms (B8).
    pub look_interval: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            initialize: Duration::from_secs(15),
            shutdown: Duration::from_secs(10),
            terminate: Duration::from_secs(5),
            restart_first: Duration::from_secs(1),
            restart_longest: Duration::from_mins(5),
            start_wait: Duration::from_secs(5),
            look_interval: Duration::from_millis(100),
        }
    }
}

/// What every worker of a host shares.
pub(super) struct Host {
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) services: Arc<dyn HostServices>,
    pub(super) late_answers: mpsc::Sender<LateAnswer>,
    pub(super) timings: Timings,
    pub(super) instance_id: String,
}

/// A worker that answers calls.
#[derive(Clone)]
pub struct Running {
    /// The way to it.
    pub connection: Arc<Connection>,
    /// The optional methods that it has.
    pub supported: Arc<[String]>,
}

impl Running {
    /// Whether it said that it has this method.
    #[must_use]
    pub fn supports(&self, method: &str) -> bool {
        self.supported.iter().any(|supported| supported == method)
    }
}

/// How a worker is.
#[derive(Clone)]
pub(super) enum State {
    /// It is being started, or about to be.
    Starting,
    /// It answers.
    Running(Running),
    /// It crashed, and is started again after a while.
    Waiting { because: String },
    /// It crashed too often, or is not to be started.
    Over { because: String },
}

/// A supervised worker.
pub(super) struct Worker {
    pub(super) plugin: Arc<InstalledPlugin>,
    state: Mutex<State>,
    /// What the last worker that initialized could do: known between two lives too.
    supported: Mutex<Option<Arc<[String]>>>,
    /// How often it ended by itself, and how the last time.
    ends: Mutex<(u64, Option<String>)>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Starts to start it.
    pub(super) fn start(plugin: Arc<InstalledPlugin>, host: Arc<Host>) -> Arc<Self> {
        let worker = Arc::new(Self {
            plugin,
            state: Mutex::new(State::Starting),
            supported: Mutex::default(),
            ends: Mutex::default(),
            stop: CancellationToken::new(),
            task: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&worker).supervise(host));
        *worker.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        worker
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// How it is.
    pub(super) fn status(&self) -> WorkerStatus {
        let state = match self.state() {
            State::Starting => WorkerState::Starting,
            State::Running(_) => WorkerState::Running,
            State::Waiting { .. } => WorkerState::Waiting,
            State::Over { .. } => WorkerState::GivenUp,
        };
        let (ends, last_error) = self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The last of its ends is followed by no start yet, or never.
        let restarts = ends - u64::from(ends > 0 && matches!(state, WorkerState::Waiting | WorkerState::GivenUp));
        let methods = self.supported.lock().unwrap_or_else(PoisonError::into_inner).clone();
        WorkerStatus { state, restarts, last_error, methods }
    }

    /// Stops it, and waits until nothing of it is left.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has dropped the process, and killed it.
            let _ = task.await;
        }
    }

    async fn supervise(self: Arc<Self>, host: Arc<Host>) {
        let timings = host.timings;
        let (mut crashes, mut wait) = (VecDeque::new(), timings.restart_first);
        loop {
            self.set(State::Starting);
            let born = Instant::now();
            let Some(because) = self.live(&host).await else {
                return self.set(State::Over { because: "it was stopped".to_owned() });
            };
            let now = Instant::now();
            if now - born >= timings.restart_longest {
                wait = timings.restart_first;
            }
            crashes.push_back(now);
            crashes.retain(|at| now - *at <= CRASH_WINDOW);
            self.ended(&because);
            tracing::warn!(plugin = self.plugin.key(), crashes = crashes.len(), "a worker ended: {because}");
            if crashes.len() >= CRASHES_MAX {
                let because =
                    format!("it crashed {} times within {CRASH_WINDOW:?}; the last time {because}", crashes.len());
                return self.set(State::Over { because });
            }
            self.set(State::Waiting { because });
            if self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return self.set(State::Over { because: "it was stopped".to_owned() });
            }
            wait = (wait * 2).min(timings.restart_longest);
        }
    }

    /// One life. Why it ended; `None` where it was stopped.
    async fn live(&self, host: &Host) -> Option<String> {
        let Launched { stdin, stdout, stderr, mut process } = match host.launcher.launch(&self.plugin).await {
            Ok(launched) => launched,
            Err(error) => return Some(format!("\"{}\" could not be started: {error}", self.plugin.start.program)),
        };
        let (services, late_answers) = (Arc::clone(&host.services), host.late_answers.clone());
        let ends = Ends { stdin, stdout, stderr, services, late_answers };
        let connection = Arc::new(Connection::open(self.plugin.key(), ends));
        let mut ended = tokio::select! {
            ended = self.run(host, &connection) => ended,
            how = process.ended() => Some(how),
            () = connection.over() => Some(OUTPUT_CLOSED.to_owned()),
            () = self.stop.cancelled() => None,
        };
        if ended.as_deref() == Some(OUTPUT_CLOSED)
            && let Ok(how) = tokio::time::timeout(EXIT_MAX, process.ended()).await
        {
            ended = Some(how);
        }
        if ended.is_none() {
            self.set(State::Over { because: "it is being stopped".to_owned() });
            wind_down(host, &connection, process.as_mut()).await;
        }
        let clean = process.kill().await;
        if !clean {
            tracing::error!(plugin = self.plugin.key(), "processes of a worker could not be killed");
        }
        // What it answered before its end still counts.
        let _ = tokio::time::timeout(DRAIN_MAX, connection.over()).await;
        connection.close(ended.as_deref().unwrap_or("it was stopped"));
        ended
    }

    /// Initializes it, then lets it be. Ends only where it cannot be used.
    async fn run(&self, host: &Host, connection: &Arc<Connection>) -> Option<String> {
        let params = json!({
            "manifest": self.plugin.manifest.raw,
            "config": self.plugin.config,
            "instanceInfo": { "instanceId": host.instance_id, "hostVersion": env!("CARGO_PKG_VERSION") },
            "apiVersion": API_VERSION,
        });
        let answer = match connection.call(Call::new("initialize", params, host.timings.initialize)).await {
            Ok(answer) => answer,
            Err(error) => return Some(format!("it did not initialize: {error}")),
        };
        if answer["ok"] != true {
            return Some("it answered initialize with something else than {\"ok\": true}".to_owned());
        }
        let supported = answer["supportedMethods"].as_array().into_iter().flatten();
        let supported: Arc<[String]> = supported.filter_map(Value::as_str).map(str::to_owned).collect();
        *self.supported.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&supported));
        self.set(State::Running(Running { connection: Arc::clone(connection), supported }));
        std::future::pending().await
    }

    fn ended(&self, because: &str) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends = (ends.0 + 1, Some(because.to_owned()));
    }

    fn set(&self, state: State) {
        *self.lock() = state;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the worker to end, first in its own language, then by a signal.
async fn wind_down(host: &Host, connection: &Connection, process: &mut dyn WorkerProcess) {
    let asked = async {
        // Whatever it answers: what counts is that it ends.
        let _ = connection.call(Call::new("shutdown", json!({}), host.timings.shutdown)).await;
        process.ended().await
    };
    if tokio::time::timeout(host.timings.shutdown, asked).await.is_ok() {
        return;
    }
    process.terminate();
    // What is left then is killed.
    let _ = tokio::time::timeout(host.timings.terminate, process.ended()).await;
}
