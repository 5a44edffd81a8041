//! Catch-up subscriptions: what is there behind a point, then "caught up", then what comes, without a seam.

use std::convert::Infallible;

use futures_util::StreamExt;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::Direction;
use uuid::Uuid;

use super::PAGE_EVENTS;
use super::answer::Ended;
use super::filter::Filter;
use super::messages::Empty;
use super::messages::streams::{AllPosition, Confirmation, Content};
use super::query::From;
use super::reading::{Reader, is_of, read_error};
use super::refusal::stopping;

/// What a subscription does with each event of the log behind its start.
trait Picks: Send {
    /// What to give for this event, in order.
    fn pick(&mut self, event: &RecordedEvent) -> Result<Vec<Content>, Ended>;
}

impl Reader<'_> {
    /// Tells the client that its subscription stands: whatever is appended from now on is behind its start.
    async fn confirm(&self, id: Uuid) -> Result<(), Ended> {
        self.answers.give(Content::Confirmation(Confirmation { subscription_id: id.to_string() })).await
    }

    /// The log behind a position.
    pub(super) async fn follow_all(&self, id: Uuid, filter: Option<&Filter>, from: From) -> Result<Infallible, Ended> {
        let head = self.store.head().await.map_err(read_error)?;
        let after = match from {
            From::Start => Position::START,
            From::At(position) => Position(position),
            From::End => head,
        };
        self.confirm(id).await?;
        self.follow(after, Some(head), All { reader: self, filter, looked_at: 0 }).await
    }

    /// A stream behind a revision; it need not be there yet.
    pub(super) async fn follow_stream(&self, id: Uuid, name: &str, from: From) -> Result<Infallible, Ended> {
        // Taken first: whatever is appended from here on is seen by the subscription, and perhaps by the reads too.
        let head = self.store.head().await.map_err(read_error)?;
        let mut last = match from {
            From::Start => None,
            From::At(revision) => Some(revision),
            From::End => self.last_revision(name).await?,
        };
        self.confirm(id).await?;
        if let Ok(stream) = StreamId::parse(name) {
            loop {
                let next = last.map_or(0, |last| last.saturating_add(1));
                let page = self.store.read_stream(&stream, next, Direction::Forwards, PAGE_EVENTS).await;
                let page = page.map_err(read_error)?;
                for event in &page {
                    self.answers.give(self.speller.event(event)).await?;
                }
                let Some(event) = page.last() else { break };
                last = Some(event.stream_revision);
            }
        }
        self.answers.give(Content::CaughtUp(Empty {})).await?;
        self.follow(head, None, Stream { reader: self, name, last }).await
    }

    async fn last_revision(&self, name: &str) -> Result<Option<u64>, Ended> {
        let Ok(stream) = StreamId::parse(name) else { return Ok(None) };
        let last = self.store.read_stream(&stream, u64::MAX, Direction::Backwards, 1).await.map_err(read_error)?;
        Ok(last.first().map(|event| event.stream_revision))
    }

    /// The links of a category behind a number; it need not be there yet.
    pub(super) async fn follow_category(&self, id: Uuid, category: &str, from: From) -> Result<Infallible, Ended> {
        let head = self.store.head().await.map_err(read_error)?;
        let first = match from {
            From::Start => 0,
            From::At(number) => number.saturating_add(1),
            From::End => self.index.end(category).await.map_err(read_error)?.number,
        };
        let foothold = self.index.foothold(category, first).await.map_err(read_error)?;
        self.confirm(id).await?;
        let (after, number) = foothold.map_or((Position::START, 0), |foothold| (foothold.after, foothold.number));
        self.follow(after, Some(head), Category { reader: self, name: category, first, number }).await
    }

    /// Gives what `picks` takes of everything behind `after`, and says when `head` is reached, where there is one.
    async fn follow(
        &self,
        after: Position,
        head: Option<Position>,
        mut picks: impl Picks,
    ) -> Result<Infallible, Ended> {
        let mut behind = head.filter(|head| after < *head);
        if head.is_some() && behind.is_none() {
            self.answers.give(Content::CaughtUp(Empty {})).await?;
        }
        let mut events = self.store.subscribe(after).await.map_err(read_error)?;
        while let Some(event) = events.next().await {
            let event = event.map_err(read_error)?;
            for content in picks.pick(&event)? {
                self.answers.give(content).await?;
            }
            if behind.is_some_and(|head| event.position >= head) {
                behind = None;
                self.answers.give(Content::CaughtUp(Empty {})).await?;
            }
        }
        // A subscription to a store has no end but the store's own.
        Err(stopping().into())
    }
}

struct All<'a> {
    reader: &'a Reader<'a>,
    filter: Option<&'a Filter>,
    /// Events since the last checkpoint.
    looked_at: u64,
}

impl Picks for All<'_> {
    fn pick(&mut self, event: &RecordedEvent) -> Result<Vec<Content>, Ended> {
        let Some(filter) = self.filter else { return Ok(vec![self.reader.speller.event(event)]) };
        let mut contents = Vec::new();
        if filter.takes(event)? {
            contents.push(self.reader.speller.event(event));
        }
        self.looked_at += 1;
        if self.looked_at >= filter.checkpoint_every {
            self.looked_at = 0;
            let position = event.position.0;
            contents.push(Content::Checkpoint(AllPosition { commit_position: position, prepare_position: position }));
        }
        Ok(contents)
    }
}

struct Stream<'a> {
    reader: &'a Reader<'a>,
    name: &'a str,
    last: Option<u64>,
}

impl Picks for Stream<'_> {
    fn pick(&mut self, event: &RecordedEvent) -> Result<Vec<Content>, Ended> {
        let is_new = self.last.is_none_or(|last| event.stream_revision > last);
        Ok(if is_new && is_of(event, self.name) { vec![self.reader.speller.event(event)] } else { Vec::new() })
    }
}

struct Category<'a> {
    reader: &'a Reader<'a>,
    name: &'a str,
    /// The first that is wanted.
    first: u64,
    /// The next event's number.
    number: u64,
}

impl Picks for Category<'_> {
    fn pick(&mut self, event: &RecordedEvent) -> Result<Vec<Content>, Ended> {
        if event.stream_id.category() != self.name {
            return Ok(Vec::new());
        }
        let number = self.number;
        self.number += 1;
        let wanted = number >= self.first;
        Ok(if wanted { vec![self.reader.speller.link(self.name, number, event)] } else { Vec::new() })
    }
}
