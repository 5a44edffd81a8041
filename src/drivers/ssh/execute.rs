//! Runs one command over a connection, and reads from the supervisor's reports how it went.
//!
//! **Invariants:** what ssh itself ends with is never taken for the command's exit code: that comes in a report only, and
//! where none came, nobody knows how the command ended. An ended command has no process left on the far side.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::failure::Fault;
use rustix::process::Signal;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::connection::Connection;
use super::report::{End, Live, OVERHEAD_BYTES_MAX, Reports, sift};
use super::{fault, remote};
use crate::drivers::process::{self, RunError, Start, Tree};
use crate::drivers::{Command, Execution, Outcome, OutputChunk, OutputSink, OutputStream};
use crate::processes::proc::{self, ProcessId, Stat, signal_name};
use lease_events::seam::Ids;

/// How many chunks of output wait between the pipes and the sifting; each is at most as large as a pipe.
const CHUNKS_WAITING_MAX: usize = 4;
/// How often it is looked whether a command that is to be killed has started; with the pause between, ten seconds.
const START_LOOKS_MAX: u32 = 2_000;
/// How often it is looked whether ssh has ended, once the command has; with the pause between, two seconds.
const END_LOOKS_MAX: u32 = 400;
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// What ssh exits with where it failed itself, and sometimes where a command exits so.
const SSH_FAILED: i32 = 255;
/// What an exit code is above where a signal ended the command, as shells have it. A program that exits with such a
/// code by itself cannot be told apart.
const SIGNAL_BASE: i32 = 128;
/// Longest time that a question of the driver's own may take on the far side.
const ASK_MAX: Duration = Duration::from_secs(20);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1_024;

/// What a command may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    pub(super) output_bytes_max: u64,
}

/// Runs a command in `cwd`, an absolute path.
pub(super) async fn execute(
    connection: &Arc<Connection>,
    ids: &dyn Ids,
    command: Command,
    cwd: &str,
    limits: Limits,
    output: OutputSink,
) -> Outcome<Execution> {
    let Ok(place) = tokio::time::timeout(limits.timeout, connection.place()).await else {
        let sentence = "The lease's other commands left no room for this one within its time; wait for one of them.";
        return Outcome::NotDone(Fault::new("too-many-commands", sentence));
    };
    let Some(place) = place else { return Outcome::NotDone(fault::lost(connection.config())) };
    let (token, mark) = (ids.fresh().simple().to_string(), connection.mark(ids));
    let mut stdin = remote::spell(&command, cwd, &token, &mark).into_bytes();
    stdin.extend(command.stdin.iter().flatten());
    let start = Start {
        command: connection.command(&remote::run()),
        stdin: Some(stdin),
        timeout: limits.timeout,
        output_bytes_max: limits.output_bytes_max.saturating_add(OVERHEAD_BYTES_MAX),
    };
    let live = Arc::new(Live::default());
    let tree = FarTree {
        connection: Arc::clone(connection),
        mark: mark.clone(),
        live: Arc::clone(&live),
        ssh: None,
        _place: place,
    };
    let (raw, input) = mpsc::channel(CHUNKS_WAITING_MAX);
    let sifting = tokio::spawn({
        let live = Arc::clone(&live);
        async move { sift(&token, input, output, limits.output_bytes_max, live).await }
    });
    let run = process::run(start, Box::new(tree), raw).await;
    let reports = sifting.await.unwrap_or_default();
    let ended = match run {
        Ok(ended) => ended,
        Err(error @ RunError::NotStarted(_)) => return error.outcome("ssh"),
        Err(RunError::Lost(why)) => return Outcome::Unknown(Fault::new("execution-lost", why)),
    };
    let cut_short = ended.timed_out || ended.limit.is_some();
    let mut refused = false;
    if !cut_short && reports == Reports::default() {
        // A channel that was open would have brought the first report before its end, as long as its master lives.
        refused = ended.exit_code == Some(SSH_FAILED) && connection.answers().await;
    } else if !cut_short && reports.end.is_none() && !connection.is_over() {
        // This end of the channel went away alone: the command must not run on unseen.
        connection.kill("KILL", &mark, live.session.get().copied()).await;
    }
    Ending { connection, command: &command, cwd, refused, killed: live.session.get().is_some() }.read(&reports, ended)
}

/// What a command's end is read by.
struct Ending<'a> {
    connection: &'a Connection,
    command: &'a Command,
    cwd: &'a str,
    /// Whether the far side opened no session for it.
    refused: bool,
    /// Whether it was known which session to kill, where it had to be killed.
    killed: bool,
}

