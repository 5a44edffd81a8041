//! Reads that end: of a stream, of a category, of the whole log, either way.

use std::sync::Arc;

use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{Direction, EventStore, ReadError};

use super::PAGE_EVENTS;
use super::answer::{Answers, Ended};
use super::category::{CategoryIndex, Foothold};
use super::event::Speller;
use super::filter::Filter;
use super::messages::StreamIdentifier;
use super::messages::streams::{Content, StreamNotFound};
use super::query::{From, category_stream};
use super::refusal::unreadable;

/// What a read works with.
pub(super) struct Reader<'a> {
    pub(super) store: &'a Arc<dyn EventStore>,
    pub(super) index: &'a CategoryIndex,
    pub(super) speller: Speller,
    pub(super) answers: &'a Answers,
}

/// The first page is as small as what is asked for.
fn page(count: u64) -> usize {
    usize::try_from(count).map_or(PAGE_EVENTS, |count| count.min(PAGE_EVENTS))
}

pub(super) fn not_found(stream: &str) -> Content {
    Content::StreamNotFound(StreamNotFound { stream_identifier: Some(StreamIdentifier::of(stream)) })
}

impl Reader<'_> {
    /// One stream, from a revision on or down, itself included.
    pub(super) async fn stream(
        &self,
        name: &str,
        from: From,
        direction: Direction,
        mut count: u64,
    ) -> Result<(), Ended> {
        // A name without a category is no stream of a ledger.
        let stream = StreamId::parse(name).ok();
        let Some((stream, last)) = self.last_of(stream).await? else { return self.answers.give(not_found(name)).await };
        let mut next = match (from, direction) {
            (From::Start, _) => Some(0),
            (From::At(revision), Direction::Forwards) => Some(revision),
            (From::At(revision), Direction::Backwards) => Some(revision.min(last)),
            (From::End, Direction::Backwards) => Some(last),
            (From::End, Direction::Forwards) => None,
        };
        while let Some(from) = next.filter(|_| count > 0) {
            let events = self.store.read_stream(&stream, from, direction, page(count)).await.map_err(read_error)?;
            for event in &events {
                self.answers.give(self.speller.event(event)).await?;
            }
            count -= events.len() as u64;
            next = events.last().and_then(|event| behind(event.stream_revision, direction));
        }
        if self.speller.style.tells_ends && next.is_none() {
            let end = match direction {
                Direction::Forwards => Content::LastStreamPosition(last),
                Direction::Backwards => Content::FirstStreamPosition(0),
            };
            self.answers.give(end).await?;
        }
        Ok(())
    }

    async fn last_of(&self, stream: Option<StreamId>) -> Result<Option<(StreamId, u64)>, Ended> {
        let Some(stream) = stream else { return Ok(None) };
        let last = self.store.read_stream(&stream, u64::MAX, Direction::Backwards, 1).await.map_err(read_error)?;
        Ok(last.first().map(|event| (stream, event.stream_revision)))
    }

    /// The log, from a position on (itself included), or below it (itself not included).
    pub(super) async fn all(
        &self,
        filter: Option<&Filter>,
        from: From,
        direction: Direction,
        mut count: u64,
    ) -> Result<(), Ended> {
        let mut next = match (from, direction) {
            (From::Start, Direction::Forwards) => Some(Position::START),
            // The store's own reads leave the position itself out forwards, and take it in backwards.
            (From::At(position), _) => Some(Position(position.saturating_sub(1))),
            (From::End, Direction::Backwards) => Some(Position(u64::MAX)),
            (From::Start, Direction::Backwards) | (From::End, Direction::Forwards) => None,
        };
        let size = if filter.is_some() { PAGE_EVENTS } else { page(count) };
        while let Some(from) = next.filter(|_| count > 0) {
            let events = self.store.read_all(from, direction, size).await.map_err(read_error)?;
            for event in &events {
                if count > 0 && filter.map_or(Ok(true), |filter| filter.takes(event))? {
                    self.answers.give(self.speller.event(event)).await?;
                    count -= 1;
                }
            }
            next = events.last().map(|event| match direction {
                Direction::Forwards => event.position,
                Direction::Backwards => Position(event.position.0.saturating_sub(1)),
            });
        }
        Ok(())
    }

    /// The links of a category, from a number on or down, itself included.
    pub(super) async fn category(
        &self,
        category: &str,
        from: From,
        direction: Direction,
        count: u64,
    ) -> Result<(), Ended> {
        let exists = self.index.foothold(category, 0).await.map_err(read_error)?.is_some();
        if !exists {
            return self.answers.give(not_found(&category_stream(category))).await;
        }
        match (direction, from) {
            (_, From::Start) => self.links_forwards(category, 0, bounded(direction, count)).await,
            (Direction::Forwards, From::At(number)) => self.links_forwards(category, number, count).await,
            (Direction::Forwards, From::End) => Ok(()),
            (Direction::Backwards, from) => self.links_backwards(category, from, count).await,
        }
    }

    async fn links_forwards(&self, category: &str, first: u64, mut count: u64) -> Result<(), Ended> {
        let Some(mut walk) = self.index.foothold(category, first).await.map_err(read_error)? else { return Ok(()) };
        while count > 0 {
            let events = self.store.read_all(walk.after, Direction::Forwards, PAGE_EVENTS).await.map_err(read_error)?;
            let Some(last) = events.last() else { return Ok(()) };
            walk.after = last.position;
            for event in events.iter().filter(|event| event.stream_id.category() == category) {
                if walk.number >= first && count > 0 {
                    self.answers.give(self.speller.link(category, walk.number, event)).await?;
                    count -= 1;
                }
                walk.number += 1;
            }
        }
        Ok(())
    }

    async fn links_backwards(&self, category: &str, from: From, mut count: u64) -> Result<(), Ended> {
        let end = self.index.end(category).await.map_err(read_error)?;
        let last = end.number.saturating_sub(1);
        let (mut next, mut number) = match from {
            From::At(number) if number < last => (self.position_of(category, number).await?, number),
            _ => (end.after, last),
        };
        while count > 0 && next > Position::START {
            let events = self.store.read_all(next, Direction::Backwards, PAGE_EVENTS).await.map_err(read_error)?;
            let Some(oldest) = events.last() else { return Ok(()) };
            next = Position(oldest.position.0.saturating_sub(1));
            for event in events.iter().filter(|event| event.stream_id.category() == category) {
                if count > 0 {
                    self.answers.give(self.speller.link(category, number, event)).await?;
                    count -= 1;
                }
                number = number.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Where the `number`-th event of a category stands.
    async fn position_of(&self, category: &str, number: u64) -> Result<Position, Ended> {
        let start = Foothold { after: Position::START, number: 0 };
        let mut walk = self.index.foothold(category, number).await.map_err(read_error)?.unwrap_or(start);
        loop {
            let events = self.store.read_all(walk.after, Direction::Forwards, PAGE_EVENTS).await.map_err(read_error)?;
            let Some(last) = events.last() else { return Ok(walk.after) };
            walk.after = last.position;
            for event in events.iter().filter(|event| event.stream_id.category() == category) {
                if walk.number == number {
                    return Ok(event.position);
                }
                walk.number += 1;
            }
        }
    }
}

/// From the start backwards there is one: the first.
fn bounded(direction: Direction, count: u64) -> u64 {
    if direction == Direction::Backwards { count.min(1) } else { count }
}

/// The revision that comes next, where there can be one.
fn behind(revision: u64, direction: Direction) -> Option<u64> {
    match direction {
        Direction::Forwards => revision.checked_add(1),
        Direction::Backwards => revision.checked_sub(1),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
pub(super) fn read_error(error: ReadError) -> Ended {
    Ended::Refused(unreadable(&error))
}

/// Whether this event belongs to that stream.
pub(super) fn is_of(event: &RecordedEvent, stream: &str) -> bool {
    event.stream_id.as_str() == stream
}
