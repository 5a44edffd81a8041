//! What failed lately is left alone for a while, longer each time, so that it holds up nothing and storms nobody.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// First wait of what failed; doubled up to [`WAIT_MAX`].
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait of what failed.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// What failed, and how long it waits.
#[derive(Debug)]
pub struct Patience<K> {
    failed: Mutex<HashMap<K, (Duration, Instant)>>,
}

impl<K> Default for Patience<K> {
    fn default() -> Self {
        Self { failed: Mutex::default() }
    }
}

impl<K: Eq + Hash> Patience<K> {
    /// Whether it is to be left alone.
    pub fn waits(&self, key: &K) -> bool {
        self.failed().get(key).is_some_and(|(_, until)| *until > Instant::now())
    }

    /// It was seen to, or there was nothing to do.
    pub fn succeeded(&self, key: &K) {
        self.failed().remove(key);
    }

    /// It failed.
    pub fn failed_again(&self, key: K) {
        let mut failed = self.failed();
        let wait = failed.get(&key).map_or(WAIT_FIRST, |(wait, _)| (*wait * 2).min(WAIT_MAX));
        failed.insert(key, (wait, Instant::now() + wait));
        // Whoever was seen to elsewhere is not asked for again.
        failed.retain(|_, (_, until)| *until + WAIT_MAX > Instant::now());
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<K, (Duration, Instant)>> {
        // The map is whole after every statement.
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
