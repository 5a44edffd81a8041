//! A server in a process of its own, spoken to over its port: where its store is, only it need know.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A running server; killed where a test forgets it.
pub(super) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    pub(super) address: String,
}

/// An answer.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub(super) fn of(mut program: Command) -> Self {
        let mut child = program.spawn().expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it says something");
        let (_, address) = line.trim_end().split_once(" at http://").expect("an address");
        Self { address: address.to_owned(), child, stdout, stderr }
    }

    /// The process that serves, where nothing but `env` was put before it.
    pub(super) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Runs a command where the server's store is: the shell that was put before the server does.
    #[track_caller]
    pub(super) fn shell(&mut self, command: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{command} && echo done || echo failed").expect("it reads");
        let mut told = String::new();
        self.stdout.read_line(&mut told).expect("it answers");
        assert_eq!(told, "done\n", "{command}");
    }

    /// Waits until the server's log says so.
    pub(super) fn logs(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).expect("UTF-8"), 0, "it ended without: {what}");
        }
    }

    /// Ends it in good order.
    pub(super) fn stop(&mut self) {
        kill_process(self.process(), Signal::TERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success());
    }

    /// Ends it without a word.
    pub(super) fn kill(&mut self) {
        kill_process(self.process(), Signal::KILL).expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub(super) fn get(&self, path: &str) -> Answered {
        ask(&self.address, "GET", path, "")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answered {
        ask(&self.address, "POST", path, &body.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended cannot be killed any more, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the server at an address, over a connection of its own.
pub(super) fn ask(address: &str, method: &str, path: &str, body: &str) -> Answered {
    let mut connection = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    connection.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answered { status, body: serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")) }
}
