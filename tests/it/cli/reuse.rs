//! `run --reuse`: the next run takes over what the one before left.

use super::{Home, text};

#[test]
fn the_second_run_resumes_the_firsts_sandbox_under_a_higher_token() {
    let home = Home::new();
    let run =
        |flags: &[&str], script: &str| home.run(&[&["run", "--reuse"], flags, &["--", "sh", "-c", script]].concat());
    assert_eq!(run(&[], "echo first > mark").code, 0);
    let first = home.only_lease();
    let second_run = run(&[], "cat mark");
    assert_eq!((second_run.code, second_run.stdout.as_str()), (0, "first\n"), "{}", second_run.stderr);
    let second = home.json(&["lease", "list"]).remove(0);
    assert_eq!(second["resumedFrom"], first["id"]);
    assert_eq!(second["providerLeaseId"], first["providerLeaseId"]);
    assert!(second["fencingToken"].as_u64() > first["fencingToken"].as_u64(), "{second}");

    let why = home.done(&["lease", "why", text(&second, "id")]);
    assert!(why.contains("was taken"), "{why}");
    let resumed = format!("resumed {}, which lease {} had left.", text(&first, "providerLeaseId"), text(&first, "id"));
    assert!(why.trim_end().ends_with(&resumed), "{why}");
    let story = home.done(&["lease", "history", text(&second, "id")]);
    assert!(story.contains("Next: what it left waits for another run, because"), "{story}");

    let script = "cat mark 2>/dev/null || echo nothing";
    for other in [["--config", "processesMax=64"], ["--workspace", "w1"]] {
        let ended = run(&other, script);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, "nothing\n"), "{other:?}: {}", ended.stderr);
    }
}

#[test]
fn a_run_without_reuse_says_why_it_got_a_fresh_one() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "--", "true"]).code, 0);
    let why = home.done(&["lease", "why", text(&home.only_lease(), "id")]);
    assert!(why.contains("a fresh one, because its policy (ephemeral) reuses nothing."), "{why}");
}
