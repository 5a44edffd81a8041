//! The project's own commands, as `cargo xtask NAME`.
//!
//! They need Rust and, where something is missing, Debian's packages; whatever they do to the machine they say first.

mod ci;
mod crash;
mod licences;
mod run;
mod tools;

use std::process::ExitCode;

/// A command: its name, what it is for, and what it does with its arguments.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "setup",
        about: "Installs the programs that sandboxes need, where they are missing.",
        run: tools::setup,
    },
    Command {
        name: "test",
        about: "Installs what the tests need where it is missing, then runs every test, and those in the docs. \
                Arguments go to cargo nextest.",
        run: ci::test,
    },
    Command {
        name: "bench",
        about: "Runs the benchmarks, or those that are named; they print their figures.",
        run: ci::bench,
    },
    Command {
        name: "matrix",
        about: "Kills the program at every crash point of every command on every provider, and prints the table.",
        run: crash::matrix,
    },
    Command {
        name: "storm",
        about: "Kills the program at random moments under load, then audits: --kills N --seed S.",
        run: crash::storm,
    },
    Command {
        name: "generate",
        about: "Writes the files that are generated from the code: schemas, golden events, tables in docs/.",
        run: ci::generate,
    },
    Command {
        name: "licences",
        about: "Checks that every dependency has a licence that this project accepts.",
        run: licences::check,
    },
    Command {
        name: "ci",
        about: "Everything that must hold before a change is merged, as .ci/run does.",
        run: ci::all,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print_help();
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_help();
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("There is no command \"{name}\"; cargo xtask help lists those that there are.");
        return ExitCode::from(2);
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() {
    println!("cargo xtask COMMAND\n");
    for command in COMMANDS {
        println!("  {:<10}{}", command.name, command.about);
    }
}
