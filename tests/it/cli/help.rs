//! What `--help` says, of every command.

use std::fmt::Write;

use clap::CommandFactory;
use lease_ledger::cli::Cli;

use super::Home;

#[test]
fn every_command_explains_itself() {
    let home = Home::new();
    let mut all = String::new();
    for path in paths(&Cli::command()) {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        writeln!(all, "$ lease-ledger {}\n{}", arguments.join(" "), home.done(&arguments)).expect("a text");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn completions_name_the_commands() {
    let script = Home::new().done(&["completions", "bash"]);
    for word in ["release-run", "--idempotency-key", "rebuild"] {
        assert!(script.contains(word), "{word}");
    }
}

/// The ways to every command, the program itself first.
fn paths(command: &clap::Command) -> Vec<Vec<String>> {
    let below = command.get_subcommands().flat_map(|below| {
        paths(below).into_iter().map(|mut path| {
            path.insert(0, below.get_name().to_owned());
            path
        })
    });
    std::iter::once(Vec::new()).chain(below).collect()
}
