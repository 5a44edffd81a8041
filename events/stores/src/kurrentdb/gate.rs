//! Lets appends in until the store is closed, and closing wait for those that are in.

use lease_events::store::AppendError;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::store::CLOSED;

/// Appends hold it shared. Whether it lets them in.
pub(super) struct Gate(RwLock<bool>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(RwLock::new(true))
    }

    /// Lets an append in, for as long as it holds the answer.
    pub(super) async fn enter(&self) -> Result<RwLockReadGuard<'_, bool>, AppendError> {
        // Without a wait where nobody closes: a caller that was first to ask is in before one that closes.
        let open = match self.0.try_read() {
            Ok(open) => open,
            Err(_) => self.0.read().await,
        };
        if *open { Ok(open) } else { Err(AppendError::Unavailable { cause: CLOSED.to_owned() }) }
    }

    /// Lets nobody in any more, and waits for those that are.
    pub(super) async fn close(&self) {
        *self.0.write().await = false;
    }
}
