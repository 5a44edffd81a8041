//! The local driver's own tests: the contract, and that nothing outlives a command.

use std::sync::Arc;
use std::time::Duration;

use lease_events::seam::SystemIds;
use serde_json::json;

use super::LocalDriver;
use crate::drivers::contract::{Subject, command, done, keeps_the_contract, shell};
use crate::drivers::{Command, Outcome, Workspace};

fn subject() -> (Subject, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().to_str().unwrap().to_owned();
    let subject = Subject {
        driver: Arc::new(LocalDriver::new(Arc::new(SystemIds))),
        config: json!({ "outputBytesMax": 1_024 * 1_024 }),
        shell: true,
        workspace: Workspace { local_path: Some(path), ..Workspace::default() },
        own_env: &["PATH", "HOME", crate::processes::tree::MARK],
    };
    (subject, folder)
}

/// Whether a process with this mark on its command line is there.
fn runs(mark: &str) -> bool {
    let command_lines = std::fs::read_dir("/proc").unwrap().flatten();
    command_lines
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).replace('\0', " ").trim_end() == mark)
}

#[tokio::test]
async fn it_keeps_the_contract() {
    keeps_the_contract(&subject().0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_several_threads() {
    keeps_the_contract(&subject().0).await;
}

#[tokio::test]
async fn nothing_outlives_a_command_whatever_it_does() {
    let (subject, _folder) = subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let cases = [
        ("81001", "sleep 81001 & exec sleep 81001", true),
        ("81002", "setsid sleep 81002 & exec sleep 81002", true),
        ("81003", "(setsid sh -c 'setsid sleep 81003 &' &); sleep 0.1; exec sleep 81003", true),
        ("81004", "trap '' TERM; setsid sleep 81004 & while :; do sleep 81004; done", true),
        ("81005", "setsid sleep 81005 > /dev/null 2>&1 & exit 0", false),
    ];
    for (number, script, endless) in cases {
        let brief = Command { timeout: Some(Duration::from_millis(300)), ..shell(script) };
        let ran = done(subject.run(&scope, &held, brief).await);
        assert_eq!(ran.execution.timed_out, endless, "{script}: {ran:?}");
        assert!(!runs(&format!("sleep {number}")), "left behind by: {script}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_the_command_with_it() {
    let (subject, _folder) = subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let (sink, mut output) = tokio::sync::mpsc::channel(1);
    let command = shell("setsid sleep 81006 & echo started; exec sleep 81006");
    {
        let running = subject.driver.execute(&scope, &held, command, sink);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => panic!("it should run on: {ended:?}"),
            chunk = output.recv() => assert_eq!(chunk.unwrap().bytes, b"started\n"),
        }
    }
    // The sink closes when the last of the command's pipes has.
    assert_eq!(output.recv().await, None);
    assert!(!runs("sleep 81006"));
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    let (subject, _folder) = subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let lost = Command { cwd: Some("/no/such/place".to_owned()), ..command(&["pwd"]) };
    let Outcome::NotDone(fault) = subject.run(&scope, &held, lost).await else { panic!("there is no such place") };
    assert_eq!(fault.message, "There is no directory \"/no/such/place\".");
}

#[tokio::test]
async fn the_workspace_is_local_then_remote_then_the_root() {
    let (subject, _folder) = subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let remote = Some("/there".to_owned());
    let workspace = Workspace { remote_path: remote, ..Workspace::default() };
    assert_eq!(done(subject.driver.realize(&scope, &held, &workspace).await).cwd, "/there");
    assert_eq!(done(subject.driver.realize(&scope, &held, &Workspace::default()).await).cwd, "/");
}
