//! Processes that outlived the one that started them: found by what they bear in their environment, and ended.
//!
//! **Invariants:** an orphan is a process of this user in this PID namespace that bears an execution's mark, the owner's
//! name, and the pid and start time of a process that is over; or one that descends from such a one. Nothing else is
//! touched: what cannot be read is nobody's orphan.

use std::collections::HashSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use super::proc::{self, ProcessId, Stat};
use super::tree::MARK;

/// The environment variable that names whose a process is.
const OWNER: &str = "LEASE_LEDGER_ID";
/// The environment variable that names the process that started it, as `PID.START_TIME`.
const STARTED_BY: &str = "LEASE_STARTED_BY";

/// How often orphans are looked for until none is left; with the pause between, five seconds.
const KILL_ROUNDS_MAX: u32 = 250;
const KILL_ROUND_PAUSE: Duration = Duration::from_millis(20);

/// The variables by which a process that is started now is found again once this process is over.
pub(crate) fn marks(owner: &str) -> Vec<(&'static str, String)> {
    let own = i32::try_from(std::process::id()).ok().and_then(Stat::of);
    let started_by = own.map(|stat| (STARTED_BY, format!("{}.{}", stat.id.pid, stat.id.started)));
    started_by.into_iter().chain([(OWNER, owner.to_owned())]).collect()
}

/// Ends the orphans of this owner: SIGTERM, and after `grace`, SIGKILL. Answers how many there were.
pub(crate) async fn end(owner: &str, grace: impl Future<Output = ()>) -> usize {
    let mut found = HashSet::new();
    if !look(owner, &mut found) {
        return 0;
    }
    signal(&found, Signal::TERM);
    let ended = async {
        while look(owner, &mut found) {
            tokio::time::sleep(KILL_ROUND_PAUSE).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = grace => {}
    }
    for _ in 0..KILL_ROUNDS_MAX {
        if !look(owner, &mut found) {
            return found.len();
        }
        signal(&found, Signal::KILL);
        tokio::time::sleep(KILL_ROUND_PAUSE).await;
    }
    tracing::error!("processes of a ledger's process that was killed could not be ended");
    found.len()
}

fn signal(processes: &HashSet<ProcessId>, signal: Signal) {
    for process in processes {
        proc::signal(*process, signal);
    }
}

/// Adds the orphans that there are now, with those that descend from them: they may lose their parent in a moment.
/// Whether any of those that were ever found still runs.
fn look(owner: &str, found: &mut HashSet<ProcessId>) -> bool {
    let processes = proc::all();
    let roots: Vec<i32> = processes.iter().filter(|stat| is_orphan(stat, owner)).map(|stat| stat.id.pid).collect();
    for root in roots {
        found.extend(proc::descendants(&processes, root).iter().map(|stat| stat.id));
    }
    processes.iter().any(|stat| !stat.zombie && found.contains(&stat.id))
}

fn is_orphan(stat: &Stat, owner: &str) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", stat.id.pid)).unwrap_or_default();
    let value = |name: &str| {
        let mut variables = environment.split(|byte| *byte == 0).filter_map(|one| std::str::from_utf8(one).ok());
        variables.find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    };
    let bears = !stat.zombie && value(MARK).is_some() && value(OWNER) == Some(owner);
    bears && value(STARTED_BY).and_then(process).is_some_and(|by| !proc::runs(by)) && is_of_here(stat)
}

/// The process that `PID.START_TIME` names.
fn process(text: &str) -> Option<ProcessId> {
    let (pid, started) = text.split_once('.')?;
    Some(ProcessId { pid: pid.parse().ok()?, started: started.parse().ok()? })
}

/// Whether it is this user's, and its pids are numbers of the same namespace as ours.
fn is_of_here(stat: &Stat) -> bool {
    let namespace = |pid: &str| fs::read_link(PathBuf::from("/proc").join(pid).join("ns/pid")).ok();
    let (own, its) = (namespace("self"), namespace(&stat.id.pid.to_string()));
    let owner = fs::metadata(format!("/proc/{}", stat.id.pid)).map(|found| found.uid()).ok();
    own.is_some() && own == its && owner == Some(geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that bears these marks; killed where a test forgets it.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(marks: &[(&str, &str)]) -> Self {
            let marks = marks.iter().copied();
            Self(Command::new("sleep").arg("600").env_remove(MARK).envs(marks).spawn().expect("sleep is there"))
        }

        fn runs(&mut self) -> bool {
            self.0.try_wait().expect("it is a child").is_none()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn only_what_is_provably_an_orphan_is_ended() {
        let owner = format!("test-{}", std::process::id());
        let own = Stat::of(std::process::id().try_into().expect("a pid")).expect("it runs").id;
        // The same pid, and another start time: a process that is over.
        let (over, alive) = (format!("{}.1", own.pid), format!("{}.{}", own.pid, own.started));
        let whole = [(MARK, "x"), (OWNER, owner.as_str()), (STARTED_BY, over.as_str())];
        let other_owner = [(MARK, "x"), (OWNER, "another"), (STARTED_BY, over.as_str())];
        let started_by_us = [(MARK, "x"), (OWNER, owner.as_str()), (STARTED_BY, alive.as_str())];
        let by_nobody = [(MARK, "x"), (OWNER, owner.as_str()), (STARTED_BY, "?")];
        let mut orphan = Sleeper::start(&whole);
        let mut others = [&other_owner[..], &started_by_us, &by_nobody, &whole[1..], &whole[..2]].map(Sleeper::start);
        let forever = std::future::pending();
        assert_eq!(end(&owner, forever).await, 1);
        assert!(!orphan.runs());
        for (at, other) in others.iter_mut().enumerate() {
            assert!(other.runs(), "{at}");
        }
        assert_eq!(end(&owner, std::future::ready(())).await, 0);
        let marks = marks(&owner);
        assert!(marks.contains(&(OWNER, owner)) && marks.contains(&(STARTED_BY, alive)), "{marks:?}");
    }
}
