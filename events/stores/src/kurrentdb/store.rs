//! The store: the port over a supervised client.

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::record::{CATEGORIES, Position, RecordedEvent, StreamId};
use lease_events::seam::{Clock, Ids};
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, READ_EVENTS_MAX, ReadError, Subscription,
    check_limits,
};
use tokio::sync::watch;

use super::gate::Gate;
use super::reader::Reader;
use super::subscribe::{State, subscribe};
use super::supervisor::{Supervisor, Trouble};
use super::turns::Turns;
use super::writer;

/// What a closed store answers.
pub(super) const CLOSED: &str = "it is closed";

/// What the store is opened with.
pub struct KurrentOptions {
    /// The client's connection string, `esdb://HOST:PORT,…?tls=…`.
    pub url: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names each append.
    pub ids: Arc<dyn Ids>,
    /// The categories of streams that are read from the log; those of a ledger where it is empty.
    pub categories: Vec<String>,
}

/// A text that is no connection string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the connection string of KurrentDB cannot be read ({cause}); give esdb://HOST:PORT, such as esdb://localhost:2113?tls=false"
)]
pub struct InvalidKurrentUrl {
    /// What the client said; never the string itself, which may hold a password.
    pub cause: String,
}

/// Events in KurrentDB.
pub struct KurrentStore {
    pub(super) reader: Arc<Reader>,
    pub(super) turns: Turns,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    gate: Gate,
    state: watch::Sender<State>,
}

impl KurrentStore {
    /// Opens the store. The server need not be there: each call tries until it is, or its time is up.
    pub fn open(options: KurrentOptions) -> Result<Arc<Self>, InvalidKurrentUrl> {
        let parsed = options.url.parse::<eventstore::ClientSettings>();
        let settings = parsed.map_err(|error| InvalidKurrentUrl {
            cause: error.error().map_or_else(|| "it has a part that means nothing".to_owned(), ToString::to_string),
        })?;
        let mut categories = options.categories;
        if categories.is_empty() {
            categories.extend(CATEGORIES.iter().map(|category| (*category).to_owned()));
        }

        let (supervisor, categories) = (Arc::new(Supervisor::new(settings)), categories.into_iter().collect());
        let reader = Reader { supervisor, categories, also: None };
        Ok(Arc::new(Self {
            reader: Arc::new(reader),
            turns: Turns::default(),
            clock: options.clock,
            ids: options.ids,
            gate: Gate::new(),
            state: watch::Sender::new(State { appends: 0, is_closed: false }),
        }))
    }

    fn check_open(&self) -> Result<(), ReadError> {
        if self.state.borrow().is_closed { Err(ReadError::Unavailable { cause: CLOSED.to_owned() }) } else { Ok(()) }
    }
}

#[async_trait]
impl EventStore for KurrentStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { several_processes: true, gap_free_positions: false, inline_projections: false, durable: true }
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let _in = self.gate.enter().await?;
        let turn = self.turns.take(&append.stream).await;
        let appended = writer::append(&self.reader, &append, self.ids.fresh(), self.clock.now()).await;
        drop(turn);
        self.state.send_modify(|state| state.appends += 1);
        appended
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.check_open()?;
        let read = self.reader.stream(stream, from, direction, limit.min(READ_EVENTS_MAX)).await;
        let read = read.map_err(Trouble::of_read)?;
        Ok(read.into_iter().map(|(event, _)| event).collect())
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.check_open()?;
        let limit = limit.min(READ_EVENTS_MAX);
        let read = match direction {
            Direction::Forwards => self.reader.forwards(from, limit).await,
            Direction::Backwards if from == Position::START => Ok(Vec::new()),
            Direction::Backwards => self.reader.backwards(from, limit).await,
        };
        read.map_err(Trouble::of_read)
    }

    async fn head(&self) -> Result<Position, ReadError> {
        let last = self.read_all(Position(u64::MAX), Direction::Backwards, 1).await?;
        Ok(last.first().map_or(Position::START, |event| event.position))
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        self.check_open()?;
        Ok(subscribe(Arc::clone(&self.reader), self.state.subscribe(), after))
    }

    async fn close(&self) {
        self.gate.close().await;
        self.state.send_modify(|state| state.is_closed = true);
    }
}
