//! The real program as a process that can be killed: a data folder of its own, a server on it, and what a client says to
//! the server over a connection.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lease_events::record::RecordedEvent;
use lease_events::seam::crash::CrashPoint;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::keeping::{Keeping, Kept};

/// How long a client waits for an answer: beyond any that comes.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// How often owed cleanup is tried again: as often as a test can wait.
const CLEANUP_WAIT: &str = "20ms";

/// A data folder that outlives the servers on it.
pub(super) struct Home {
    folder: TempDir,
    kept: Kept,
}

/// What a client asks.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) body: Value,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// A server; killed where a test forgets it.
pub(super) struct Server {
    child: Child,
    address: String,
}

/// A server that died before it served.
#[derive(Debug)]
pub(super) struct DiedEarly(pub(super) ExitStatus);

impl Home {
    /// An empty one, in memory where the machine has room for files there: the disk's speed is nothing to be tested.
    pub(super) fn new(keeping: Keeping) -> Self {
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        let kept = keeping.begin(folder.path());
        Self { folder, kept }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The whole log, read beside whoever serves it.
    pub(super) fn log(&self) -> Vec<RecordedEvent> {
        self.kept.log()
    }

    /// What the servers have logged.
    pub(super) fn logged(&self) -> String {
        std::fs::read_to_string(self.path().join("server.log")).unwrap_or_default()
    }

    /// Keeps the folder, for somebody to look into.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Starts a server, which dies at `point` when it gets there.
    pub(super) fn start(&self, point: Option<CrashPoint>) -> Result<Server, DiedEarly> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lease-ledger"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEASE_LEDGER_")) {
            program.env_remove(name);
        }
        let log = File::options().create(true).append(true).open(self.path().join("server.log")).expect("a log");
        program.env("LEASE_LEDGER_DATA_DIR", self.path());
        program.envs(self.kept.variables());
        program.env("LEASE_LEDGER_SECRET_KEY", STANDARD.encode([7; 32]));
        program.env("LEASE_LEDGER_CLEANUP_WAIT", CLEANUP_WAIT);
        program.envs(point.map(|point| ("LEASE_LEDGER_CRASH_AT", point.to_string())));
        program.args(["serve", "--listen", "127.0.0.1:0"]).env_remove("RUST_LOG");
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = program.spawn().expect("the program starts");
        let mut first_line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut first_line).expect("a pipe");
        match first_line.trim_end().split_once(" at http://") {
            Some((_, address)) => Ok(Server { child, address: address.to_owned() }),
            None => Err(DiedEarly(child.wait().expect("it ends"))),
        }
    }
}

impl Server {
    /// Asks; a server that dies gives no answer.
    pub(super) fn ask(&self, ask: &Ask) -> io::Result<Answer> {
        say(&self.address, ask)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it.
    pub(super) fn kill(mut self) -> ExitStatus {
        // One that has ended by itself cannot be killed any more.
        let _ = self.child.kill();
        self.child.wait().expect("it ends")
    }

    /// Has it stand still for so long.
    pub(super) fn pause(&mut self, time: Duration) {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::STOP).expect("it lives");
        std::thread::sleep(time);
        kill_process(process, Signal::CONT).expect("it stands still");
    }

    /// Waits until it has ended; `None` where it lives still after `limit`.
    pub(super) fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let since = std::time::Instant::now();
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return Some(status),
                None if since.elapsed() > limit => return None,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it was ended by the one signal that nothing can catch.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// Asks whoever listens at this address, over a connection of its own.
pub(super) fn say(address: &str, ask: &Ask) -> io::Result<Answer> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(ANSWER_MAX))?;
    let body = if ask.body.is_null() { String::new() } else { ask.body.to_string() };
    let key = ask.key.as_ref().map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let text = format!(
        "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{key}\r\n{body}",
        ask.method,
        ask.path,
        body.len()
    );
    connection.write_all(text.as_bytes())?;
    let mut answered = Vec::new();
    connection.read_to_end(&mut answered)?;
    parse(&answered).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// Reads an answer whose body ends with the connection; `None` where it is cut.
fn parse(answered: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(answered).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: serde_json::from_str(body).ok()? })
}
