//! The tests of the whole ledger as one binary with a tree of topics.

mod support;

mod cli;
mod commands;
mod architecture;
mod tidy;
