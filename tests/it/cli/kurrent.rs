//! The main job on a server of `KurrentDB`'s protocol, and the care of its projections.

use super::{Home, text};
use crate::crash::event_server::EventServer;

/// What is refused, with its exit code, and a part of its sentence.
#[track_caller]
fn refused(home: &Home, arguments: &[&str], code: i32, part: &str) {
    let ended = home.run(arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(part) && !ended.stderr.contains("changeit"), "{}", ended.stderr);
}

#[test]
fn the_main_job_runs_on_kurrentdb() {
    let (home, server) = (Home::new(), EventServer::start());
    let url = server.url();
    refused(&home, &["--store", &url, "store", "status"], 5, "holds no ledger");
    let ended = home.run(&["--store", &url, "run", "--driver", "local", "--", "echo", "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello\n"), "{}", ended.stderr);
    let lease = home.json(&["--store", &url, "lease", "list"]).remove(0);
    assert_eq!(text(&lease, "status"), "released");
    let history = home.json(&["--store", &url, "lease", "history", text(&lease, "id")]);
    let types: Vec<&str> = history.iter().map(|event| text(event, "type")).collect();
    assert_eq!((types.first(), types.last()), (Some(&"lease-requested"), Some(&"lease-released")));
    for projection in ["current_leases", "environments", "runs"] {
        home.done(&["--store", &url, "projection", "verify", projection]);
    }
    assert!(home.folder.path().join("projections.db").exists(), "the default place");
    assert!(!home.folder.path().join("ledger.db").exists(), "the events are on the server");
}

#[test]
fn a_ledger_on_kurrentdb_has_one_place_for_its_projections_and_is_copied_from_it() {
    let (home, server) = (Home::new(), EventServer::start());
    let url = server.url();
    let at = |name: &str| format!("sqlite:{}", home.folder.path().join(name).display());
    let (second, copy) = (at("second.db"), at("copy.db"));
    assert_eq!(home.run(&["--store", &url, "run", "--driver", "local", "--", "true"]).code, 0);
    let status = home.json(&["--store", &url, "store", "status"]).remove(0);

    refused(&home, &["--store", &url, "--projections", &second, "lease", "list"], 3, "lease-ledger store attach");
    let attached = home.json(&["--store", &url, "--projections", &second, "store", "attach"]).remove(0);
    assert_eq!(attached["ledgerId"], status["ledgerId"]);
    let leases = home.json(&["--store", &url, "--projections", &second, "lease", "list"]);
    assert_eq!(leases.len(), 1, "they are filled from the server");
    refused(&home, &["--store", &url, "lease", "list"], 3, "keeps its projections elsewhere");
    refused(&home, &["--store", &second, "lease", "list"], 6, "the mirror of one on a KurrentDB server");

    let copied = home.json(&["--projections", &second, "store", "copy", "--from", &url, "--to", &copy]).remove(0);
    assert_eq!((&copied["events"], &copied["ledgerId"]), (&status["position"], &status["ledgerId"]));
    assert_eq!(home.json(&["--store", &copy, "lease", "list"]).len(), 1, "the copy is a ledger of its own");
}

#[test]
fn what_is_typed_wrong_of_kurrentdb_is_said_with_what_would_be_right() {
    let home = Home::new();
    let url = "esdb://admin:changeit@127.0.0.1:1?tls=false";
    refused(&home, &["--store", "esdb://admin:changeit@:x", "store", "status"], 2, "give esdb://HOST:PORT");
    refused(&home, &["--store", url, "store", "copy", "--from", "sqlite:none.db", "--to", url], 5, "holds no ledger");
    refused(&home, &["store", "attach"], 2, "give its esdb:// address");
}
