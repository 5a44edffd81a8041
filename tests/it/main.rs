//! The tests of the whole ledger as one binary with a tree of topics.

#[path = "../support/example_plugin.rs"]
mod example_plugin;
#[cfg(feature = "kurrentdb")]
#[path = "../support/protocol/mod.rs"]
mod protocol;
#[cfg(feature = "kurrentdb")]
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/shown.rs"]
mod shown;
#[path = "../support/sshd.rs"]
mod sshd;
mod support;

mod architecture;
mod cli;
mod commands;
mod crash;
mod disk;
mod esdb;
mod http;
mod plugins;
mod race;
mod recovery;
mod secrets;
mod tidy;

// What is shared with the crate's own tests calls it so.
use lease_ledger::workers;
