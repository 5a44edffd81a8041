//! Tests, benchmarks, generated files, and the list of what must hold before a change is merged.
//!
//! **Invariant:** [`STEPS`] and `.ci/run` are the same list; a test holds it.

use anyhow::Result;

use crate::run::{run, run_words};
use crate::{licences, postgres, tools};

/// One step: a command line, with the variables before it.
struct Step {
    variables: &'static [(&'static str, &'static str)],
    line: &'static str,
}

/// What must hold, the quick steps first. `cargo xtask …` lines are called in this process.
const STEPS: &[Step] = &[
    Step { variables: &[], line: "cargo fmt --all --check" },
    Step { variables: &[], line: LICENCES },
    Step { variables: &[], line: "cargo clippy --workspace --all-targets --all-features --locked -- -D warnings" },
    Step {
        variables: &[("RUSTDOCFLAGS", "-D warnings")],
        line: "cargo doc --workspace --no-deps --all-features --locked",
    },
    Step { variables: &[], line: TEST },
];
const LICENCES: &str = "cargo xtask licences";
const TEST: &str = "cargo xtask test";

/// Everything that must hold, in order; the first failure ends it.
pub(crate) fn all(_arguments: &[String]) -> Result<()> {
    for step in STEPS {
        match step.line {
            LICENCES => licences::check(&[])?,
            TEST => test(&[])?,
            line => run(line, step.variables)?,
        }
    }
    Ok(())
}

/// Every test of the workspace, and those in the docs.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    tools::install_programs()?;
    tools::install_plugin_sdks()?;
    tools::install_esdb_clients()?;
    let mut words = if tools::nextest() {
        vec!["cargo", "nextest", "run", "--workspace", "--all-features", "--locked"]
    } else {
        vec!["cargo", "test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--locked"]
    };
    words.extend(arguments.iter().map(String::as_str));
    // A snapshot that differs is a failure, never a file to look at later.
    let server = postgres::Shared::start()?;
    run_words(&words, &[("INSTA_UPDATE", "no"), (postgres::SERVER_URL, &server.url())])?;
    drop(server);
    run("cargo test --doc --workspace --all-features --locked", &[])
}

/// The benchmarks of the root package, or those of them that are named.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let mut words = vec!["cargo", "bench", "--locked", "--bench", "ledger", "--"];
    words.extend(arguments.iter().map(String::as_str));
    run_words(&words, &[])
}

/// Writes every generated file: the tests that compare them write them instead. Such a test has `of_the_code` or
/// `golden` in its name. They run one at a time, since some of them read what others write.
pub(crate) fn generate(_arguments: &[String]) -> Result<()> {
    // Snapshots that are new are kept; those that differ are failures still.
    let update = [("UPDATE_GENERATED", "1"), ("INSTA_UPDATE", "unseen")];
    run("cargo test --workspace --all-features --tests --locked -- --test-threads=1 of_the_code golden", &update)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_run_has_the_same_steps_in_the_same_order() {
        let script = include_str!("../../.ci/run");
        let found: Vec<&str> =
            script.lines().filter(|line| !line.starts_with('#') && line.contains("cargo ")).collect();
        let wanted: Vec<String> = STEPS
            .iter()
            .map(|step| {
                let variables = step.variables.iter().map(|(name, value)| format!("{name}='{value}' "));
                variables.collect::<String>() + step.line
            })
            .collect();
        assert_eq!(found, wanted);
    }
}
