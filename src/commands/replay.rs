//! Reading a stream from some revision to its end, and folding it.
//!
//! **Invariant:** a page is read at a time, so that the longest stream needs no more memory than a page.

use futures_util::stream::{self, Stream, TryStreamExt as _};
use lease_events::fold::StreamState;
use lease_events::record::{RecordedEvent, StreamId};
use lease_events::store::{Direction, EventStore, READ_EVENTS_MAX, ReadError};

use super::error::CommandError;

/// Every event of `stream` from revision `from` on, oldest first.
pub fn events_of<'a>(
    store: &'a dyn EventStore,
    stream: &'a StreamId,
    from: u64,
) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send + Unpin + 'a {
    let pages = stream::try_unfold(Some(from), move |next| async move {
        let Some(from) = next else { return Ok(None) };
        let page = store.read_stream(stream, from, Direction::Forwards, READ_EVENTS_MAX).await?;
        let next = (page.len() == READ_EVENTS_MAX).then(|| from + page.len() as u64);
        Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
    });
    Box::pin(pages.try_flatten())
}

/// The state behind `state` after what was written to `stream` since; each event is shown to `seen`.
pub async fn catch_up<S: StreamState>(
    store: &dyn EventStore,
    stream: &StreamId,
    mut state: Option<S>,
    mut seen: impl FnMut(&RecordedEvent) + Send,
) -> Result<Option<S>, CommandError> {
    let mut events = events_of(store, stream, state.as_ref().map_or(0, |state| state.revision() + 1));
    while let Some(recorded) = events.try_next().await? {
        seen(&recorded);
        state = Some(S::apply(state, &recorded)?);
    }
    Ok(state)
}

/// The state after the first events of `stream`, as long as `includes` says so; `None` where it has none of them.
pub async fn state_until<S: StreamState>(
    store: &dyn EventStore,
    stream: &StreamId,
    mut includes: impl FnMut(&RecordedEvent) -> bool + Send,
) -> Result<Option<S>, CommandError> {
    let mut events = events_of(store, stream, 0);
    let mut state = None;
    while let Some(recorded) = events.try_next().await?.filter(&mut includes) {
        state = Some(S::apply(state, &recorded)?);
    }
    Ok(state)
}
