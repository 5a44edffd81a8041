//! Subscriptions: pages of the log, then a wait for a commit of this process, or a look every so often for those of
//! others. No task of their own; a slow subscriber holds one page and no snapshot.
//!
//! **Invariant:** each position is given once, in order; a log with a hole in it ends the subscription with an error.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, ReadError, Subscription};
use sqlx::SqlitePool;
use tokio::sync::watch;

use super::reader;

/// Events read at a time.
const PAGE_EVENTS: usize = 256;
/// How often a waiting subscriber looks for what another process appended: half of it is the mean delay, and a look
/// at an unchanged log costs some 20 microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

struct Follower {
    readers: SqlitePool,
    head: watch::Receiver<Position>,
    last: Position,
    page: VecDeque<RecordedEvent>,
}

/// Every event behind `after`.
pub(super) fn subscribe(readers: SqlitePool, head: watch::Receiver<Position>, after: Position) -> Subscription {
    let follower = Follower { readers, head, last: after, page: VecDeque::new() };
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
                if event.position != self.last.next() {
                    return Err(missing(self.last.next(), event.position));
                }
                self.last = event.position;
                return Ok(event);
            }
            // Marked as seen before the read: what is committed between the two is either read or wakes the wait.
            self.head.mark_unchanged();
            self.page = reader::all(&self.readers, self.last, Direction::Forwards, PAGE_EVENTS).await?.into();
            if self.page.is_empty() {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            // When the writer has ended, only the poll is left, until the pool is closed too.
            Ok(()) = self.head.changed() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

fn missing(expected: Position, found: Position) -> ReadError {
    let cause = format!("the event is missing; the next one there is at {found}");
    ReadError::Corrupt { position: expected, column: "position", cause }
}
