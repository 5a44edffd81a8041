//! Reads: short, each on its own snapshot, over the pool of read-only connections.

use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{Direction, READ_EVENTS_MAX, ReadError};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteExecutor, SqlitePool};

use super::rows::{self, integer, select_events};
use crate::sql::subscribe::Pages;

const STREAM_FORWARDS: &str =
    select_events!("WHERE stream_id = ? AND stream_revision >= ? ORDER BY stream_revision LIMIT ?");
const STREAM_BACKWARDS: &str =
    select_events!("WHERE stream_id = ? AND stream_revision <= ? ORDER BY stream_revision DESC LIMIT ?");
const ALL_FORWARDS: &str = select_events!("WHERE position > ? ORDER BY position LIMIT ?");
const ALL_BACKWARDS: &str = select_events!("WHERE position <= ? ORDER BY position DESC LIMIT ?");
pub(super) const HEAD: &str = "SELECT coalesce(max(position), 0) FROM events";

/// Events of one stream.
pub(super) async fn stream(
    executor: impl SqliteExecutor<'_>,
    stream: &StreamId,
    from: u64,
    direction: Direction,
    limit: usize,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let sql = match direction {
        Direction::Forwards => STREAM_FORWARDS,
        Direction::Backwards => STREAM_BACKWARDS,
    };
    let query = sqlx::query(sql).bind(stream.as_str()).bind(integer(from)).bind(capped(limit));
    events(&query.fetch_all(executor).await.map_err(|error| unavailable(&error))?)
}

/// Events of the whole log.
pub(super) async fn all(
    executor: impl SqliteExecutor<'_>,
    from: Position,
    direction: Direction,
    limit: usize,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let sql = match direction {
        Direction::Forwards => ALL_FORWARDS,
        Direction::Backwards => ALL_BACKWARDS,
    };
    let query = sqlx::query(sql).bind(integer(from.0)).bind(capped(limit));
    events(&query.fetch_all(executor).await.map_err(|error| unavailable(&error))?)
}

/// The position of the last event.
pub(super) async fn head(pool: &SqlitePool) -> Result<Position, ReadError> {
    let head: i64 = sqlx::query_scalar(HEAD).fetch_one(pool).await.map_err(|error| unavailable(&error))?;
    Ok(Position(head.unsigned_abs()))
}

impl Pages for SqlitePool {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        all(self, after, Direction::Forwards, limit).await
    }
}

fn capped(limit: usize) -> i64 {
    integer(limit.min(READ_EVENTS_MAX) as u64)
}

fn events(rows: &[SqliteRow]) -> Result<Vec<RecordedEvent>, ReadError> {
    rows.iter().map(rows::event).collect()
}

fn unavailable(error: &sqlx::Error) -> ReadError {
    ReadError::Unavailable { cause: error.to_string() }
}
