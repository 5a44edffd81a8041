//! Completion scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::exit::CliError;
use super::{Cli, render};

/// `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn print(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lease-ledger", &mut script);
    render::line(String::from_utf8_lossy(&script).trim_end())
}
