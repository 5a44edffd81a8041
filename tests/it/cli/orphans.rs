//! What a ledger's process that was killed leaves of its workers.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{Home, text};
use crate::tidy::root;

/// How long something may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

/// How many processes have this word in their command line.
fn processes_with(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}

#[test]
fn a_worker_process_that_outlives_a_killed_server_is_ended_by_the_next_start() {
    let home = Home::new();
    let marks = ["97", "98"].map(|first| format!("{first}{:08}", std::process::id()));
    let driver = |id: &str| json!({ "driverKey": id, "displayName": "Bad", "kind": "environment_driver" });
    for (id, mark) in ["one", "other"].into_iter().zip(&marks) {
        let manifest = json!({
            "id": id, "apiVersion": 1, "version": "1.0.0", "displayName": "Bad", "capabilities":
            ["environment.drivers.register"], "entrypoints": { "worker": "x" }, "environmentDrivers": [driver("bad")],
        });
        let path = home.folder.path().join(format!("{id}.json"));
        std::fs::write(&path, manifest.to_string()).expect("a file");
        let worker = root().join("tests/plugins/bad-worker.mjs");
        let (path, worker) = (path.to_str().expect("UTF-8"), worker.to_str().expect("UTF-8"));
        // It ignores the end of its input, a shutdown, and SIGTERM.
        let arguments =
            ["plugin", "install", path, "--command", "node", "--arg", worker, "--arg", "deaf", "--arg", mark];
        home.done(&arguments);
        let (key, driver) = (format!("pluginKey={id}"), "driverKey=bad");
        let create = ["environment", "create", id, "--driver", "plugin", "--config", &key, "--config", driver];
        home.done(&[&create[..], &["--config", "driverConfig={}"]].concat());
    }
    let (mut server, _) = home.serve(&[]);
    let lease = home.json(&["lease", "acquire", "one"])[0]["lease"].clone();
    assert_eq!(processes_with(&marks[0]), 1);
    server.signal(Signal::KILL);
    assert_eq!(server.code(), None);
    assert_eq!(processes_with(&marks[0]), 1, "it ignores that its host is gone");

    let (second, _) = home.serve(&[]);
    let until = Instant::now() + SEEN_WITHIN;
    while processes_with(&marks[0]) > 0 {
        assert!(Instant::now() < until, "it is left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
    // What the killed one gave is on record, and its plugin still ends it.
    home.json(&["lease", "acquire", "other"]);
    let released = home.json(&["lease", "release", text(&lease, "id"), "--reason", "a test"]);
    assert_eq!(text(&released[0]["lease"], "cleanupStatus"), "success");
    assert_eq!((processes_with(&marks[0]), processes_with(&marks[1])), (1, 1));
    // Dropped, it is killed. A command that is over in a moment ends both workers all the same.
    drop(second);
    let ended = home.run(&["plugin", "list"]);
    assert!(ended.code == 0 && ended.stderr.contains("processes of workers were ended"), "{}", ended.stderr);
    assert_eq!((processes_with(&marks[0]), processes_with(&marks[1])), (0, 0));
}
