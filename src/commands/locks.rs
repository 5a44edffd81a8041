//! Who in this process is at work on what: one holder a key, in the order of asking.
//!
//! A lock saves double effects and busy conflicts inside one process. It is never what correctness rests on: that
//! is the expected revision of every append.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Entry = Arc<tokio::sync::Mutex<()>>;

/// Locks by UUID; a key that nobody holds or waits for takes no room.
#[derive(Debug, Default)]
pub struct KeyedLocks {
    entries: Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>,
}

/// How many dead entries may gather before they are swept: keeps the sweep's cost constant per lock.
const DEAD_ENTRIES_SWEPT_AT: usize = 1_024;

impl KeyedLocks {
    /// Waits until nobody else in this process holds `key`.
    pub async fn hold(&self, key: Uuid) -> OwnedMutexGuard<()> {
        self.entry(key).lock_owned().await
    }

    fn entry(&self, key: Uuid) -> Entry {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&key).and_then(Weak::upgrade) {
            return entry;
        }
        if entries.len() >= DEAD_ENTRIES_SWEPT_AT && entries.len() == entries.capacity() {
            entries.retain(|_, entry| entry.strong_count() > 0);
        }
        let entry = Entry::default();
        entries.insert(key, Arc::downgrade(&entry));
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_a_key_and_dead_keys_are_swept() {
        let locks = KeyedLocks::default();
        let key = Uuid::from_u128(1);
        let held = locks.hold(key).await;
        assert!(locks.entry(key).try_lock().is_err());
        drop(held);
        assert!(locks.entry(key).try_lock().is_ok());
        for other in 2..100_000_u128 {
            drop(locks.hold(Uuid::from_u128(other)).await);
        }
        let kept = locks.entries.lock().expect("nobody panics holding it").len();
        assert!(kept < 10 * DEAD_ENTRIES_SWEPT_AT, "{kept}");
    }
}
