//! The tests of the whole ledger as one binary with a tree of topics.

mod support;

mod architecture;
mod cli;
mod commands;
mod crash;
mod http;
mod race;
mod recovery;
mod secrets;
mod tidy;
