//! Starts workers that can be killed at a moment of the check's choosing, and sees how they end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::workers::process::{Launched, Launcher, WorkerProcess};
use crate::workers::registry::InstalledPlugin;

/// How long what a worker started may take to go after it.
const LEAVING_MAX: Duration = Duration::from_millis(500);
/// How often it is looked for meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A launcher around another.
pub(super) struct Switch {
    launcher: Arc<dyn Launcher>,
    /// Kills the worker that was started last.
    kill: Mutex<CancellationToken>,
    seen: Arc<Seen>,
}

/// How workers ended.
#[derive(Default)]
struct Seen {
    /// One had to be asked by a signal.
    signalled: AtomicBool,
    /// One left processes behind.
    left: AtomicBool,
}

impl Switch {
    pub(super) fn new(launcher: Arc<dyn Launcher>) -> Self {
        Self { launcher, kill: Mutex::default(), seen: Arc::default() }
    }

    /// Kills the worker, as a crash would.
    pub(super) fn kill(&self) {
        self.kill.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// Whether a worker did not end when it was asked to in its own language.
    pub(super) fn signalled(&self) -> bool {
        self.seen.signalled.load(Ordering::SeqCst)
    }

    /// Whether a worker that ended by itself left processes behind.
    pub(super) fn left(&self) -> bool {
        self.seen.left.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Launcher for Switch {
    async fn launch(&self, plugin: &InstalledPlugin) -> io::Result<Launched> {
        let launched = self.launcher.launch(plugin).await?;
        let kill = CancellationToken::new();
        *self.kill.lock().unwrap_or_else(PoisonError::into_inner) = kill.clone();
        let process = Switched { process: launched.process, kill, seen: Arc::clone(&self.seen), over: false };
        Ok(Launched { process: Box::new(process), ..launched })
    }
}

struct Switched {
    process: Box<dyn WorkerProcess>,
    kill: CancellationToken,
    seen: Arc<Seen>,
    /// It ended by itself.
    over: bool,
}

impl Switched {
    /// Whether nothing is left of it, at once or a moment later.
    async fn goes(&mut self) -> bool {
        let end = Instant::now() + LEAVING_MAX;
        while self.process.is_there() {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        true
    }
}

#[async_trait]
impl WorkerProcess for Switched {
    async fn ended(&mut self) -> String {
        tokio::select! {
            how = self.process.ended() => {
                self.over = true;
                return how;
            }
            () = self.kill.cancelled() => {}
        }
        self.process.kill().await;
        "the check killed it".to_owned()
    }

    fn terminate(&mut self) {
        self.seen.signalled.store(true, Ordering::SeqCst);
        self.process.terminate();
    }

    async fn kill(&mut self) -> bool {
        if self.over && !self.kill.is_cancelled() && !self.goes().await {
            self.seen.left.store(true, Ordering::SeqCst);
        }
        self.process.kill().await
    }

    fn is_there(&self) -> bool {
        self.process.is_there()
    }
}
