//! Worker processes: how they start, and that they end with everything that they started.
//!
//! **Invariant:** a worker gets none of this process's variables but `PATH`, `NODE_PATH`, `NODE_ENV` and `TZ`, its own
//! `PAPERCLIP_PLUGIN_ID`, what the operator grants by name, and the marks by which its processes are found again:
//! whose they are, and which process started them.

use std::io;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::seam::Ids;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::registry::InstalledPlugin;
use crate::processes::orphans;
use crate::processes::proc::{Stat, signal_name};
use crate::processes::spawn::spawn;
use crate::processes::tree::{MARK, MarkedTree};

/// The variables of this process that a worker may see.
const PASSED_ON: [&str; 4] = ["PATH", "NODE_PATH", "NODE_ENV", "TZ"];

/// Starts workers. A seam: tests put workers behind it that are no processes.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// Starts the worker of a plugin.
    async fn launch(&self, plugin: &InstalledPlugin) -> io::Result<Launched>;
}

/// A worker that was started.
pub struct Launched {
    /// What it reads.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it answers.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its log.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// The process.
    pub process: Box<dyn WorkerProcess>,
}

/// A worker's process and all that it started.
#[async_trait]
pub trait WorkerProcess: Send {
    /// Waits until the process is over, and says how it ended, such as `it exited with 1`. May be cancelled.
    async fn ended(&mut self) -> String;
    /// Asks all of it to end.
    fn terminate(&mut self);
    /// Ends all of it and waits for that; `false` where something would not go.
    async fn kill(&mut self) -> bool;
    /// Whether anything of it is there, also where the process itself is over. One that starts nothing need not look.
    fn is_there(&self) -> bool {
        false
    }
}

/// Starts real processes.
pub struct SystemLauncher {
    ids: Arc<dyn Ids>,
    ledger_id: LedgerId,
}

impl SystemLauncher {
    /// The launcher of this ledger; `ids` marks the processes.
    #[must_use]
    pub fn new(ids: Arc<dyn Ids>, ledger_id: LedgerId) -> Self {
        Self { ids, ledger_id }
    }
}

/// Ends the workers that another process of this ledger started and could not stop, since it was killed, with all that
/// they started: SIGTERM, then SIGKILL after `terminate`, or as soon as `stopping`.
pub async fn end_orphans(ledger_id: LedgerId, terminate: Duration, stopping: CancellationToken) {
    let left = async {
        tokio::select! {
            () = tokio::time::sleep(terminate) => {}
            () = stopping.cancelled() => {}
        }
    };
    let ended = orphans::end(&ledger_id.to_string(), left).await;
    if ended > 0 {
        tracing::warn!(processes = ended, "processes of workers were ended, whose ledger's process was killed");
    }
}

#[async_trait]
impl Launcher for SystemLauncher {
    async fn launch(&self, plugin: &InstalledPlugin) -> io::Result<Launched> {
        let mark = self.ids.fresh().to_string();
        let mut command = std::process::Command::new(&plugin.start.program);
        command.args(&plugin.start.args).env_clear().process_group(0);
        if let Some(directory) = &plugin.start.directory {
            command.current_dir(directory);
        }
        let granted = plugin.grants.iter().map(String::as_str);
        for name in PASSED_ON.into_iter().chain(granted) {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("PAPERCLIP_PLUGIN_ID", plugin.plugin_id.to_string()).env(MARK, &mark);
        command.envs(orphans::marks(&self.ledger_id.to_string()));
        let mut child = spawn(command).await?;
        let mut tree = MarkedTree::new(&mark);
        if let Some(stat) = child.id().and_then(|pid| Stat::of(pid.try_into().ok()?)) {
            tree.started(stat.id);
        }
        let missing = || io::Error::other("a pipe of the worker is missing");
        Ok(Launched {
            stdin: Box::new(child.stdin.take().ok_or_else(missing)?),
            stdout: Box::new(child.stdout.take().ok_or_else(missing)?),
            stderr: Box::new(child.stderr.take().ok_or_else(missing)?),
            process: Box::new(SystemProcess { child, tree }),
        })
    }
}

struct SystemProcess {
    child: Child,
    tree: MarkedTree,
}

#[async_trait]
impl WorkerProcess for SystemProcess {
    async fn ended(&mut self) -> String {
        use std::os::unix::process::ExitStatusExt;

        match self.child.wait().await {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("it exited with {code}"),
                (None, signal) => format!("it was ended by {}", signal_name(signal.unwrap_or_default())),
            },
            Err(error) => format!("its end could not be read: {error}"),
        }
    }

    fn terminate(&mut self) {
        self.tree.signal(Signal::TERM);
    }

    async fn kill(&mut self) -> bool {
        let clean = self.tree.end().await;
        // It has ended already, or goes with its tree; the error says just that.
        let _ = self.child.start_kill();
        clean && self.child.wait().await.is_ok()
    }

    fn is_there(&self) -> bool {
        self.tree.is_there()
    }
}

impl Drop for SystemProcess {
    fn drop(&mut self) {
        // The last net, where the runtime ends before anybody waited for it.
        self.tree.signal(Signal::KILL);
    }
}
