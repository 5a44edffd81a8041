//! The official clients for Python and Node, unmodified, on a real server: what they read is what `lease history` says.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{Home, text};
use crate::tidy::root;

/// How long a client may take to say its next line: above the start of an interpreter on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A client that reads and then follows.
struct Reading {
    child: Child,
    lines: Receiver<Value>,
}

impl Reading {
    fn start(mut program: Command, url: &str, stream: &str) -> Self {
        let mut child = program.args([url, stream]).stdout(Stdio::piped()).spawn().expect("the client starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// What it says of this, next.
    #[track_caller]
    fn next(&self, key: &str) -> Value {
        let mut line = self.lines.recv_timeout(PATIENCE).expect("the client says something in time");
        assert!(line.get(key).is_some(), "{key} is next, not {line}");
        line[key].take()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // It follows without end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An event as a client shows it, from what the ledger prints of it.
fn shown(event: &Value, link: Option<u64>) -> Value {
    let mut metadata = event["metadata"].clone();
    metadata["leaseLedger"] = json!({
        "companyId": event["companyId"],
        "schemaVersion": event["schemaVersion"],
        "recordedAt": event["recordedAt"],
    });
    let mut shown = json!({ "metadata": metadata, "link": link });
    for key in ["eventId", "streamId", "streamRevision", "position", "type", "data"] {
        shown[key] = event[key].clone();
    }
    shown
}

fn all_shown(events: &[Value]) -> Value {
    events.iter().map(|event| shown(event, None)).collect()
}

/// The events of leases in the log.
fn leases(home: &Home) -> Vec<Value> {
    let mut log = home.json(&["events"]);
    log.retain(|event| text(event, "streamId").starts_with("lease-"));
    log
}

fn linked(leases: &[Value], from: usize) -> Vec<Value> {
    (from as u64..).zip(&leases[from..]).map(|(number, event)| shown(event, Some(number))).collect()
}

fn reads_what_history_says(client: Command, denied: &str) {
    let home = Home::new();
    let server = home.start(&["--json", "serve", "--listen", "127.0.0.1:0", "--esdb-listen", "127.0.0.1:0"]);
    let announced: Value = serde_json::from_str(&server.first_line).expect("an announcement");
    assert_eq!(home.run(&["run", "--", "true"]).code, 0);
    let lease = text(&home.only_lease(), "id").to_owned();
    let history = home.json(&["lease", "history", &lease]);
    let reading = Reading::start(client, text(&announced, "esdbUrl"), &format!("lease-{lease}"));

    assert_eq!(reading.next("stream"), all_shown(&history));
    let newest_first: Vec<Value> = history.iter().rev().cloned().collect();
    assert_eq!(reading.next("backwards"), all_shown(&newest_first));
    let before = leases(&home);
    assert_eq!(reading.next("all"), all_shown(&before));
    assert_eq!(reading.next("everything"), all_shown(&home.json(&["events"])));
    assert_eq!(reading.next("category"), Value::Array(linked(&before, 0)));
    assert_eq!(reading.next("refused"), denied);

    reading.next("following");
    assert_eq!(home.run(&["run", "--", "true"]).code, 0);
    let after = leases(&home);
    assert!(after.len() > before.len());
    for event in linked(&after, before.len()) {
        assert_eq!(reading.next("live"), event);
    }
}

/// A program with a script beside the clients that are installed for it.
fn script(program: &str, name: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(root().join("tests/esdb-clients").join(name));
    command
}

#[test]
fn the_python_client_reads_what_history_says_in_processes() {
    let python = root().join("target/esdb-clients/bin/python");
    let python = python.to_str().expect("a path of characters");
    reads_what_history_says(script(python, "read.py"), "AccessDeniedError");
}

#[test]
fn the_node_client_reads_what_history_says_in_processes() {
    reads_what_history_says(script("node", "read.mjs"), "AccessDeniedError");
}
