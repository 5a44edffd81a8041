//! `plugin …`: providers of environments as worker processes.

use clap::Subcommand;

use super::exit::CliError;
use super::plugin_check::{self, CheckArgs};
use super::settings::Global;

/// `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Run a plugin's worker through the cases of docs/plugins.md, and say what it may be trusted with
    Check(CheckArgs),
}

impl PluginCommand {
    /// Whether it is a check.
    pub(super) fn is_check(&self) -> bool {
        matches!(self, Self::Check(_))
    }
}

/// Runs it.
pub async fn plugin(command: PluginCommand, global: &Global) -> Result<u8, CliError> {
    match command {
        PluginCommand::Check(args) => plugin_check::check(&args, global).await,
    }
}
