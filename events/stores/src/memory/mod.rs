//! The memory store: for tests, and for running the whole ledger under a simulated clock.
//!
//! **Invariants:** one lock orders everything; there is no task, timer or thread, so under a paused clock the same
//! calls give the same log. Nothing survives the store.

mod subscribe;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::SubsecRound;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::seam::Clock;
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, READ_EVENTS_MAX, ReadError, Subscription,
    check_limits, recorded,
};
use tokio::sync::watch;

use crate::append_hook::MemoryAppendHook;
use crate::standing::{Standing, is_repetition, standing, wrong_revision};

/// What a closed store answers.
const CLOSED: &str = "it is closed";

/// Events in memory, behind one lock.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    hook: Option<Arc<dyn MemoryAppendHook>>,
    log: Arc<Mutex<Log>>,
    head: watch::Sender<Position>,
}

/// What the lock guards.
#[derive(Default)]
struct Log {
    /// By position: position N stands at N - 1.
    events: Vec<RecordedEvent>,
    /// By stream: where its events stand in `events`, in order.
    streams: HashMap<StreamId, Vec<usize>>,
    closed: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, hook: Option<Arc<dyn MemoryAppendHook>>) -> Arc<Self> {
        Arc::new(Self { clock, hook, log: Arc::default(), head: watch::Sender::new(Position::START) })
    }

    fn open_log(&self) -> Result<MutexGuard<'_, Log>, ReadError> {
        open(&self.log)
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { several_processes: false, gap_free_positions: true, inline_projections: true, durable: false }
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let mut log = self.open_log().map_err(|_| AppendError::Unavailable { cause: CLOSED.to_owned() })?;
        let last = log.last_revision(&append.stream);
        let first = match standing(&append, last) {
            Standing::Next(first) => first,
            Standing::Behind(first) => {
                let events = log.stream(&append.stream, first, Direction::Forwards, append.events.len());
                return if is_repetition(&append, &events) {
                    Ok(Appended { events, repeated: true })
                } else {
                    Err(wrong_revision(&append, last))
                };
            }
            Standing::Apart => return Err(wrong_revision(&append, last)),
        };
        let at = self.clock.now().trunc_subsecs(6);
        let events: Vec<RecordedEvent> = (append.events.into_iter().zip(first..))
            .zip(log.events.len() as u64 + 1..)
            .map(|((event, revision), position)| recorded(event, &append.stream, revision, Position(position), at))
            .collect();
        log.push(append.stream, &events);
        if let Some(hook) = &self.hook {
            hook.on_append(&events);
        }
        // Still under the lock: those who wait for a position are told in the order of positions.
        self.head.send_replace(Position(log.events.len() as u64));
        Ok(Appended { events, repeated: false })
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(self.open_log()?.stream(stream, from, direction, limit.min(READ_EVENTS_MAX)))
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        Ok(self.open_log()?.all(from, direction, limit.min(READ_EVENTS_MAX)))
    }

    async fn head(&self) -> Result<Position, ReadError> {
        Ok(Position(self.open_log()?.events.len() as u64))
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        drop(self.open_log()?);
        Ok(subscribe::subscribe(Arc::clone(&self.log), self.head.subscribe(), after))
    }

    async fn close(&self) {
        lock(&self.log).closed = true;
        // Those who wait learn of the end.
        self.head.send_modify(|_| ());
    }
}

impl Log {
    fn last_revision(&self, stream: &StreamId) -> Option<u64> {
        self.streams.get(stream).and_then(|places| places.len().checked_sub(1)).map(|last| last as u64)
    }

    fn push(&mut self, stream: StreamId, events: &[RecordedEvent]) {
        let start = self.events.len();
        self.events.extend_from_slice(events);
        self.streams.entry(stream).or_default().extend(start..self.events.len());
    }

    fn stream(&self, stream: &StreamId, from: u64, direction: Direction, limit: usize) -> Vec<RecordedEvent> {
        let places = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let events = slice(places, from, direction).map(|place| &self.events[*place]);
        take(events, direction, limit)
    }

    fn all(&self, from: Position, direction: Direction, limit: usize) -> Vec<RecordedEvent> {
        // Position N stands at N - 1: forwards begins behind `from`, backwards at it.
        let from = match direction {
            Direction::Forwards => from.0,
            Direction::Backwards if from == Position::START => return Vec::new(),
            Direction::Backwards => from.0 - 1,
        };
        take(slice(&self.events, from, direction), direction, limit)
    }
}

/// The items from `from` on, or up to it (inclusive), oldest first.
fn slice<T>(items: &[T], from: u64, direction: Direction) -> std::slice::Iter<'_, T> {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    match direction {
        Direction::Forwards => items[from.min(items.len())..].iter(),
        Direction::Backwards => items[..from.saturating_add(1).min(items.len())].iter(),
    }
}

fn take<'a>(
    events: impl DoubleEndedIterator<Item = &'a RecordedEvent>,
    direction: Direction,
    limit: usize,
) -> Vec<RecordedEvent> {
    match direction {
        Direction::Forwards => events.take(limit).cloned().collect(),
        Direction::Backwards => events.rev().take(limit).cloned().collect(),
    }
}

/// The log, whoever panicked under its lock: a hook runs only when the events are stored.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(log: &Mutex<Log>) -> Result<MutexGuard<'_, Log>, ReadError> {
    let log = lock(log);
    if log.closed { Err(ReadError::Unavailable { cause: CLOSED.to_owned() }) } else { Ok(log) }
}
