//! An event-sourced lease ledger for the environments in which AI agents run.
//!
//! An orchestrator leases an environment (a local directory, a sandbox from a provider) for each run of an agent.
//! Every transition of every lease is appended as an event before anybody relies on it; a command runs the driver's
//! side effect between a durable intent and a durable outcome; tables of what is true now follow in the same
//! transaction. So whatever is killed, whenever: no sandbox is given to two runs, no acknowledged event is lost, and
//! anyone can replay how it came to be.
//!
//! It is **not** an orchestrator (it starts no agents), **not** a sandbox (drivers make those), and **not** an access
//! control: it listens on loopback only.
//!
//! # How to use it
//! 1. Open a [`ledger::Ledger`] on a store: [`wiring::open`].
//! 2. Create an environment, then [`ledger::Ledger::acquire`] a lease for a run; keep its fencing token.
//! 3. [`ledger::Ledger::realize`] the workspace, [`ledger::Ledger::execute`] commands in it.
//! 4. [`ledger::Ledger::release`] the lease, or all of a run with [`ledger::Ledger::release_run`].
//! 5. Ask what happened: [`ledger::Ledger::history`], [`ledger::Ledger::why`], [`ledger::Ledger::lease`] at any point.
//!
//! # Map, in reading order
//! - [`ledger`]: the public face.
//! - [`commands`]: what is done, one file a command.
//! - [`queries`]: what is asked.
//! - [`recovery`]: what finds and sees to whatever is due, or was left behind by whoever died.
//! - [`drivers`]: who makes environments, behind one port.
//! - [`http`], [`cli`]: the two faces; the command line speaks the HTTP API, always.
//! - [`wiring`]: the only place that names concrete stores, drivers and projections.
//!
//! The events and their fold are in `lease-events`, the stores in `lease-stores`, the tables in `lease-projections`.

pub mod cli;
pub mod commands;
pub mod drivers;
pub mod esdb;
pub mod http;
pub mod ledger;
pub mod queries;
pub mod recovery;
pub mod secrets;
pub mod telemetry;
pub mod wiring;
pub mod workers;

mod processes;

/// The README's example is compiled with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
