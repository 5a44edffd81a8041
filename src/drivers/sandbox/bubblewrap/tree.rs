//! The processes of one sandboxed command: a PID namespace, watched for its limits and killed as one.
//!
//! **Invariant:** all processes of the command descend from the namespace's first, whatever they do; when that one is
//! killed, the kernel kills them all and lets none start.

use std::io::PipeReader;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;

use super::config::Config;
use super::store::Running;
use crate::drivers::Execution;
use crate::drivers::process::Tree;
use crate::processes::proc::{self, Stat, Usage, signal_name};

/// How often memory and processes are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// Longest wait for `bwrap` to say which process is the first, and, once all are dead, how the command ended.
const STATUS_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the namespace is dead; with the pause between, ten seconds.
const DEAD_LOOKS_MAX: u32 = 5_000;
const DEAD_PAUSE: Duration = Duration::from_millis(2);
/// What a program's exit code is above where a signal ended it, as `bwrap` and shells pass it on.
const SIGNAL_BASE: i32 = 128;

/// The tree of one command.
pub(super) struct NamespaceTree {
    status: Option<Lines<BufReader<pipe::Receiver>>>,
    config: Config,
    stages: usize,
    running: Running,
    first: Option<Stat>,
    /// Whether every stage reported an exit code: else the command never ran, or was killed with its sandbox.
    reported: Arc<AtomicBool>,
}

impl NamespaceTree {
    /// A tree that learns of its processes through `status`; `reported` is set when the command's own exit code came.
    pub(super) fn new(
        status: PipeReader,
        config: Config,
        stages: usize,
        running: Running,
        reported: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let status = BufReader::new(pipe::Receiver::from_owned_fd(status.into())?).lines();
        Ok(Self { status: Some(status), config, stages, running, first: None, reported })
    }

    /// A number of the next status document that has it.
    async fn next_number(&mut self, key: &str) -> Option<i64> {
        let lines = self.status.as_mut()?;
        let number = async {
            while let Ok(Some(line)) = lines.next_line().await {
                let document: Option<Value> = serde_json::from_str(&line).ok();
                if let Some(number) = document.as_ref().and_then(|document| document.get(key)?.as_i64()) {
                    return Some(number);
                }
            }
            None
        };
        tokio::time::timeout(STATUS_MAX, number).await.ok().flatten()
    }
}

#[async_trait]
impl Tree for NamespaceTree {
    async fn started(&mut self, _: Stat) {
        let first = self.next_number("child-pid").await;
        self.first = first.and_then(|pid| Stat::of(pid.try_into().ok()?));
        if let Some(first) = self.first
            && let Err(error) = self.running.note(first.id)
        {
            tracing::warn!(%error, "a sandboxed command runs without a note; another process could not stop it");
        }
    }

    async fn over_limit(&mut self) -> &'static str {
        let Some(first) = self.first else { return std::future::pending().await };
        let (config, stages) = (self.config, self.stages);
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let measured = tokio::task::spawn_blocking(move || measure(first, stages)).await;
            let usage = measured.unwrap_or_default();
            if usage.threads > config.processes_max {
                return "processes";
            }
            if usage.memory_bytes > config.memory_bytes_max {
                return "memory";
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        for process in members(self.first, self.stages) {
            proc::signal(process.id, signal);
        }
    }

    async fn end(&mut self) -> bool {
        if let Some(first) = self.first {
            proc::signal(first.id, Signal::KILL);
            let mut looks = 0;
            // The first is a zombie only when all others are gone: the kernel waits for them.
            while proc::runs(first.id) {
                looks += 1;
                if looks > DEAD_LOOKS_MAX {
                    return false;
                }
                tokio::time::sleep(DEAD_PAUSE).await;
            }
        }
        // Each `bwrap` reports the code only if the sandbox was set up; the inner one is the one that counts.
        for _ in 0..self.stages {
            if self.next_number("exit-code").await.is_none() {
                return true;
            }
        }
        self.reported.store(true, Ordering::Release);
        true
    }

    fn read_status(&self, status: ExitStatus) -> Execution {
        let signal = status.signal().or_else(|| {
            // A program that exits with such a code by itself cannot be told apart; shells have it the same way.
            let code = status.code()?;
            (SIGNAL_BASE + 1..=SIGNAL_BASE + 64).contains(&code).then_some(code - SIGNAL_BASE)
        });
        let Some(signal) = signal.map(signal_name) else {
            return Execution { exit_code: status.code(), ..Execution::default() };
        };
        let limit = match signal.as_str() {
            "SIGXFSZ" => Some("file-bytes".to_owned()),
            "SIGXCPU" => Some("cpu".to_owned()),
            _ => None,
        };
        Execution { signal: Some(signal), limit, ..Execution::default() }
    }
}

/// The command's own processes, without those of `bwrap`, which come first.
fn members(first: Option<Stat>, stages: usize) -> Vec<Stat> {
    // The first of each stage's PID namespace, and between two stages the inner `bwrap` that waits for its own.
    let helpers = 2 * stages - 1;
    let Some(first) = first.filter(|first| proc::runs(first.id)) else { return Vec::new() };
    proc::descendants(&proc::recent(WATCH_INTERVAL / 2), first.id.pid).into_iter().skip(helpers).collect()
}

fn measure(first: Stat, stages: usize) -> Usage {
    members(Some(first), stages).iter().map(|process| Usage::of(process.id.pid)).fold(Usage::default(), |sum, one| {
        Usage { threads: sum.threads + one.threads, memory_bytes: sum.memory_bytes + one.memory_bytes }
    })
}
