//! Runs one command with everything that it starts, streams its output, and ends all of it.
//!
//! **Invariants:** nothing that a command started outlives it: when it exits, its time runs out, a limit is passed or
//! its caller goes away, the whole [`Tree`] is ended, and awaited; dropping is only the last net. The command gets
//! none of the host's environment but what is written into its [`Start`].

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lease_events::failure::Fault;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Command, Execution, Outcome, OutputChunk, OutputSink, OutputStream};
use crate::processes::proc::{Stat, signal_name};
pub(super) use crate::processes::spawn::spawn;

/// How long a command may take to end by itself after SIGTERM, before SIGKILL.
pub(super) const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long a reader may take over what is left in the pipes once the command is over; what it leaves then is lost.
const OUTPUT_DRAIN_MAX: Duration = Duration::from_secs(30);
/// Most bytes of one [`OutputChunk`]: as much as a pipe holds.
const CHUNK_BYTES_MAX: usize = 64 * 1_024;
/// Longest time that a command may run where neither its caller nor the config says: an hour.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_hours(1);

/// A command that is about to run.
pub(super) struct Start {
    /// What to spawn: program, arguments, directory, environment, file descriptors.
    pub(super) command: std::process::Command,
    /// Its input; none is an empty one.
    pub(super) stdin: Option<Vec<u8>>,
    /// Longest time it may run.
    pub(super) timeout: Duration,
    /// Most bytes that its two outputs may have together.
    pub(super) output_bytes_max: u64,
}

/// Everything that a command starts.
#[async_trait]
pub(super) trait Tree: Send {
    /// The command was spawned; called once, before anything else.
    async fn started(&mut self, child: Stat);
    /// Waits until the tree passes a limit, and names it; for ever where it passes none. May be cancelled.
    async fn over_limit(&mut self) -> &'static str;
    /// Sends a signal to every process of the command.
    fn signal(&mut self, signal: Signal);
    /// Kills whatever is left and waits for it; `false` where something would not go.
    async fn end(&mut self) -> bool;
    /// Reads the exit status of the spawned process as the command's own.
    fn read_status(&self, status: ExitStatus) -> Execution {
        let signal = status.signal().map(signal_name);
        Execution { exit_code: status.code(), signal, ..Execution::default() }
    }
}

/// Why a run gave no [`Execution`].
pub(super) enum RunError {
    /// The command was never started.
    NotStarted(io::Error),
    /// It was started, and how it ended is not known.
    Lost(&'static str),
}

impl RunError {
    /// As an outcome. `what` is the program that could not be started.
    pub(super) fn outcome<T>(self, what: &str) -> Outcome<T> {
        match self {
            Self::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => {
                Outcome::NotDone(Fault::new("command-not-found", format!("There is no program \"{what}\".")))
            }
            Self::NotStarted(error) => {
                Outcome::NotDone(Fault::new("not-started", format!("\"{what}\" could not be started: {error}.")))
            }
            Self::Lost(why) => Outcome::Unknown(Fault::new("execution-lost", why)),
        }
    }
}

/// What of a command no process could ever be given, as a sentence.
pub(super) fn check(command: &Command) -> Result<(), Fault> {
    let texts = std::iter::once(&command.command).chain(&command.args).chain(&command.cwd);
    let values = command.env.iter().flat_map(|(name, value)| [name, value]);
    if texts.chain(values).any(|text| text.contains('\0')) {
        return Err(Fault::new("invalid-command", "A command's texts must not hold the NUL character."));
    }
    if command.command.is_empty() {
        return Err(Fault::new("invalid-command", "The command is empty; name a program."));
    }
    // The value may be a secret, so only the name is shown.
    match command.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        Some((name, _)) => Err(Fault::new(
            "invalid-command",
            format!("\"{name}\" is no name of an environment variable; it must not be empty or hold \"=\"."),
        )),
        None => Ok(()),
    }
}

/// Runs a command to its end, and ends its tree. If the caller goes away, the tree is killed all the same.
pub(super) async fn run(start: Start, tree: Box<dyn Tree>, output: OutputSink) -> Result<Execution, RunError> {
    // A task of its own: a caller that is cancelled drops `held`, and the task still awaits the end of the tree.
    let (held, abandoned) = oneshot::channel();
    let result = tokio::spawn(supervise(start, tree, output, abandoned)).await;
    drop(held);
    result.unwrap_or(Err(RunError::Lost("The runtime was stopped while the command ran.")))
}

