//! Subscriptions: page by page from the last position, then looking again, soon and then less often.
//!
//! The client crate's own subscription is not used: where a server ends one in order, it spins without ever yielding, and
//! nothing outside it can stop that. Looking costs an idle ledger one small read a second, and an append through this same
//! store is seen at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{ReadError, Subscription};
use tokio::sync::watch;
use tokio::time::sleep;

use super::reader::Reader;
use super::store::CLOSED;
use super::supervisor::Trouble;

/// Events taken at a time: a slow subscriber holds no more than this.
pub(super) const PAGE_EVENTS: usize = 256;
/// How long to wait before looking again, after something was found; twice as long each time nothing is.
pub(super) const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(20);
pub(super) const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// What wakes and ends subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Appends through this store so far.
    pub(super) appends: u64,
    pub(super) is_closed: bool,
}

struct Follower {
    reader: Arc<Reader>,
    state: watch::Receiver<State>,
    /// The checkpoint: everything up to here was looked at.
    last: Position,
    page: VecDeque<RecordedEvent>,
    wait: Duration,
}

/// Every event of ours behind `after`.
pub(super) fn subscribe(reader: Arc<Reader>, state: watch::Receiver<State>, after: Position) -> Subscription {
    let follower = Follower { reader, state, last: after, page: VecDeque::new(), wait: LOOK_AGAIN_FIRST };
    Box::pin(stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(event) => Some((Ok(event), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Follower {
    async fn next(&mut self) -> Result<RecordedEvent, ReadError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(event);
            }
            // Marked as seen before the read: what is appended between the two is either read or ends the wait.
            if self.state.borrow_and_update().is_closed {
                return Err(ReadError::Unavailable { cause: CLOSED.to_owned() });
            }
            let scanned = self.reader.scan(self.last, PAGE_EVENTS).await.map_err(Trouble::of_read)?;
            if scanned.to > self.last {
                self.wait = LOOK_AGAIN_FIRST;
            }
            self.last = scanned.to;
            self.page = scanned.events.into_iter().map(|(event, _)| event).collect();
            if self.page.is_empty() && scanned.is_end {
                self.look_later().await?;
            }
        }
    }

    async fn look_later(&mut self) -> Result<(), ReadError> {
        tokio::select! {
            () = sleep(self.wait) => {
                self.wait = (self.wait * 2).min(LOOK_AGAIN_MAX);
                Ok(())
            }
            changed = self.state.changed() => {
                self.wait = LOOK_AGAIN_FIRST;
                changed.map_err(|_| ReadError::Unavailable { cause: CLOSED.to_owned() })
            }
        }
    }
}
