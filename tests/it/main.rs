//! The tests of the whole ledger as one binary with a tree of topics.

#[path = "../support/example_plugin.rs"]
mod example_plugin;
#[path = "../support/sshd.rs"]
mod sshd;
mod support;

mod architecture;
mod cli;
mod commands;
mod http;
mod plugins;
mod race;
mod secrets;
mod tidy;
