//! Hot rows: the typed states of the rows that were written last, so that an event costs neither a read nor a parse.
//!
//! **Invariant:** a state that is here is the one in the database, seen from the writer's transaction. Whoever works
//! on rows takes them out and puts them back when they are written; what fails on the way is simply not here.

use std::sync::Arc;

use lru::LruCache;

use crate::projection::{AnyState, Value};

/// Most rows that are kept: some minutes of a busy fleet.
const ROWS_MAX: usize = 20_000;
/// Most bytes of row text that are kept; the typed states take a small multiple of it.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What the writer knows of the row that a state makes in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing: it may be there or not.
    Unknown,
    /// It is not there.
    Absent,
    /// It is there, with these values in the columns that may change, but for the state's, which is the longest and
    /// changes with every event.
    Present(Vec<Value>),
}

/// A row in the hands of the writer.
pub(crate) struct HotRow {
    /// The state; `None` where it is not there.
    pub(crate) state: Option<AnyState>,
    /// What each table shows of it.
    pub(crate) shown: Vec<Shown>,
    /// Its weight: bytes of text when it was written last.
    pub(crate) bytes: usize,
}

/// The hot rows of one fold.
pub(crate) struct HotRows {
    rows: LruCache<Arc<str>, HotRow>,
    bytes: usize,
}

impl Default for HotRows {
    fn default() -> Self {
        Self { rows: LruCache::unbounded(), bytes: 0 }
    }
}

impl HotRows {
    /// Takes a row out.
    pub(crate) fn take(&mut self, key: &str) -> Option<HotRow> {
        let row = self.rows.pop(key)?;
        self.bytes -= row.bytes;
        Some(row)
    }

    /// Puts a written row back; the ones that were not used for longest make room.
    pub(crate) fn put(&mut self, key: Arc<str>, row: HotRow) {
        if row.state.is_none() || row.bytes > BYTES_MAX {
            return;
        }
        self.bytes += row.bytes;
        if let Some(before) = self.rows.put(key, row) {
            self.bytes -= before.bytes;
        }
        while self.rows.len() > ROWS_MAX || self.bytes > BYTES_MAX {
            match self.rows.pop_lru() {
                Some((_, row)) => self.bytes -= row.bytes,
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: usize) -> HotRow {
        HotRow { state: Some(Box::new(())), shown: vec![], bytes }
    }

    #[test]
    fn rows_and_bytes_are_bounded_and_the_oldest_go_first() {
        let mut hot = HotRows::default();
        for number in 0..=ROWS_MAX {
            hot.put(number.to_string().into(), row(1));
        }
        assert!(hot.take("0").is_none());
        assert!(hot.take(&ROWS_MAX.to_string()).is_some());
        hot.put("heavy".into(), row(BYTES_MAX));
        assert!(hot.take("1").is_none());
        assert!(hot.take("heavy").is_some());
        assert_eq!(hot.bytes, 0);
    }
}
