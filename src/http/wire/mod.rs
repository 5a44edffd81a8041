//! The published request and response types of the HTTP face: their JSON is the contract, and `docs/openapi.json` is
//! generated from them. The command line reads and writes the same types.
//!
//! **Invariants**
//! - Keys are camelCase. A request with a key that is not known is refused; an answer has all of its keys, always,
//!   with `null` where there is nothing.
//! - Moments are RFC 3339 in UTC with microseconds and `Z`; ids are UUIDs; numbers are below 2^53.
//! - Nothing here decides anything: a type is its shape, and how it is made from what the ledger answers.

pub mod environment;
pub mod event;
pub mod execute;
pub mod lease;
pub mod ledger;
mod moment;
pub mod problem;
pub mod projection;
pub(crate) mod read;
pub mod recovery;
pub mod reusable;
pub mod run;
pub mod secret;
pub(crate) mod vocabulary;

pub use moment::Moment;
