//! What `/proc` says of processes: who descends from whom, how much memory they take; and signals that cannot hit a
//! stranger.
//!
//! **Invariant:** a pid alone names nobody, since pids are used again. A process is its pid and its start time, and a
//! signal goes through a pidfd whose start time was read again after it was opened.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process, for all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId {
    /// Its number now.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) started: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    /// Which process.
    pub(crate) id: ProcessId,
    /// Its parent.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Whether it is over, and only waits to be reaped.
    pub(crate) zombie: bool,
}

impl Stat {
    /// The process with this pid now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may itself hold any of them: what counts begins after the last.
    let (pid, rest) = text.split_once(" (")?;
    let fields: Vec<&str> = rest.get(rest.rfind(')')? + 2..)?.split_ascii_whitespace().collect();
    Some(Stat {
        id: ProcessId { pid: pid.parse().ok()?, started: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// Every process that can be seen now. Not atomic: processes come and go while it is read.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| Stat::of(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Every process, as seen at most `age_max` ago: many watchers share one look, whose cost grows with the machine.
pub(crate) fn recent(age_max: Duration) -> Arc<[Stat]> {
    static LAST: Mutex<Option<(Instant, Arc<[Stat]>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((at, processes)) if at.elapsed() <= age_max => Arc::clone(processes),
        _ => {
            let processes: Arc<[Stat]> = all().into();
            *last = Some((Instant::now(), Arc::clone(&processes)));
            processes
        }
    }
}

/// Those of `processes` that descend from `root`, and `root` itself.
pub(crate) fn descendants(processes: &[Stat], root: i32) -> Vec<Stat> {
    let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<Stat> = processes.iter().copied().filter(|process| process.id.pid == root).collect();
    let mut seen: HashSet<i32> = HashSet::from([root]);
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.id.pid) {
        next += 1;
        // A snapshot that is not atomic may hold a circle.
        found.extend(children.get(&parent).into_iter().flatten().copied().filter(|child| seen.insert(child.id.pid)));
    }
    found
}

/// What a process takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Its threads.
    pub(crate) threads: u64,
    /// Its own and shared memory that is resident, in bytes, without files. Memory shared by several counts for each.
    pub(crate) memory_bytes: u64,
}

impl Usage {
    /// What the process with this pid takes now; nothing where it is over.
    pub(crate) fn of(pid: i32) -> Self {
        fs::read_to_string(format!("/proc/{pid}/status")).map(|text| parse_status(&text)).unwrap_or_default()
    }
}

fn parse_status(text: &str) -> Usage {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let kibibytes = field("RssAnon:").unwrap_or(0) + field("RssShmem:").unwrap_or(0);
    Usage { threads: field("Threads:").unwrap_or(0), memory_bytes: kibibytes * 1_024 }
}

/// Whether the process is the first of a PID namespace below ours: the only kind that a sandbox's record may name.
pub(crate) fn is_namespace_init(pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("NSpid:")) else { return false };
    let pids: Vec<&str> = line.split_ascii_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&"1")
}

/// Sends a signal to exactly this process; `false` where it is over.
pub(crate) fn signal(process: ProcessId, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(process.pid) else { return false };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let same = Stat::of(process.pid).is_some_and(|now| now.id == process && !now.zombie);
    same && pidfd_send_signal(&handle, signal).is_ok()
}

/// Whether the process still runs.
pub(crate) fn runs(process: ProcessId) -> bool {
    Stat::of(process.pid).is_some_and(|now| now.id == process && !now.zombie)
}

/// The name of a signal, such as `SIGKILL`.
pub(crate) fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index));
    name.map_or_else(|| format!("SIG{number}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_is_full_of_parentheses_is_read() {
        let text = "42 (a) R (b)) S 7 40 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 991 1000 5 1844674407";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            (stat.id, stat.parent, stat.group, stat.zombie),
            (ProcessId { pid: 42, started: 991 }, 7, 40, false)
        );
    }

    #[test]
    fn descendants_are_found_across_generations_and_circles_end() {
        let stat = |pid, parent| Stat { id: ProcessId { pid, started: 1 }, parent, group: 0, zombie: false };
        let pids = |root, all: &[Stat]| descendants(all, root).iter().map(|stat| stat.id.pid).collect::<Vec<_>>();
        assert_eq!(pids(2, &[stat(4, 3), stat(3, 2), stat(2, 1), stat(5, 1)]), [2, 3, 4]);
        assert_eq!(pids(2, &[stat(2, 3), stat(3, 2)]), [2, 3]);
    }

    #[test]
    fn a_signal_is_not_sent_to_whoever_has_the_pid_now() {
        let own = Stat::of(std::process::id().try_into().unwrap()).unwrap().id;
        assert!(!signal(ProcessId { started: own.started + 1, ..own }, Signal::KILL));
        assert!(runs(own) && !runs(ProcessId { started: own.started + 1, ..own }));
    }

    #[test]
    fn memory_and_threads_are_summed_from_status() {
        let usage = parse_status("Name:\tx\nRssAnon:\t    100 kB\nRssFile:\t 9 kB\nRssShmem:\t  4 kB\nThreads:\t3\n");
        assert_eq!(usage, Usage { threads: 3, memory_bytes: 104 * 1_024 });
    }

    #[test]
    fn signals_have_their_usual_names() {
        assert_eq!((signal_name(9).as_str(), signal_name(15).as_str()), ("SIGKILL", "SIGTERM"));
        assert_eq!((signal_name(31).as_str(), signal_name(64).as_str()), ("SIGSYS", "SIG64"));
    }
}
