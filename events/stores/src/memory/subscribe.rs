//! Subscriptions to the memory store: pages from the log, then a wait for the head to move. No task of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::stream;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, ReadError, Subscription};
use tokio::sync::watch;

use super::{CLOSED, Log, open};

/// Events taken from the log at a time: the lock is held shortly, and a slow subscriber holds no more than this.
const PAGE_EVENTS: usize = 256;

struct Follower {
    log: Arc<Mutex<Log>>,
    head: watch::Receiver<Position>,
    last: Position,
    page: VecDeque<RecordedEvent>,
}

/// Every event behind `after`.
pub(super) fn subscribe(log: Arc<Mutex<Log>>, head: watch::Receiver<Position>, after: Position) -> Subscription {
    let follower = Follower { log, head, last: after, page: VecDeque::new() };
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
                self.last = event.position;
                return Ok(event);
            }
            // Marked as seen before the read: what is appended between the two is either read or wakes the wait.
            self.head.mark_unchanged();
            self.page = open(&self.log)?.all(self.last, Direction::Forwards, PAGE_EVENTS).into();
            if self.page.is_empty() && self.head.changed().await.is_err() {
                return Err(ReadError::Unavailable { cause: CLOSED.to_owned() });
            }
        }
    }
}
