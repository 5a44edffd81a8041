//! The disk under the ledger fails: the real program on a full, limited, read-only, damaged or missing store, and a
//! provider on another disk whose journal says whether anything was done there.
//!
//! A small file system of its own comes from bubblewrap, so that no privilege is needed.

mod damaged;
mod full;
mod lost;
mod server;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::server::{Answered, Server, ask};
use crate::support::company;

/// Bytes of the small file system that a store is put on: some hundred events, and the store's shared memory.
const SMALL: u64 = 2 * 1024 * 1024;

/// A provider's folder, which nothing is wrong with, and a folder for the store.
struct Disk {
    provider: TempDir,
    store: TempDir,
}

impl Disk {
    fn new() -> Self {
        Self { provider: tempfile::tempdir().expect("a folder"), store: tempfile::tempdir().expect("a folder") }
    }

    fn store_path(&self) -> PathBuf {
        self.store.path().join("ledger.db")
    }

    /// The program on this store, as an argument list behind what `wrapper` puts before it.
    fn program(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_lease-ledger");
        let line: Vec<&str> = wrapper.iter().copied().chain([binary]).chain(arguments.iter().copied()).collect();
        let mut program = Command::new(line[0]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEASE_LEDGER_")) {
            program.env_remove(name);
        }
        program.args(&line[1..]).env_remove("RUST_LOG").env("LEASE_LEDGER_DATA_DIR", self.provider.path());
        program.env("LEASE_LEDGER_STORE", format!("sqlite:{}", self.store_path().display()));
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    }

    /// Serves from a small file system of its own, behind a shell that stays in it.
    fn serve_from_small(&self) -> Server {
        let (size, folder) = (SMALL.to_string(), self.store.path().to_string_lossy().into_owned());
        let bwrap = ["bwrap", "--unshare-pid", "--die-with-parent", "--dev-bind", "/", "/"];
        let small = ["--size", &size, "--tmpfs", &folder, "--chdir", &folder];
        let shell = ["sh", "-c", r#""$@" & while read -r command; do eval "$command"; done"#, "sh"];
        self.serve(&[&bwrap[..], &small, &shell].concat())
    }

    fn serve(&self, wrapper: &[&str]) -> Server {
        Server::of(self.program(wrapper, &["serve", "--listen", "127.0.0.1:0"]))
    }

    fn run(&self, wrapper: &[&str], arguments: &[&str]) -> Output {
        self.program(wrapper, arguments).output().expect("the program starts")
    }

    /// How many sandboxes the provider has ever made.
    fn made(&self) -> usize {
        let journal = fs::read_to_string(self.provider.path().join("fake/journal.ndjson")).unwrap_or_default();
        journal.lines().filter(|line| line.contains("\"what\":\"create\"")).count()
    }
}

/// Makes an environment of the fake provider; answers its id.
fn environment(server: &Server) -> String {
    environment_with(server, &json!({ "provider": "fake" }))
}

fn environment_with(server: &Server, config: &Value) -> String {
    let body = json!({ "companyId": company(), "name": "e", "driver": "sandbox", "config": config });
    let made = server.post("/v1/environments", &body);
    assert_eq!(made.status, 201, "{}", made.body);
    made.body["id"].as_str().expect("an id").to_owned()
}

fn acquire(server: &Server, environment: &str) -> Answered {
    acquire_at(&server.address, environment)
}

fn acquire_at(address: &str, environment: &str) -> Answered {
    ask(address, "POST", "/v1/leases", &json!({ "companyId": company(), "environmentId": environment }).to_string())
}

/// That a command was refused as something that may be tried later, in a sentence.
#[track_caller]
fn assert_unavailable(refused: &Answered) {
    let told = (refused.status, refused.body["class"].as_str(), refused.body["code"].as_str());
    assert_eq!(told, (503, Some("unavailable"), Some("store-unavailable")), "{}", refused.body);
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("The event store ") && detail.ends_with('.'), "{detail}");
}

/// The ids of all leases.
fn leases(server: &Server) -> Vec<String> {
    let listed = server.get("/v1/leases");
    assert_eq!(listed.status, 200, "{}", listed.body);
    let id = |lease: &Value| lease["id"].as_str().expect("an id").to_owned();
    listed.body["leases"].as_array().expect("a list").iter().map(id).collect()
}
