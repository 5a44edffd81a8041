//! `store …`, and the main job on a database: the same commands, another `--store`.

use lease_stores::contract::postgres::PostgresPlace;

use super::{Ended, Home, text};

/// The path of the store that a home has by default.
fn file(home: &Home) -> String {
    format!("sqlite:{}", home.folder.path().join("ledger.db").display())
}

#[test]
fn the_main_job_runs_on_postgres() {
    let (home, place) = (Home::new(), PostgresPlace::new());
    let url = place.url();
    let ended = home.run(&["--store", &url, "run", "--driver", "local", "--", "echo", "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello\n"), "{}", ended.stderr);
    let leases = home.json(&["--store", &url, "lease", "list"]);
    assert_eq!((leases.len(), text(&leases[0], "status")), (1, "released"));
    let verified = home.done(&["--store", &url, "projection", "verify", "current_leases"]);
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
        let status = home.json(&["--store", &url, "store", "status"]).remove(0);
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
        home.done(&["run", "--driver", "local", "--", "echo", word]);
    }
    assert_eq!(home.run_with_input(&["secret", "set", "key"], b"a value that is kept").code, 0);
    let (url, file) = (place.url(), file(&home));
    let copied = home.done(&["store", "copy", "--from", &file, "--to", &url]);
    assert!(copied.starts_with("Copied ") && copied.contains("read again, they are equal"), "{copied}");
    let again = home.json(&["store", "copy", "--from", &file, "--to", &url]).remove(0);
    assert_eq!((&again["foundThere"], &again["sourceMovedOn"]), (&again["events"], &false.into()));
    let back = format!("sqlite:{}", home.folder.path().join("back.db").display());
    home.done(&["store", "copy", "--from", &url, "--to", &back]);
    let events = home.done(&["events"]);
    for store in [&url, &back] {
        assert_eq!(home.done(&["--store", store, "events"]), events);
        home.done(&["--store", store, "projection", "verify", "current_leases"]);
        let status = home.json(&["--store", store, "store", "status"]).remove(0);
        assert_eq!((&status["ledgerId"], &status["position"]), (&again["ledgerId"], &again["events"]));
    }
}

#[test]
fn what_cannot_be_copied_is_refused_in_a_sentence() {
    let (home, other, place) = (Home::new(), Home::new(), PostgresPlace::new());
    for home in [&home, &other] {
        home.done(&["run", "--driver", "local", "--", "true"]);
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
