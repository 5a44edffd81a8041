//! `$ce-CATEGORY`: where in the log the n-th event of a category stands. Built from the log when it is first asked
//! for, and carried on from there.
//!
//! **Invariants:** link n is the n-th event of its category in the order of positions, for ever. Of every
//! [`MARK_EVERY`] events one position is kept (8 bytes): some 30 MiB for a thousand million events.

use std::collections::HashMap;
use std::sync::Arc;

use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, EventStore, ReadError};
use tokio::sync::Mutex;

use super::PAGE_EVENTS;

/// Events of a category between two positions that are kept: what a read that starts in the middle looks at in vain.
const MARK_EVERY: u64 = 256;
/// Most categories that are counted. A ledger has fewer than ten; this bounds a log of another kind.
const CATEGORIES_MAX: usize = 256;

/// Where a walk along a category starts: behind a position, with the next event of the category having this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foothold {
    pub(super) after: Position,
    pub(super) number: u64,
}

/// The index over one store.
pub(super) struct CategoryIndex {
    store: Arc<dyn EventStore>,
    counted: Mutex<Counted>,
}

/// What was counted so far.
#[derive(Default)]
struct Counted {
    /// The last position that was looked at.
    seen: Position,
    categories: HashMap<Box<str>, Category>,
}

#[derive(Default)]
struct Category {
    count: u64,
    /// The n-th: behind which position event number n × [`MARK_EVERY`] stands.
    marks: Vec<Position>,
}

impl CategoryIndex {
    pub(super) fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, counted: Mutex::default() }
    }

    /// The last foothold at or before event `number` of a category; nothing where the category has no event.
    pub(super) async fn foothold(&self, category: &str, number: u64) -> Result<Option<Foothold>, ReadError> {
        let mut counted = self.counted.lock().await;
        while counted.count(category) <= number && counted.look_on(&*self.store).await? {}
        Ok(counted.foothold(category, number))
    }

    /// Behind the last event of a category, and how many events it has.
    pub(super) async fn end(&self, category: &str) -> Result<Foothold, ReadError> {
        let mut counted = self.counted.lock().await;
        while counted.look_on(&*self.store).await? {}
        Ok(Foothold { after: counted.seen, number: counted.count(category) })
    }
}

impl Counted {
    /// Counts the next page of the log; false at its end.
    async fn look_on(&mut self, store: &dyn EventStore) -> Result<bool, ReadError> {
        let page = store.read_all(self.seen, Direction::Forwards, PAGE_EVENTS).await?;
        for event in &page {
            self.count_in(event);
        }
        Ok(!page.is_empty())
    }

    fn count_in(&mut self, event: &RecordedEvent) {
        let name = event.stream_id.category();
        if self.categories.len() < CATEGORIES_MAX && !self.categories.contains_key(name) {
            self.categories.insert(name.into(), Category::default());
        }
        if let Some(category) = self.categories.get_mut(name) {
            if category.count.is_multiple_of(MARK_EVERY) {
                category.marks.push(self.seen);
            }
            category.count += 1;
        }
        self.seen = event.position;
    }

    fn count(&self, category: &str) -> u64 {
        self.categories.get(category).map_or(0, |category| category.count)
    }

    fn foothold(&self, category: &str, number: u64) -> Option<Foothold> {
        let marks = &self.categories.get(category)?.marks;
        let last = marks.len().checked_sub(1)?;
        let index = usize::try_from(number / MARK_EVERY).map_or(last, |index| index.min(last));
        Some(Foothold { after: marks[index], number: index as u64 * MARK_EVERY })
    }
}

#[cfg(test)]
mod tests {
    use lease_events::id::{CompanyId, EventId};
    use lease_events::record::{NewEvent, StreamId};
    use lease_events::seam::SystemClock;
    use lease_events::store::{Append, Expected};
    use lease_stores::memory::MemoryStore;

    use super::*;

    async fn append(store: &dyn EventStore, stream: &str, number: u64) {
        let event = NewEvent {
            event_id: EventId::derived(&[stream, &number.to_string()]),
            event_type: "counted",
            schema_version: 1,
            company_id: CompanyId::derived(&["category"]),
            data: "{}".into(),
            metadata: "{}".into(),
        };
        let expected = Expected::after(number.checked_sub(1));
        let append = Append { stream: StreamId::parse(stream).unwrap(), expected, events: vec![event] };
        store.append(append).await.unwrap();
    }

    #[tokio::test]
    async fn every_number_is_found_from_its_foothold_while_the_log_grows() {
        let store: Arc<dyn EventStore> = MemoryStore::new(Arc::new(SystemClock), None);
        let index = CategoryIndex::new(Arc::clone(&store));
        assert_eq!(index.foothold("a", 0).await, Ok(None));
        assert_eq!(index.end("a").await, Ok(Foothold { after: Position(0), number: 0 }));
        for number in 0..600 {
            append(&*store, "a-1", number).await;
            append(&*store, "b-1", number).await;
        }
        // Event n of "a" stands at 2n + 1.
        for number in [0, 1, 255, 256, 257, 599] {
            let foothold = index.foothold("a", number).await.unwrap().unwrap();
            assert!(foothold.number <= number && number - foothold.number < MARK_EVERY, "{number}: {foothold:?}");
            assert_eq!(foothold.after.0, 2 * foothold.number, "{number}");
        }
        assert_eq!(index.end("b").await, Ok(Foothold { after: Position(1_200), number: 600 }));
        append(&*store, "a-1", 600).await;
        assert_eq!(index.end("a").await, Ok(Foothold { after: Position(1_201), number: 601 }));
        // Beyond the end: the last foothold there is.
        assert_eq!(index.foothold("a", u64::MAX).await, Ok(Some(Foothold { after: Position(1_024), number: 512 })));
    }
}
