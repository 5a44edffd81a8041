//! KurrentDB (EventStoreDB): streams on a server of its own, through the `eventstore` crate. The store is behind the feature
//! `kurrentdb`; how its events carry what is ours is not, since the ledger's own `EventStoreDB` face shows them so.
//!
//! **Invariants**
//! - An append names a revision and bears fixed event ids, so that it may be sent again until an answer arrives.
//! - What is answered is what was read back: positions, times, and whose attempt it was that wrote it.
//! - The client crate is supervised: every wait has a limit, and a client that cannot recover is replaced.
//! - Only the ledger's own categories are read from the log of a server, which others may use too.

pub mod metadata;

#[cfg(feature = "kurrentdb")]
mod event;
#[cfg(feature = "kurrentdb")]
mod follower;
#[cfg(feature = "kurrentdb")]
mod gate;
#[cfg(feature = "kurrentdb")]
mod identity;
#[cfg(feature = "kurrentdb")]
mod mirror;
#[cfg(feature = "kurrentdb")]
mod mirrored;
#[cfg(feature = "kurrentdb")]
mod reader;
#[cfg(feature = "kurrentdb")]
mod store;
#[cfg(feature = "kurrentdb")]
mod subscribe;
#[cfg(feature = "kurrentdb")]
mod supervisor;
#[cfg(feature = "kurrentdb")]
mod turns;
#[cfg(feature = "kurrentdb")]
mod writer;

/// The client crate, for tests that read by it what a ledger shows.
#[cfg(feature = "kurrentdb")]
#[doc(hidden)]
pub use eventstore;
#[cfg(feature = "kurrentdb")]
pub use identity::Identity;
#[cfg(feature = "kurrentdb")]
pub use mirrored::{MirrorError, MirroredOptions, MirroredStore};
#[cfg(feature = "kurrentdb")]
pub use store::{InvalidKurrentUrl, KurrentOptions, KurrentStore};