impl Ending<'_> {
    fn read(&self, reports: &Reports, ended: Execution) -> Outcome<Execution> {
        let limit = ended.limit.or_else(|| reports.cut.then(|| "output".to_owned()));
        let cut_short = ended.timed_out || limit.is_some();
        let not_done = |code: &str, sentence: String| Outcome::NotDone(Fault::new(code, sentence));
        let account = self.connection.config().account();
        match reports.end {
            Some(End::NoSetsid) => not_done(
                "setsid-missing",
                format!("There is no program \"setsid\" at {account}; install util-linux there."),
            ),
            Some(End::NoDirectory) => not_done(
                "cwd-missing",
                format!("There is no directory \"{}\" at {account} that commands can start in.", self.cwd),
            ),
            Some(End::NoProgram) => {
                not_done("command-not-found", format!("There is no program \"{}\" at {account}.", self.command.command))
            }
            Some(End::Left) => {
                Outcome::Unknown(Fault::new("execution-lost", "Processes of the command could not be killed."))
            }
            Some(End::Exit(_)) if !reports.ran && !cut_short => {
                let sentence = "The far side's shell could not set the command's environment; it may reserve a name.";
                not_done("environment-refused", sentence.to_owned())
            }
            Some(End::Exit(code)) => Outcome::Done(Execution { timed_out: ended.timed_out, limit, ..exited(code) }),
            None if cut_short && self.killed => {
                let signal = Some(signal_name(Signal::KILL.as_raw()));
                Outcome::Done(Execution { exit_code: None, signal, timed_out: ended.timed_out, limit })
            }
            None if self.refused => {
                let sentence = format!(
                    "{account} opened no session for the command; check MaxSessions of its sshd, and the shell."
                );
                not_done("session-refused", sentence)
            }
            None => Outcome::Unknown(fault::lost(self.connection.config())),
        }
    }
}

/// An exit code as shells give it.
fn exited(code: i32) -> Execution {
    if (SIGNAL_BASE + 1..=SIGNAL_BASE + 64).contains(&code) {
        Execution { signal: Some(signal_name(code - SIGNAL_BASE)), ..Execution::default() }
    } else {
        Execution { exit_code: Some(code), ..Execution::default() }
    }
}

/// What a question came to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a script of the driver's own.
pub(super) async fn ask(connection: &Arc<Connection>, ids: &dyn Ids, script: &str, args: &[&str]) -> Outcome<Answer> {
    let command = Command {
        command: "sh".to_owned(),
        args: ["-c", script, "sh"].iter().chain(args).map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: None,
        timeout: None,
    };
    let (sink, mut output) = mpsc::channel::<OutputChunk>(CHUNKS_WAITING_MAX);
    let limits = Limits { timeout: ASK_MAX, output_bytes_max: ANSWER_BYTES_MAX };
    let collect = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(chunk) = output.recv().await {
            match chunk.stream {
                OutputStream::Stdout => stdout.extend(chunk.bytes),
                OutputStream::Stderr => stderr.extend(chunk.bytes),
            }
        }
        (stdout, stderr)
    };
    let (outcome, (stdout, stderr)) = tokio::join!(execute(connection, ids, command, "/", limits, sink), collect);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    match outcome {
        Outcome::Done(ended) if ended.timed_out => {
            let sentence = format!("{} did not answer in time.", connection.config().account());
            Outcome::Unknown(Fault::new("provider-timeout", sentence))
        }
        other => other.map(|ended| Answer { code: ended.exit_code, stdout: text(stdout), stderr: text(stderr) }),
    }
}

/// A command's processes on the far side.
struct FarTree {
    connection: Arc<Connection>,
    mark: String,
    live: Arc<Live>,
    /// The ssh that speaks for the command here.
    ssh: Option<ProcessId>,
    _place: OwnedSemaphorePermit,
}

impl FarTree {
    /// Waits until ssh has ended, or something is so, for so many looks.
    async fn wait(&self, looks_max: u32, is_so: impl Fn(&Live) -> bool + Send) {
        let mut looks = 0;
        while looks < looks_max && self.runs() && !is_so(&self.live) {
            looks += 1;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Whether ssh still runs: it ends when the supervisor has reported, or with the connection.
    fn runs(&self) -> bool {
        self.ssh.is_some_and(proc::runs)
    }
}

#[async_trait]
impl Tree for FarTree {
    async fn started(&mut self, child: Stat) {
        self.ssh = Some(child.id);
    }

    async fn over_limit(&mut self) -> &'static str {
        self.live.too_long.cancelled().await;
        "output"
    }

    fn signal(&mut self, signal: Signal) {
        let (connection, mark, session) =
            (Arc::clone(&self.connection), self.mark.clone(), self.live.session.get().copied());
        let name = signal_name(signal.as_raw());
        tokio::spawn(async move { connection.kill(name.trim_start_matches("SIG"), &mark, session).await });
    }

    async fn end(&mut self) -> bool {
        if !self.runs() {
            return true;
        }
        // What is still on its way there cannot be killed yet, and would start afterwards.
        self.wait(START_LOOKS_MAX, |live| live.session.get().is_some()).await;
        let killed = self.connection.kill("KILL", &self.mark, self.live.session.get().copied()).await;
        self.wait(END_LOOKS_MAX, |_| false).await;
        // With the connection, whatever ran over it ends.
        killed || self.connection.is_over()
    }
}
