//! What the tests need besides Rust, installed where it is missing: Debian packages, and cargo-nextest.

use anyhow::{Context, Result};

use crate::postgres;
use crate::run::{answers, root, run, run_words};

/// The cargo-nextest that is built where none is there: one that the project's Rust can build.
const NEXTEST_VERSION: &str = "0.9.143";

/// A program that tests start, and the Debian package that has it.
struct Program {
    name: &'static str,
    /// An argument that it answers.
    asked: &'static str,
    package: &'static str,
    what_for: &'static str,
}

/// What sandboxes need: installed for whoever runs a command.
const OF_SANDBOXES: &[Program] = &[
    Program { name: "bwrap", asked: "--version", package: "bubblewrap", what_for: "the sandbox" },
    Program { name: "prlimit", asked: "--version", package: "util-linux", what_for: "the sandbox's limits" },
];

/// What the tests need beside that.
const OF_TESTS: &[Program] = &[
    Program { name: "ssh", asked: "-V", package: "openssh-client", what_for: "the client of the driver ssh" },
    Program { name: "/usr/sbin/sshd", asked: "-V", package: "openssh-server", what_for: "what tests of ssh log in to" },
    Program { name: "node", asked: "--version", package: "nodejs", what_for: "what plugins' workers run on" },
    Program { name: "npm", asked: "--version", package: "npm", what_for: "what installs the plugin SDK" },
    Program { name: "initdb", asked: "--version", package: "postgresql", what_for: "what makes a PostgreSQL server" },
    Program { name: "setpriv", asked: "--version", package: "util-linux", what_for: "what starts it as no root" },
    Program {
        name: "python3",
        asked: "--version",
        package: "python3-venv",
        what_for: "what one of the KurrentDB clients runs on",
    },
];

/// Installs what sandboxes need, where it is missing.
pub(crate) fn setup(_arguments: &[String]) -> Result<()> {
    install(OF_SANDBOXES.iter())
}

/// Installs what the tests need, where it is missing.
pub(crate) fn install_programs() -> Result<()> {
    install(OF_SANDBOXES.iter().chain(OF_TESTS))
}

fn install(programs: impl Iterator<Item = &'static Program>) -> Result<()> {
    let missing: Vec<&Program> = programs.filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for program in &missing {
        eprintln!(
            "{} is missing: it is {}. Installing the package {}.",
            program.name, program.what_for, program.package
        );
    }
    let mut install = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    if !answers("sh", &["-c", "test \"$(id -u)\" = 0"]) {
        eprintln!("This is not root: sudo asks for it.");
        install.insert(0, "sudo");
    }
    let mut update = install.clone();
    update.push("update");
    install.extend(["install", "--yes", "--no-install-recommends"]);
    install.extend(missing.iter().map(|program| program.package));
    let hint = || {
        let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
        format!("the packages {} are needed; install them by hand", packages.join(" and "))
    };
    run_words(&update, &[]).with_context(hint)?;
    run_words(&install, &[]).with_context(hint)
}

/// Debian keeps the programs of PostgreSQL's server off the path.
fn is_there(program: &Program) -> bool {
    answers(program.name, &[program.asked]) || (program.name == "initdb" && postgres::is_installed())
}

/// Installs the published plugin SDK, in the versions that `tests/plugins` pins. No script of a package is run.
pub(crate) fn install_plugin_sdks() -> Result<()> {
    installed("tests/plugins/package-lock.json", "tests/plugins/node_modules", || {
        run("npm ci --prefix tests/plugins --ignore-scripts --no-audit --no-fund", &[])
            .context("the tests of plugins need @paperclipai/plugin-sdk from npm")
    })
}

/// Installs the official KurrentDB clients for Node and Python, in the versions that `tests/esdb-clients` pins.
pub(crate) fn install_esdb_clients() -> Result<()> {
    installed("tests/esdb-clients/package-lock.json", "tests/esdb-clients/node_modules", || {
        run("npm ci --prefix tests/esdb-clients --ignore-scripts --no-audit --no-fund", &[])
            .context("the tests of history for KurrentDB clients need @kurrent/kurrentdb-client from npm")
    })?;
    installed("tests/esdb-clients/requirements.txt", "target/esdb-clients", || {
        run("python3 -m venv target/esdb-clients", &[])?;
        run(
            "target/esdb-clients/bin/pip install --quiet --no-deps --requirement tests/esdb-clients/requirements.txt",
            &[],
        )
        .context("the tests of history for KurrentDB clients need kurrentdbclient from PyPI")
    })
}

/// Runs `install` unless what the list names is in the folder already.
fn installed(list: &str, folder: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let (mark, wanted) = (root().join(folder).join(".installed"), std::fs::read(root().join(list))?);
    if std::fs::read(&mark).ok().as_deref() == Some(&wanted) {
        return Ok(());
    }
    install()?;
    Ok(std::fs::write(mark, wanted)?)
}

/// Whether cargo-nextest is there, or could be built.
pub(crate) fn nextest() -> bool {
    if answers("cargo", &["nextest", "--version"]) {
        return true;
    }
    eprintln!(
        "cargo-nextest is missing: it runs the tests. Building version {NEXTEST_VERSION}, once, in some minutes."
    );
    match run(&format!("cargo install --locked cargo-nextest --version {NEXTEST_VERSION}"), &[]) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("It cannot be built ({error:#}); cargo test runs the tests instead, without time limits.");
            false
        }
    }
}
