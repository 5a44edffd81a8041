//! The command line, with the real program: what it prints, how it exits, and what stays behind.

mod help;
mod history;
mod interrupt;
#[cfg(feature = "kurrentdb")]
mod kurrent;
mod misuse;
mod orphans;
mod plugin;
mod plugin_check;
mod reconcile;
mod reuse;
mod run;
mod secret;
mod serve;
mod stop;
mod store;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A data folder of its own, and the program on it.
pub(crate) struct Home {
    folder: TempDir,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The program with these arguments, without input, and with nothing of this process's settings.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lease-ledger"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEASE_LEDGER_")) {
            program.env_remove(name);
        }
        program.env_remove("RUST_LOG").env("LEASE_LEDGER_DATA_DIR", self.folder.path()).args(arguments);
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.program(arguments).output().expect("the program starts").into()
    }

    fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = self.program(arguments).stdin(Stdio::piped()).spawn().expect("the program starts");
        child.stdin.take().expect("a pipe").write_all(input).expect("it reads its input");
        child.wait_with_output().expect("it ends").into()
    }

    /// Runs it, and asserts that it is done.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{arguments:?}: {}", ended.stdout);
        ended.stdout
    }

    /// Runs it with `--json`, and reads what it prints, one value a line.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.done(&[&["--json"], arguments].concat());
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The only lease that there is.
    #[track_caller]
    pub(crate) fn only_lease(&self) -> Value {
        let mut leases = self.json(&["lease", "list"]);
        assert_eq!(leases.len(), 1, "{leases:?}");
        leases.remove(0)
    }

    /// Starts it, and waits for its first line.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.program(arguments).spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first_line = String::new();
        stdout.read_line(&mut first_line).expect("it says something");
        Running { child, stdout, first_line: first_line.trim_end().to_owned() }
    }

    /// Starts a server; answers it and its address.
    fn serve(&self, arguments: &[&str]) -> (Running, String) {
        let running = self.start(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
        let url = running.first_line.split_once(" at ").expect("an address").1.to_owned();
        (running, url)
    }
}

/// A command that runs; killed where a test forgets it.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) first_line: String,
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed any more, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it exits by itself"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// The text of a value.
#[track_caller]
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}
