//! Who runs what is in flight: each process that opens a ledger is an owner, and an intent names it.
//!
//! **Invariant:** an owner counts as dead only where that is proved. Who is only silent is given its time.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

/// Tells which owners are provably dead.
#[async_trait]
pub trait Owners: Send + Sync {
    /// Whether the process of this name has ended, for certain, as far as is known here.
    fn is_dead(&self, owner: &str) -> bool;

    /// Finds out what is known elsewhere of the process of this name; asked before [`Self::is_dead`] counts. What cannot be
    /// found out leaves it alive.
    async fn look_up(&self, _owner: &str) {}
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
