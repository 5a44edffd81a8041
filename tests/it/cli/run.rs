//! `run` in a real sandbox, and on this machine.

use std::io::Read;

use super::{Home, text};

#[test]
fn a_command_runs_in_a_sandbox_and_its_code_is_the_programs() {
    let home = Home::new();
    let ended = home.run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (7, "out\n"), "{}", ended.stderr);
    let lease = home.only_lease();
    assert_eq!(ended.stderr, format!("lease {}\nerr\n", text(&lease, "id")));
    assert_eq!(
        (text(&lease, "status"), text(&lease, "provider"), text(&lease, "endReason")),
        ("released", "bubblewrap", "holder-released")
    );
}

#[test]
fn a_signal_and_a_time_out_have_codes_of_their_own() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "--", "sh", "-c", "kill -KILL $$"]).code, 137);
    assert_eq!(home.run(&["run", "--timeout", "200ms", "--", "sleep", "1000"]).code, 124);
    let open = home.json(&["lease", "list", "--open"]);
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn input_environment_and_directory_are_passed_on() {
    let home = Home::new();
    let script = "cat; echo $WORD; pwd";
    let arguments = ["run", "--env", "WORD=hello", "--cwd", "/tmp", "--", "sh", "-c", script];
    let ended = home.run_with_input(&arguments, b"from outside\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "from outside\nhello\n/tmp\n"), "{}", ended.stderr);

    let ended = home.run_with_input(&["run", "--", "cat"], b"\xff");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("Standard input is not UTF-8"), "{}", ended.stderr);
    assert_eq!(home.json(&["lease", "list"]).len(), 1, "nothing is acquired for input that cannot be passed on");
}

#[test]
fn the_local_driver_works_where_it_was_typed() {
    let home = Home::new();
    let here = tempfile::tempdir().expect("a temporary folder");
    let here = here.path().canonicalize().expect("a path");
    let ended = home.program(&["run", "--driver", "local", "--", "pwd"]).current_dir(&here).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim_end(), here.to_string_lossy());
}

#[test]
fn output_comes_while_the_command_runs() {
    let home = Home::new();
    let here = tempfile::tempdir().expect("a temporary folder");
    let (local_path, go) = (here.path().to_string_lossy(), here.path().join("go"));
    home.done(&["environment", "create", "here", "--driver", "local"]);
    let lease = home.json(&["lease", "acquire", "here"]).remove(0)["lease"].clone();
    let id = text(&lease, "id");
    home.done(&["lease", "realize", id, "--token", "1", "--local-path", &local_path]);
    // The command waits for a file that appears only once its first line was seen.
    let script = "echo ready; until [ -e go ]; do sleep 0.01; done; echo went";
    let mut running = home.start(&["lease", "exec", id, "--token", "1", "--", "sh", "-c", script]);
    assert_eq!(running.first_line, "ready");
    std::fs::write(go, b"").expect("a file");
    let mut rest = String::new();
    running.stdout.read_to_string(&mut rest).expect("the rest");
    assert_eq!((rest.as_str(), running.code()), ("went\n", Some(0)));
}

#[test]
fn a_failure_of_the_ledger_is_not_the_commands_and_leaves_nothing_open() {
    let home = Home::new();
    let ended = home.run(&["run", "--environment", "nowhere", "--", "true"]);
    assert_eq!(ended.code, 125);
    assert!(ended.stderr.contains("There is no environment \"nowhere\""), "{}", ended.stderr);

    let ended = home.run(&["run", "--provider", "fake", "--config", "failExecute=refused", "--", "echo", "hi"]);
    assert_eq!(ended.code, 125, "{}", ended.stderr);
    assert!(ended.stderr.lines().last().is_some_and(|line| line.contains("The execute of lease")), "{}", ended.stderr);
    assert_eq!(text(&home.only_lease(), "status"), "failed");
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let home = Home::new();
    let mut child = home.program(&["run", "--", "yes"]).spawn().expect("it starts");
    let mut some = [0; 2];
    child.stdout.take().expect("a pipe").read_exact(&mut some).expect("some output");
    assert_eq!(child.wait().expect("it ends").code(), Some(141));
    assert_eq!(text(&home.only_lease(), "status"), "failed");
}

#[test]
fn the_same_flags_are_the_same_environment() {
    let home = Home::new();
    for _ in 0..2 {
        assert_eq!(home.run(&["run", "--config", "processesMax=100", "--", "true"]).code, 0);
    }
    assert_eq!(home.run(&["run", "--config", "processesMax=200", "--", "true"]).code, 0);
    assert_eq!(home.run(&["run", "--", "true"]).code, 0);
    let mut names: Vec<String> =
        home.json(&["environment", "list"]).iter().map(|found| text(found, "name").to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names[0], "bubblewrap");
    assert!(names[1..].iter().all(|name| name.len() == "bubblewrap-01234567".len()), "{names:?}");
}
