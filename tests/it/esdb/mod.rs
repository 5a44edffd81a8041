//! `KurrentDB` both ways: the ledger's history for its clients, and its servers as the ledger's store. Real clients, real wire.

mod clients;
#[cfg(feature = "kurrentdb")]
mod cluster;
#[cfg(feature = "kurrentdb")]
mod face;
#[cfg(feature = "kurrentdb")]
mod mirrored;
#[cfg(feature = "kurrentdb")]
mod store;

#[cfg(feature = "kurrentdb")]
mod renamed;
