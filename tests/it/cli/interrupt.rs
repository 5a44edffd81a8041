//! Ctrl-C and SIGTERM: what ran is killed, and its lease is released.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::{Home, text};

#[test]
fn an_interrupted_run_holds_nothing() {
    for (signal, code, seconds) in [(Signal::INT, 130, "70001"), (Signal::TERM, 143, "70002")] {
        interrupt(&Home::new(), signal, code, seconds);
    }
}

#[test]
fn an_interrupted_run_beside_a_server_holds_nothing() {
    let home = Home::new();
    let (_server, _) = home.serve(&[]);
    interrupt(&home, Signal::INT, 130, "70003");
}

#[test]
fn a_run_that_is_interrupted_while_it_waits_for_input_acquires_nothing() {
    let home = Home::new();
    let mut child = home.program(&["run", "--", "cat"]).stdin(Stdio::piped()).spawn().expect("it starts");
    // The signal kills it no longer once its handlers are there.
    let status = format!("/proc/{}/status", child.id());
    while !catches_interrupt(Path::new(&status)) {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    // Its input is still open: `wait` would close it.
    let input = child.stdin.take();
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    drop(input);
    assert!(home.json(&["lease", "list"]).is_empty());
}

/// Interrupts a run that sleeps for so many seconds, which nothing else does.
#[track_caller]
fn interrupt(home: &Home, signal: Signal, code: i32, seconds: &str) {
    let script = format!("echo ready; exec sleep {seconds}");
    let mut running = home.start(&["run", "--", "sh", "-c", &script]);
    assert_eq!(running.first_line, "ready");
    running.signal(signal);
    assert_eq!(running.code(), Some(code));
    let lease = home.only_lease();
    assert_eq!((text(&lease, "status"), text(&lease, "endReason")), ("failed", "run-lost"));
    assert_eq!(text(&lease, "cleanupStatus"), "success", "{lease}");
    assert!(!is_anywhere(&format!("sleep\0{seconds}\0")), "the command outlived its lease");
}

/// Whether a process has a handler for SIGINT, by the mask in its `/proc` entry.
fn catches_interrupt(status: &Path) -> bool {
    let status = fs::read_to_string(status).expect("a process");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim();
    u64::from_str_radix(mask, 16).expect("a mask") & (1 << 1) != 0
}

/// Whether a process with this command line runs.
fn is_anywhere(command_line: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("a process table");
    processes
        .flatten()
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|found| found == command_line.as_bytes())
}
