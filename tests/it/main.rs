//! The tests of the whole ledger as one binary with a tree of topics.

mod support;

mod commands;
mod race;
mod http;
mod cli;
mod architecture;
mod tidy;
