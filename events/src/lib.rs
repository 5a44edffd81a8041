//! What happened: the events of the lease ledger, and everything about them that needs no I/O.
//!
//! An orchestrator leases environments for the runs of its agents. Every transition of every lease is an event;
//! this crate says which events there are, how their bytes are written and read, which may follow which, and
//! what state they fold into. The command handler, the projections, replay and time travel all use this one fold.
//!
//! It is **not** a store and not a runtime: no tokio, no sqlx, no clock of its own. Stores implement
//! [`store::EventStore`]; time and ids come in through [`seam`].
//!
//! # Map, in reading order
//! - [`id`]: the typed ids and how deterministic ones are made.
//! - [`record`]: an event before and after it is stored.
//! - [`fold`]: what a stream's events make of it, one after the other.
//! - [`lease`]: the lease's events, transition table and fold.
//! - [`environment`], [`secret`], [`run`], [`orphan`], [`command`]: the five smaller streams beside it.
//! - [`codec`]: bytes to typed events and back, upcasting old versions.
//! - [`store`]: the port that every event store implements.
//! - [`failure`]: classes of failure, and the fault that an event may carry.
//! - [`seam`]: time, ids and randomness as parameters.

pub mod codec;
pub mod command;
pub mod environment;
pub mod failure;
pub mod fold;
pub mod id;
pub mod lease;
pub mod orphan;
pub mod record;
pub mod run;
pub mod seam;
pub mod secret;
pub mod store;
