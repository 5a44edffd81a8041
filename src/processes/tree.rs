//! A process with everything that it started, found by descent, group and mark, and ended together.
//!
//! The mark is an environment variable with a value that no other tree has. A process that left the group, lost its
//! parent *and* erased its environment is not found.

use std::time::Duration;

use rustix::process::Signal;

use super::proc::{self, ProcessId, Stat};

/// The environment variable that marks a tree's processes; its value is fresh for each tree.
pub(crate) const MARK: &str = "LEASE_EXECUTION_ID";
/// How often a tree is looked for and killed until nothing is left; with the pause between, five seconds.
const KILL_ROUNDS_MAX: u32 = 1_000;
const KILL_ROUND_PAUSE: Duration = Duration::from_millis(5);

/// The processes of one tree.
pub(crate) struct MarkedTree {
    root: Option<ProcessId>,
    mark: Vec<u8>,
}

impl MarkedTree {
    /// The tree whose processes bear this value of [`MARK`]; it has no root yet.
    pub(crate) fn new(mark: &str) -> Self {
        Self { root: None, mark: format!("{MARK}={mark}").into_bytes() }
    }

    /// The first process was spawned, as the leader of its own group.
    pub(crate) fn started(&mut self, root: ProcessId) {
        self.root = Some(root);
    }

    /// Sends a signal to every process of the tree.
    pub(crate) fn signal(&self, signal: Signal) {
        for member in self.members() {
            proc::signal(member, signal);
        }
    }

    /// Kills whatever is left and waits for it; `false` where something would not go.
    pub(crate) async fn end(&self) -> bool {
        for _ in 0..KILL_ROUNDS_MAX {
            let members = self.members();
            if members.is_empty() {
                return true;
            }
            for member in members {
                proc::signal(member, Signal::KILL);
            }
            tokio::time::sleep(KILL_ROUND_PAUSE).await;
        }
        false
    }

    /// Whether any process of it is there.
    pub(crate) fn is_there(&self) -> bool {
        !self.members().is_empty()
    }

    fn members(&self) -> Vec<ProcessId> {
        let Some(root) = self.root else { return Vec::new() };
        // Nothing that was there before the command can be part of it.
        let processes: Vec<Stat> = proc::all().into_iter().filter(|stat| stat.id.started >= root.started).collect();
        let root_runs = processes.iter().any(|stat| stat.id == root);
        let root_reused = !root_runs && processes.iter().any(|stat| stat.id.pid == root.pid);
        let mut members: Vec<Stat> = processes.clone();
        let descended = if root_runs { proc::descendants(&processes, root.pid) } else { Vec::new() };
        members.retain(|stat| {
            let descends = descended.iter().any(|other| other.id == stat.id);
            let in_group = stat.group == root.pid && !root_reused;
            !stat.zombie && (descends || in_group || self.bears_mark(stat.id.pid))
        });
        members.into_iter().map(|stat| stat.id).collect()
    }

    fn bears_mark(&self, pid: i32) -> bool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == self.mark)
    }
}