async fn supervise(
    start: Start,
    mut tree: Box<dyn Tree>,
    output: OutputSink,
    abandoned: oneshot::Receiver<()>,
) -> Result<Execution, RunError> {
    let timeout = start.timeout;
    let mut child = spawn(start.command).await.map_err(RunError::NotStarted)?;
    if let Some(stat) = child.id().and_then(|pid| Stat::of(pid.try_into().ok()?)) {
        tree.started(stat).await;
    }
    let pipes = Pipes::open(&mut child, start.stdin, start.output_bytes_max, output);
    let mut execution = Execution::default();
    tokio::select! {
        _ = child.wait() => {}
        () = tokio::time::sleep(timeout) => execution.timed_out = true,
        () = pipes.budget.spent.cancelled() => {}
        limit = tree.over_limit() => execution.limit = Some(limit.to_owned()),
        _ = abandoned => {}
    }
    if execution.timed_out {
        tree.signal(Signal::TERM);
        // Whether it ends by itself or not, what is left is killed next.
        let _ = tokio::time::timeout(TERM_GRACE, child.wait()).await;
    }
    let clean = tree.end().await;
    // It has ended already, or goes with its tree; the error says just that.
    let _ = child.start_kill();
    let status = child.wait().await.map_err(|_| RunError::Lost("The command's exit status could not be read."))?;
    if !clean {
        return Err(RunError::Lost("Processes of the command could not be killed."));
    }
    let read = tree.read_status(status);
    let limit = pipes.close().await.map(str::to_owned);
    Ok(Execution { timed_out: execution.timed_out, limit: execution.limit.or(limit).or(read.limit.clone()), ..read })
}

/// What may still be sent of a command's output.
struct Budget {
    left: AtomicU64,
    spent: CancellationToken,
}

impl Budget {
    fn take(&self, wanted: usize) -> usize {
        let wanted = wanted as u64;
        let take = |left: u64| Some(left.saturating_sub(wanted));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_default();
        if left < wanted {
            self.spent.cancel();
        }
        // No more than `wanted`, which came from a usize.
        usize::try_from(left.min(wanted)).unwrap_or_default()
    }
}

/// The tasks that move a command's input and outputs.
struct Pipes {
    budget: Arc<Budget>,
    writer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

impl Pipes {
    fn open(child: &mut Child, stdin: Option<Vec<u8>>, output_bytes_max: u64, output: OutputSink) -> Self {
        let budget = Arc::new(Budget { left: AtomicU64::new(output_bytes_max), spent: CancellationToken::new() });
        let writer = child.stdin.take().zip(stdin).map(|(mut pipe, bytes)| {
            // A command that does not read its input to the end is no error.
            tokio::spawn(async move { drop(pipe.write_all(&bytes).await) })
        });
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let out =
            stdout.map(|pipe| tokio::spawn(pump(pipe, OutputStream::Stdout, Arc::clone(&budget), output.clone())));
        let err = stderr.map(|pipe| tokio::spawn(pump(pipe, OutputStream::Stderr, Arc::clone(&budget), output)));
        Self { budget, writer, readers: out.into_iter().chain(err).collect() }
    }

    /// Waits until the outputs are at their end, and names the limit that cut them, if one did.
    async fn close(self) -> Option<&'static str> {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
        let end = tokio::time::Instant::now() + OUTPUT_DRAIN_MAX;
        let mut late = false;
        for mut reader in self.readers {
            if tokio::time::timeout_at(end, &mut reader).await.is_err() {
                reader.abort();
                late = true;
            }
        }
        if self.budget.spent.is_cancelled() { Some("output") } else { late.then_some("output-reader") }
    }
}

async fn pump(mut pipe: impl AsyncRead + Unpin, stream: OutputStream, budget: Arc<Budget>, output: OutputSink) {
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let bytes = buffer.get(..budget.take(read)).unwrap_or_default().to_vec();
        if !bytes.is_empty() {
            // A closed sink is ignored: the command runs on, and its output is read and dropped.
            let _ = output.send(OutputChunk { stream, bytes }).await;
        }
    }
}
