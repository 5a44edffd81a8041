//! Who runs what is in flight: each process that opens a ledger is an owner, and an intent names it.
//!
//! **Invariant:** an owner counts as dead only where that is proved. Who is only silent is given its time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Tells which owners are provably dead.
pub trait Owners: Send + Sync {
    /// Whether the process of this name has ended, for certain.
    fn is_dead(&self, owner: &str) -> bool;
}

/// Owners of which only those are known to be dead that somebody says so of: for stores in memory, and tests.
#[derive(Debug, Default)]
pub struct ToldOwners(Mutex<BTreeSet<String>>);

impl ToldOwners {
    /// This owner is dead.
    pub fn died(&self, owner: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(owner.to_owned());
    }
}

impl Owners for ToldOwners {
    fn is_dead(&self, owner: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(owner)
    }
}
