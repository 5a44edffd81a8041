//! An event-sourced lease ledger for the environments in which AI agents run.

pub mod cli;
pub mod commands;
pub mod drivers;
pub mod http;
pub mod ledger;
pub mod queries;
pub mod telemetry;
pub mod wiring;
