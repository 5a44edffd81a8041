//! The command line beside a running server.

use rustix::process::Signal;

use super::{Home, text};

fn announcement(home: &Home) -> std::path::PathBuf {
    home.folder.path().join("ledger.db.server.json")
}

#[test]
fn commands_go_to_the_server_that_runs() {
    let home = Home::new();
    let (mut server, url) = home.serve(&[]);
    let ended = home.run(&["-vv", "run", "--", "echo", "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("a server lives on this store") && ended.stderr.contains(&url), "{}", ended.stderr);

    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    assert!(!announcement(&home).exists(), "a server that ends takes its announcement with it");
    // What it wrote is there without it.
    assert_eq!(text(&home.only_lease(), "status"), "released");
}

#[test]
fn a_store_has_one_server() {
    let home = Home::new();
    let (server, url) = home.serve(&[]);
    let first = format!("is served already, by process {} at {url}; one store has one server.", server.child.id());
    let second = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((second.code, second.stderr.lines().count()), (3, 1), "{}", second.stderr);
    assert!(second.stderr.trim_end().ends_with(&first), "{}", second.stderr);

    // From another data folder too, and by another name of the same file.
    let elsewhere = Home::new();
    let link = elsewhere.folder.path().join("link.db");
    std::os::unix::fs::symlink(home.folder.path().join("ledger.db"), &link).expect("a link");
    let store = format!("sqlite:{}", link.display());
    let third = elsewhere.run(&["--store", &store, "serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(third.code, 3, "{}", third.stderr);
    assert!(third.stderr.trim_end().ends_with(&first), "{}", third.stderr);
    // And its commands go to the first.
    elsewhere.done(&["--store", &store, "environment", "create", "e", "--driver", "local"]);
    assert_eq!(text(&home.json(&["environment", "show", "e"])[0], "driver"), "local");
}

#[test]
fn what_a_killed_server_left_behind_counts_for_nothing() {
    let home = Home::new();
    let (mut server, _) = home.serve(&[]);
    server.signal(Signal::KILL);
    assert_eq!(server.code(), None);
    assert!(announcement(&home).exists());
    assert_eq!(home.run(&["run", "--driver", "local", "--", "true"]).code, 0);
    let (_server, _) = home.serve(&[]);
    assert_eq!(text(&home.only_lease(), "status"), "released");
}

#[test]
fn a_server_that_does_not_answer_is_told_in_one_sentence() {
    let home = Home::new();
    let (server, url) = home.serve(&[]);
    // The server lives, but a port stands in its announcement that nobody listens on.
    let told = std::fs::read_to_string(announcement(&home)).expect("an announcement");
    std::fs::write(announcement(&home), told.replace(&url, "http://127.0.0.1:1")).expect("a file");
    let ended = home.run(&["lease", "list"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (6, 1), "{}", ended.stderr);
    let gone = format!("The server at http://127.0.0.1:1 (process {}) does not answer", server.child.id());
    assert!(ended.stderr.contains(&gone), "{}", ended.stderr);
}

#[test]
fn a_memory_store_can_be_tried() {
    let home = Home::new();
    let (_server, _) = home.serve(&["--store", "memory:"]);
    home.done(&["--store", "memory:", "environment", "create", "e", "--driver", "local"]);
    assert!(home.done(&["--store", "memory:", "environment", "list"]).contains("local"));
    assert_eq!(home.done(&["environment", "list"]).lines().count(), 1, "the other store knows nothing of it");
}
