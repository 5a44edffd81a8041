//! An event-sourced lease ledger for the environments in which AI agents run.

pub mod commands;
pub mod drivers;
pub mod ledger;
pub mod queries;
pub mod wiring;
pub mod workers;

mod processes;
