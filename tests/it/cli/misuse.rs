//! What is wrong is said in a sentence, changes nothing, and exits by the table.

use super::{Home, text};

const NOBODY: &str = "0198c0de-0000-7000-8000-000000000001";

/// Runs what must be refused: its code, and what it says.
#[track_caller]
fn refused(home: &Home, arguments: &[&str], code: i32, sentence: &str) {
    let ended = home.run(arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{arguments:?}: {}", ended.stderr);
    assert!(ended.stderr.contains(sentence), "{arguments:?}: {}", ended.stderr);
    for debris in ["Error {", "Some(", "panicked", "stack backtrace"] {
        assert!(!ended.stderr.contains(debris), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn what_is_typed_wrong_is_refused_before_anything_is_opened() {
    let home = Home::new();
    refused(&home, &["run", "--timeout", "5", "--", "true"], 2, "\"5\" is not a duration; give a number and a unit");
    refused(&home, &["run", "--env", "secret", "--", "true"], 2, "a variable is KEY=VALUE");
    refused(&home, &["run", "--reuse", "--driver", "local", "--", "true"], 2, "leaves nothing to reuse");
    refused(&home, &["run", "--config", "provider=x", "--", "true"], 2, "Give --provider and --reuse instead");
    refused(&home, &["run"], 2, "<COMMAND>...");
    refused(&home, &["lease", "release", NOBODY], 2, "<--token <N>|--reason <TEXT>>");
    refused(&home, &["lease", "show", "seven"], 2, "\"seven\" is not a lease id; give a UUID");
    refused(&home, &["lease", "list", "--status", "gone"], 2, "\"gone\" is no lease status; it is one of requested");
    refused(&home, &["--store", "tape:x", "lease", "list"], 2, "names no store; give sqlite:PATH");
    refused(&home, &["serve", "--listen", "0.0.0.0:0"], 2, "can be reached from other machines");
    refused(&home, &["serve", "--esdb-listen", "0.0.0.0:0"], 2, "can be reached from other machines");
    assert_eq!(std::fs::read_dir(home.folder.path()).expect("a folder").count(), 0);
}

#[test]
fn what_is_not_there_is_not_found() {
    let home = Home::new();
    refused(&home, &["lease", "show", NOBODY], 5, &format!("There is no lease {NOBODY} in company"));
    refused(&home, &["lease", "history", NOBODY], 5, "There is no lease");
    refused(&home, &["environment", "show", "box"], 5, "There is no environment \"box\"");
    refused(&home, &["projection", "verify", "leases"], 5, "no projection \"leases\"");
    refused(&home, &["projection", "rebuild", "a/b"], 5, "There is no projection \"a/b\"");
}

#[test]
fn what_cannot_be_as_things_stand_is_a_conflict() {
    let home = Home::new();
    let create = ["environment", "create", "box", "--driver", "local"];
    home.done(&create);
    refused(&home, &create, 3, "already has an active environment \"box\"");
    refused(&home, &["environment", "create", "b", "--driver", "x"], 2, "There is no driver \"x\"; there are local");
    refused(&home, &["environment", "update", "box"], 2, "There is nothing to update");
    let lease = home.json(&["lease", "acquire", "box"]).remove(0)["lease"].clone();
    let id = text(&lease, "id");
    refused(&home, &["lease", "release", id, "--token", "9"], 3, "Fencing token 9 is stale");
    home.done(&["lease", "release", id, "--token", "1"]);
    refused(&home, &["lease", "renew", id, "--for", "1h", "--token", "1"], 3, "is over (released");
    home.done(&["environment", "archive", "box"]);
    refused(&home, &["lease", "acquire", "box"], 3, "Environment \"box\" is not active.");
}

#[test]
fn a_file_that_is_no_ledger_is_left_alone() {
    let home = Home::new();
    let path = home.folder.path().join("notes.db");
    std::fs::write(&path, "my notes, which are no database at all").expect("a file");
    let ended = home.run(&["--store", &format!("sqlite:{}", path.display()), "lease", "list"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (6, 1), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "my notes, which are no database at all");
}

#[test]
fn with_json_an_error_is_a_problem() {
    let home = Home::new();
    let ended = home.run(&["--json", "lease", "show", NOBODY]);
    let problem: serde_json::Value = serde_json::from_str(ended.stderr.trim_end()).expect("JSON");
    assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("unknown-lease"), Some(404)));
}

#[test]
fn a_holder_takes_a_lease_through_its_life() {
    let home = Home::new();
    home.done(&["environment", "create", "box", "--driver", "sandbox", "--config", "provider=bubblewrap"]);
    let acquire = ["lease", "acquire", "box", "--idempotency-key", "k1", "--run", NOBODY];
    let lease = home.json(&acquire).remove(0)["lease"].clone();
    assert_eq!(home.json(&acquire).remove(0)["lease"]["id"], lease["id"], "the same key is the same acquire");
    let id = text(&lease, "id");
    home.done(&["lease", "realize", id, "--token", "1"]);
    let ended = home.run(&["lease", "exec", id, "--token", "1", "--", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, "in\n"), "{}", ended.stderr);
    refused(&home, &["lease", "exec", id, "--token", "7", "--", "true"], 125, "Fencing token 7 is stale");
    home.done(&["lease", "renew", id, "--for", "1h", "--reason", "it takes longer"]);
    let resumed = home.json(&["lease", "resume", id, "--reason", "look again"]).remove(0);
    assert_eq!(resumed["lease"]["fencingToken"], 2);
    home.done(&["lease", "destroy", id, "--reason", "no longer wanted"]);
    let story = home.done(&["lease", "history", id]);
    assert!(story.contains("because an operator ended it and says \"no longer wanted\""), "{story}");
    assert!(home.done(&["lease", "release-run", NOBODY]).contains("held nothing, and can acquire nothing any more"));
    for table in ["current_leases", "reusable_leases", "environments"] {
        home.done(&["projection", "rebuild", table]);
        home.done(&["projection", "verify", table]);
    }
}
