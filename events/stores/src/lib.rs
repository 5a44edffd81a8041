//! Where events are kept: stores behind the port [`lease_events::store::EventStore`].
//!
//! [`memory::MemoryStore`] is for tests and simulation, [`sqlite::SqliteStore`] is the embedded default,
//! [`postgres::PostgresStore`] is for several processes and machines. All are held to the same contract suite (`contract`, behind the feature of that name), and so is every store to come.
//!
//! It is **not** a place for what events mean: a store moves their bytes, decides expected revisions and positions,
//! and calls an [append hook](append_hook) inside its transaction; projections stand behind that hook.
//!
//! # Map, in reading order
//! - [`append_hook`]: what a store calls while it appends.
//! - `standing`: where an append stands against its stream; the one rule of expected revisions and repetitions.
//! - [`memory`]: one lock, no tasks.
//! - [`sealed`]: encrypted values of secrets, beside the log.
//! - [`sql`]: what the SQL stores share: the queue before their writer, and how a batch is decided.
//! - [`sqlite`]: one writer with group commit, many readers, several processes on one file.
//! - [`postgres`]: one writer a process behind one lock, owners that prove that they live, and what a lost connection left.
//! - [`copy`]: a whole ledger from one SQL store to another, as it is.
//! - [`kurrentdb`]: streams on a server of its own, behind the feature of that name; how its events carry what is ours.
//! - `contract`: what every store must pass.

pub mod append_hook;
#[cfg(feature = "contract")]
pub mod contract;
pub mod copy;
pub mod kurrentdb;
pub mod memory;
pub mod postgres;
pub mod sealed;
pub mod sql;
pub mod sqlite;
mod standing;
