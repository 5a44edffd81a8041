//! A store whose streams of the category `contract` have another one on its server, which keeps what earlier runs wrote.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, ReadError, Subscription,
};

pub(super) struct Renamed {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) category: String,
}

impl Renamed {
    fn there(&self, stream: &StreamId) -> StreamId {
        named(stream, &self.category)
    }
}

fn named(stream: &StreamId, category: &str) -> StreamId {
    let (_, id) = stream.as_str().split_once('-').expect("a stream has a category");
    StreamId::parse(&format!("{category}-{id}")).expect("a short name")
}

fn here(mut event: RecordedEvent) -> RecordedEvent {
    event.stream_id = named(&event.stream_id, "contract");
    event
}

fn all_here(events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
    events.into_iter().map(here).collect()
}

#[async_trait]
impl EventStore for Renamed {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let there = Append { stream: self.there(&append.stream), ..append.clone() };
        match self.store.append(there).await {
            Ok(appended) => Ok(Appended { events: all_here(appended.events), ..appended }),
            Err(AppendError::WrongExpectedRevision { expected, actual, .. }) => {
                Err(AppendError::WrongExpectedRevision { stream: append.stream, expected, actual })
            }
            Err(error) => Err(error),
        }
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(all_here(self.store.read_stream(&self.there(stream), from, direction, limit).await?))
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(all_here(self.store.read_all(from, direction, limit).await?))
    }

    async fn head(&self) -> Result<Position, ReadError> {
        self.store.head().await
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        Ok(Box::pin(self.store.subscribe(after).await?.map(|event| event.map(here))))
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
