//! A private `ssh-agent`: how a key gets to `ssh` without ever standing on a disk or a command line.
//!
//! **Invariants:** the key goes through a pipe into the agent's memory, and nowhere else; the agent serves one login,
//! and is ended after it. If this process is killed meanwhile, the agent ends by itself: it watches a child that waits
//! for our end of a pipe, and forgets the key after [`KEY_LIFETIME_SECONDS`] in any case.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lease_events::failure::Fault;
use rustix::process::Signal;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use super::connection::program;
use crate::drivers::process;
use crate::processes::proc::{self, ProcessId, Stat};

/// How long an agent may hold a key, in seconds: well above the longest login.
const KEY_LIFETIME_SECONDS: &str = "900";
/// Longest wait for the agent to start, and for it to take the key: both are local.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What the agent runs: it says which process the agent is, then waits until we are gone.
const WAIT: &str = "echo \"$SSH_AGENT_PID\"; exec cat";

/// An agent that holds one key. Dropping it ends it.
pub(super) struct Agent {
    /// The child that the agent watches; its input ends with this.
    _waiting: Child,
    agent: Option<ProcessId>,
}

impl Agent {
    /// Where the agent of a folder listens.
    pub(super) fn socket(folder: &Path) -> PathBuf {
        folder.join("agent")
    }

    /// Starts an agent in `folder`, and gives it the key.
    pub(super) async fn start(folder: &Path, key: &SecretString) -> Result<Self, Fault> {
        let started = tokio::time::timeout(ANSWER_MAX, Self::start_empty(folder)).await;
        let agent = started.unwrap_or_else(|_| Err(failed("it did not start in time")))?;
        let added = tokio::time::timeout(ANSWER_MAX, add(folder, key)).await;
        added.unwrap_or_else(|_| Err(failed("it did not take the key in time")))?;
        Ok(agent)
    }

    async fn start_empty(folder: &Path) -> Result<Self, Fault> {
        let mut command = program("ssh-agent");
        command.arg("-a").arg(Self::socket(folder)).args(["-t", KEY_LIFETIME_SECONDS, "sh", "-c", WAIT]);
        let mut waiting = process::spawn(command).await.map_err(|error| failed(&error.to_string()))?;
        let stdout = waiting.stdout.take().ok_or_else(|| failed("it has no output"))?;
        let mut line = String::new();
        // An output that ends early gives no number, which is the error.
        let _ = BufReader::new(stdout).read_line(&mut line).await;
        let pid: i32 = line.trim().parse().map_err(|_| failed("it ended at once"))?;
        Ok(Self { _waiting: waiting, agent: Stat::of(pid).map(|stat| stat.id) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(agent) = self.agent {
            proc::signal(agent, Signal::TERM);
        }
    }
}

async fn add(folder: &Path, key: &SecretString) -> Result<(), Fault> {
    let mut command = program("ssh-add");
    command.args(["-q", "-t", KEY_LIFETIME_SECONDS, "-"]).env("SSH_AUTH_SOCK", Agent::socket(folder));
    // A key with a passphrase must fail, not ask whoever sits at the machine.
    command.env("SSH_ASKPASS_REQUIRE", "never");
    let mut adding = process::spawn(command).await.map_err(|error| failed(&error.to_string()))?;
    if let Some(mut stdin) = adding.stdin.take() {
        // A reader that goes away has refused the key, and its exit code says so.
        let _ = stdin.write_all(well_ended(key).expose_secret()).await;
    }
    match adding.wait().await {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Fault::new(
            "key-invalid",
            "The secret that privateKeySecretRef names holds no private key that can be used; store one in OpenSSH or \
             PEM form, without a passphrase.",
        )),
    }
}

/// The key as ssh reads it: with line feeds only, and one at its end, which both get lost when keys are pasted.
fn well_ended(key: &SecretString) -> SecretSlice<u8> {
    let text = key.expose_secret();
    // Sized beforehand: a vector that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend(text.trim_end().bytes().filter(|byte| *byte != b'\r'));
    bytes.push(b'\n');
    // A boxed slice that is shrunk would be copied, so it is filled up; ssh skips empty lines after a key.
    bytes.resize(bytes.capacity(), b'\n');
    SecretSlice::from(bytes)
}

fn failed(why: &str) -> Fault {
    Fault::new("ssh-agent-failed", format!("The program \"ssh-agent\" cannot be used: {why}."))
}
