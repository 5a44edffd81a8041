//! `store …`, and the main job on a database: the same commands, another `--store`.

use std::io::Write;
use std::process::Stdio;

use lease_stores::contract::postgres::PostgresPlace;

use super::{Ended, Home, text};
use serde_json::Value;

/// 32 bytes in base64.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// The path of the store that a home has by default.
fn file(home: &Home) -> String {
    format!("sqlite:{}", home.folder.path().join("ledger.db").display())
}

/// Runs it, and asserts that it is done. The server of the tests does not sync, of which a ledger warns.
#[track_caller]
fn done(home: &Home, arguments: &[&str]) -> String {
    let ended = home.run(arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
    ended.stdout
}

/// As [`done`], with `--json`.
#[track_caller]
fn json(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let printed = done(home, &[&["--json"], arguments].concat());
    printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_main_job_runs_on_postgres() {
    let (home, place) = (Home::new(), PostgresPlace::new());
    let url = place.url();
    let ended = home.run(&["--store", &url, "run", "--driver", "local", "--", "echo", "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello\n"), "{}", ended.stderr);
    let leases = json(&home, &["--store", &url, "lease", "list"]);
    assert_eq!((leases.len(), text(&leases[0], "status")), (1, "released"));
    let verified = done(&home, &["--store", &url, "projection", "verify", "current_leases"]);
    assert!(verified.contains("current_leases is what its events make: 1 rows compared"), "{verified}");
    assert!(!home.folder.path().join("ledger.db").exists(), "nothing is kept in a file");
}

#[test]
fn servers_on_one_database_are_no_conflict_and_the_status_names_them() {
    let (home, place) = (Home::new(), PostgresPlace::new());
    let url = place.url();
    let serve = ["--store", url.as_str(), "serve", "--listen", "127.0.0.1:0"];
    let servers = [home.start(&serve), home.start(&serve)];
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        let status = json(&home, &["--store", &url, "store", "status"]).remove(0);
        let duties: Vec<usize> = status["processes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|process| process["duties"].as_array().expect("a list").len())
            .collect();
        if duties.len() == 2 && duties.iter().all(|duties| *duties >= 3) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{status}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    drop(servers);
}

#[test]
fn a_ledger_is_copied_to_a_database_and_back() {
    let (home, place) = (Home::new(), PostgresPlace::new());
    for word in ["one", "two"] {
        done(&home, &["run", "--driver", "local", "--", "echo", word]);
    }
    let mut set = home.program(&["secret", "set", "key"]);
    let mut set = set.env("LEASE_LEDGER_SECRET_KEY", KEY).stdin(Stdio::piped()).spawn().expect("the program starts");
    set.stdin.take().expect("a pipe").write_all(b"a value that is kept").expect("it reads its input");
    assert!(set.wait().expect("it ends").success());
    let (url, file) = (place.url(), file(&home));
    let copied = done(&home, &["store", "copy", "--from", &file, "--to", &url]);
    assert!(copied.starts_with("Copied ") && copied.contains("read again, they are equal"), "{copied}");
    let again = json(&home, &["store", "copy", "--from", &file, "--to", &url]).remove(0);
    assert_eq!((&again["foundThere"], &again["sourceMovedOn"]), (&again["events"], &false.into()));
    let back = format!("sqlite:{}", home.folder.path().join("back.db").display());
    done(&home, &["store", "copy", "--from", &url, "--to", &back]);
    let events = done(&home, &["events"]);
    for store in [&url, &back] {
        assert_eq!(done(&home, &["--store", store, "events"]), events);
        done(&home, &["--store", store, "projection", "verify", "current_leases"]);
        let status = json(&home, &["--store", store, "store", "status"]).remove(0);
        assert_eq!((&status["ledgerId"], &status["position"]), (&again["ledgerId"], &again["events"]));
    }
}

#[test]
fn what_cannot_be_copied_is_refused_in_a_sentence() {
    let (home, other, place) = (Home::new(), Home::new(), PostgresPlace::new());
    for home in [&home, &other] {
        done(home, &["run", "--driver", "local", "--", "true"]);
    }
    let (from, to, url) = (file(&home), file(&other), place.url());
    let refused = |arguments: &[&str], code: i32, sentence: &str| {
        let Ended { code: found, stdout, stderr } = home.run(arguments);
        assert_eq!((found, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(sentence), "{arguments:?}: {stderr}");
    };
    refused(&["store", "copy", "--from", &from, "--to", &to], 3, "the target is ledger");
    refused(
        &["store", "copy", "--from", "sqlite:/nowhere/x.db", "--to", &to],
        5,
        "sqlite:/nowhere/x.db holds no ledger",
    );
    refused(&["store", "copy", "--from", &url, "--to", &to], 5, "holds no ledger");
    refused(&["store", "copy", "--from", &from, "--to", "memory:"], 2, "memory: keeps nothing");
    refused(&["store", "copy", "--from", &from, "--to", "postgre://ada:lovelace@x/y"], 2, "--to: that names no store");
    refused(&["--store", &url, "store", "status"], 5, "holds no ledger");
    let nowhere = "postgres://ada:lovelace@127.0.0.1:1/ledger";
    let Ended { code, stderr, .. } = home.run(&["--store", nowhere, "lease", "list"]);
    assert!(code == 6 && stderr.contains("ledger at 127.0.0.1:1") && !stderr.contains("lovelace"), "{stderr}");
}
