//! What is true now: tables that follow the log.
//!
//! The log says what happened; these tables say what is the case, for those who query by something other than a
//! lease's id: commands look for candidates in them, the faces list them, and people read them with SQL
//! (`docs/projections.md`, generated from the same declarations, is their contract).
//!
//! They are **not** the truth: a command takes a hint from them and decides on the stream that it loads. A table can
//! be thrown away at any time and is made again from the log, row for row; a table that fails stands still, and no
//! event is ever refused because of it.
//!
//! # Map, in reading order
//! - [`projection`]: the port: a typed fold, and the tables that show its states.
//! - [`current_leases`], [`reusable_leases`], [`environments`], [`secrets`], [`runs`], [`reuse_claims`]: the tables.
//! - [`read_model`]: the reading port.
//! - [`sql`]: the executor that writes them in the transaction of the append, and reads them, on SQLite and PostgreSQL.
//! - [`memory`]: the same for the memory store.
//! - [`docs`]: the published contract as text.

use std::sync::Arc;

pub mod projection;

mod row;

pub mod current_leases;
pub mod environments;
pub mod reusable_leases;
pub mod reuse_claims;
pub mod runs;
pub mod secrets;

pub mod read_model;

pub mod sql;

pub mod memory;

pub mod docs;

/// The ledger's own projections: a new one is a file and a line here.
#[must_use]
pub fn standard() -> Vec<Arc<dyn projection::Projection>> {
    vec![
        Arc::new(current_leases::Leases),
        Arc::new(environments::Environments),
        Arc::new(secrets::Secrets),
        Arc::new(runs::Runs),
        Arc::new(reuse_claims::ReuseClaims),
    ]
}
