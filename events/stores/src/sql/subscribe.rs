//! Subscriptions: pages of the log, then a wait for a commit of this process, or a look every so often for those of
//! others. No task of their own; a slow subscriber holds one page and no snapshot.
//!
//! **Invariant:** each position is given once, in order; a log with a hole in it ends the subscription with an error.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures_util::stream;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{ReadError, Subscription};
use tokio::sync::watch;

/// Events read at a time.
const PAGE_EVENTS: usize = 256;

/// Where a subscription reads.
pub(crate) trait Pages: Send + Sync + 'static {
    /// Up to `limit` events behind `after`.
    fn page(&self, after: Position, limit: usize)
    -> impl Future<Output = Result<Vec<RecordedEvent>, ReadError>> + Send;
}

struct Follower<P> {
    pages: P,
    /// How often it looks for what it was not woken for.
    poll: Duration,
    head: watch::Receiver<Position>,
    last: Position,
    page: VecDeque<RecordedEvent>,
}

/// Every event behind `after`.
pub(crate) fn subscribe(
    pages: impl Pages,
    head: watch::Receiver<Position>,
    poll: Duration,
    after: Position,
) -> Subscription {
    let follower = Follower { pages, poll, head, last: after, page: VecDeque::new() };
    Box::pin(stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(event) => Some((Ok(event), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl<P: Pages> Follower<P> {
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
            self.page = self.pages.page(self.last, PAGE_EVENTS).await?.into();
            if self.page.is_empty() {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            // When the writer has ended, only the poll is left, until the pool is closed too.
            Ok(()) = self.head.changed() => {}
            () = tokio::time::sleep(self.poll) => {}
        }
    }
}

fn missing(expected: Position, found: Position) -> ReadError {
    let cause = format!("the event is missing; the next one there is at {found}");
    ReadError::Corrupt { position: expected, column: "position", cause }
}
