//! One append in flight a stream: two that race would only conflict, and the second costs a call to be told so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lease_events::record::StreamId;
use tokio::sync::OwnedMutexGuard;

/// The streams that are being appended to. Holds those only.
#[derive(Default)]
pub(super) struct Turns {
    streams: Arc<Mutex<HashMap<StreamId, Arc<tokio::sync::Mutex<()>>>>>,
}

/// The right to append to a stream, until it is dropped.
pub(super) struct Turn {
    stream: StreamId,
    held: Option<OwnedMutexGuard<()>>,
    streams: Arc<Mutex<HashMap<StreamId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Turns {
    /// Waits until nobody else appends to this stream.
    pub(super) async fn take(&self, stream: &StreamId) -> Turn {
        let lock = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(streams.entry(stream.clone()).or_default())
        };
        // Made before the wait: whoever gives up waiting leaves nothing behind.
        let mut turn = Turn { stream: stream.clone(), held: None, streams: Arc::clone(&self.streams) };
        turn.held = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that wait or hold have a clone each.
        if streams.get(&self.stream).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            streams.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_stream_has_one_turn_at_a_time_and_leaves_nothing_behind() {
        let turns = Turns::default();
        let (a, b) = (StreamId::parse("a-1").unwrap(), StreamId::parse("b-1").unwrap());
        let first = turns.take(&a).await;
        let other = turns.take(&b).await;
        assert!(turns.take(&a).now_or_never().is_none());
        drop((first, other));
        drop(turns.take(&a).now_or_never().expect("it is free"));
        assert!(turns.streams.lock().unwrap().is_empty());
    }
}
