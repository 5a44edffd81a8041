//! Reads: pages of a stream or of the log, and from the log only what is ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use eventstore::{Client, ReadAllOptions, ReadStream, ReadStreamOptions, StreamPosition};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::Direction;
use uuid::Uuid;

use super::event::from_server;
use super::supervisor::{Supervisor, Trouble};

/// Events asked for in one call, which has a limit in time; of the log not all need be ours.
const PAGE_EVENTS: usize = 256;
/// The server keeps revisions and positions as signed numbers; what lies beyond is the end.
const LAST: u64 = i64::MAX.cast_unsigned();

/// Reads through a supervised client.
pub(super) struct Reader {
    pub(super) supervisor: Arc<Supervisor>,
    /// The categories of the log that are ours.
    pub(super) categories: BTreeSet<String>,
    /// A stream of the log that is taken besides.
    pub(super) also: Option<StreamId>,
}

/// Part of the log.
pub(super) struct Scanned {
    /// What is ours of it, each with the id of the append that wrote it.
    pub(super) events: Vec<(RecordedEvent, Option<Uuid>)>,
    /// How far the log was looked through.
    pub(super) to: Position,
    /// Whether that is its end, for now.
    pub(super) is_end: bool,
}

impl Reader {
    /// One that takes this stream from the log besides.
    pub(super) fn with(&self, stream: StreamId) -> Self {
        let (supervisor, categories) = (Arc::clone(&self.supervisor), self.categories.clone());
        Self { supervisor, categories, also: Some(stream) }
    }

    /// Events of one stream, each with the id of the append that wrote it.
    pub(super) async fn stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(RecordedEvent, Option<Uuid>)>, Trouble> {
        let mut events: Vec<(RecordedEvent, Option<Uuid>)> = Vec::new();
        let mut next = Some(from);
        while let Some(from) = next.filter(|from| events.len() < limit && (*from <= LAST || is_down(direction))) {
            let asked = PAGE_EVENTS.min(limit - events.len());
            let page = self.page_of_stream(stream, from, direction, asked).await?;
            next = page.last().filter(|_| page.len() == asked).and_then(|(event, _)| match direction {
                Direction::Forwards => event.stream_revision.checked_add(1),
                Direction::Backwards => event.stream_revision.checked_sub(1),
            });
            events.extend(page);
        }
        Ok(events)
    }

    async fn page_of_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        count: usize,
    ) -> Result<Vec<(RecordedEvent, Option<Uuid>)>, Trouble> {
        let start = if from > LAST { StreamPosition::End } else { StreamPosition::Position(from) };
        let options = ReadStreamOptions::default().max_count(count).position(start);
        let options = &if is_down(direction) { options.backwards() } else { options.forwards() };
        let read = self.supervisor.run(|client| async move {
            let mut answer = client.read_stream(stream.as_str(), options).await?;
            let mut events = Vec::new();
            while let Some(read) = next(&mut answer).await? {
                events.push(from_server(read)?);
            }
            Ok(events)
        });
        match read.await {
            Err(Trouble::NotFound) => Ok(Vec::new()),
            read => read,
        }
    }

    /// What is ours behind a position, at most `limit` of it.
    pub(super) async fn forwards(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, Trouble> {
        let (mut events, mut after) = (Vec::new(), after);
        while events.len() < limit {
            let scanned = self.scan(after, limit - events.len()).await?;
            after = scanned.to;
            events.extend(scanned.events.into_iter().map(|(event, _)| event));
            if scanned.is_end {
                break;
            }
        }
        Ok(events)
    }

    /// The next part of the log behind a position: what is ours of it, at most `limit`.
    pub(super) async fn scan(&self, after: Position, limit: usize) -> Result<Scanned, Trouble> {
        if after.0 > LAST {
            return Ok(Scanned { events: Vec::new(), to: after, is_end: true });
        }
        // A read takes the position itself in, and a position is only ever one of an event.
        let wanted = PAGE_EVENTS.min(limit);
        let (start, asked) = match after {
            Position::START => (StreamPosition::Start, wanted),
            after => (at(after), wanted + 1),
        };
        let mut read = self.all(ReadAllOptions::default().forwards().position(start).max_count(asked)).await?;
        let is_end = read.len() < asked;
        read.retain(|read| position_of(read) > after);
        read.truncate(wanted);
        let to = read.last().map_or(after, position_of);
        Ok(Scanned { events: self.written(read.into_iter())?, to, is_end })
    }

    /// What is ours at a position and below it, newest first, at most `limit` of it.
    pub(super) async fn backwards(&self, from: Position, limit: usize) -> Result<Vec<RecordedEvent>, Trouble> {
        let mut events = Vec::new();
        let mut start = StreamPosition::End;
        if from.0 <= LAST {
            // A read downwards leaves the position itself out.
            let options = ReadAllOptions::default().forwards().position(at(from)).max_count(1);
            let read = self.all(options).await?;
            events = self.ours(read.into_iter().filter(|read| position_of(read) == from))?;
            start = at(from);
        }
        while events.len() < limit {
            let asked = PAGE_EVENTS.min(limit - events.len());
            let options = ReadAllOptions::default().backwards().position(start).max_count(asked);
            let read = self.all(options).await?;
            let (count, last) = (read.len(), read.last().map(position_of));
            events.extend(self.ours(read.into_iter())?);
            match last {
                Some(last) if count == asked => start = at(last),
                _ => break,
            }
        }
        events.truncate(limit);
        Ok(events)
    }

    async fn all(&self, options: ReadAllOptions) -> Result<Vec<eventstore::RecordedEvent>, Trouble> {
        let read = |client: Arc<Client>| {
            let options = options.clone();
            async move {
                let mut answer = client.read_all(&options).await?;
                let mut events = Vec::new();
                while let Some(read) = next(&mut answer).await? {
                    events.push(read);
                }
                Ok(events)
            }
        };
        self.supervisor.run(read).await
    }

    fn ours(&self, read: impl Iterator<Item = eventstore::RecordedEvent>) -> Result<Vec<RecordedEvent>, Trouble> {
        Ok(self.written(read)?.into_iter().map(|(event, _)| event).collect())
    }

    /// What is ours, each with the id of the append that wrote it.
    fn written(
        &self,
        read: impl Iterator<Item = eventstore::RecordedEvent>,
    ) -> Result<Vec<(RecordedEvent, Option<Uuid>)>, Trouble> {
        let ours = read.filter(|read| {
            let is_ours = |(category, _): (&str, &str)| self.categories.contains(category);
            read.stream_id.split_once('-').is_some_and(is_ours)
                || self.also.as_ref().is_some_and(|stream| stream.as_str() == read.stream_id)
        });
        ours.map(|read| Ok(from_server(read)?)).collect()
    }
}

fn is_down(direction: Direction) -> bool {
    direction == Direction::Backwards
}

async fn next(answer: &mut ReadStream) -> Result<Option<eventstore::RecordedEvent>, Trouble> {
    Ok(answer.next().await?.and_then(|resolved| resolved.event))
}

fn at(position: Position) -> StreamPosition<eventstore::Position> {
    StreamPosition::Position(eventstore::Position { commit: position.0, prepare: position.0 })
}

fn position_of(read: &eventstore::RecordedEvent) -> Position {
    Position(read.position.commit)
}
