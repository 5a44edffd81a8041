//! Reads: one statement each, so one snapshot each, over the pool of read-only connections. What failed with its
//! connection is read again, a few times.

use std::future::Future;
use std::time::Duration;

use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{Direction, READ_EVENTS_MAX, ReadError};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool};

use super::failure::Fault;
use super::rows::{self, integer, select_events};
use super::session::Sessions;
use crate::sql::subscribe::Pages;

const STREAM_FORWARDS: &str =
    select_events!("WHERE stream_id = $1 AND stream_revision >= $2 ORDER BY stream_revision LIMIT $3");
const STREAM_BACKWARDS: &str =
    select_events!("WHERE stream_id = $1 AND stream_revision <= $2 ORDER BY stream_revision DESC LIMIT $3");
const ALL_FORWARDS: &str = select_events!("WHERE position > $1 ORDER BY position LIMIT $2");
const ALL_BACKWARDS: &str = select_events!("WHERE position <= $1 ORDER BY position DESC LIMIT $2");
pub(super) const HEAD: &str = "SELECT position FROM head";

/// Tries of one read: a restart leaves every pooled connection stale, a failover takes some seconds.
const TRIES_MAX: u32 = 5;
/// The pause before the second; it doubles, to some 3 seconds in all.
const PAUSE: Duration = Duration::from_millis(200);

/// The read-only connections, and how to tell that others may be as stale as one that failed.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) pool: PgPool,
    pub(super) sessions: Sessions,
}

impl Reader {
    /// Events of one stream.
    pub(super) async fn stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        events(&self.again(|| stream_rows(&self.pool, stream, from, direction, limit)).await?)
    }

    /// Events of the whole log.
    pub(super) async fn all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let sql = match direction {
            Direction::Forwards => ALL_FORWARDS,
            Direction::Backwards => ALL_BACKWARDS,
        };
        let read = || sqlx::query(sql).bind(integer(from.0)).bind(capped(limit)).fetch_all(&self.pool);
        events(&self.again(read).await?)
    }

    /// The position of the last event.
    pub(super) async fn head(&self) -> Result<Position, ReadError> {
        let head: i64 = self.again(|| sqlx::query_scalar(HEAD).fetch_one(&self.pool)).await?;
        Ok(Position(head.unsigned_abs()))
    }

    /// Runs a read until it is answered, or the tries are used up.
    pub(super) async fn again<T, F>(&self, read: impl Fn() -> F) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut tries = 1;
        loop {
            let fault = match read().await {
                Ok(found) => return Ok(found),
                Err(error) => Fault::from(error),
            };
            if !fault.is_transient() || tries == TRIES_MAX {
                return Err(ReadError::Unavailable { cause: fault.cause });
            }
            self.sessions.distrust();
            tokio::time::sleep(PAUSE * 2u32.pow(tries - 1)).await;
            tries += 1;
        }
    }
}

impl Pages for Reader {
    async fn page(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        self.all(after, Direction::Forwards, limit).await
    }
}

/// Rows of one stream.
pub(super) async fn stream_rows(
    executor: impl PgExecutor<'_>,
    stream: &StreamId,
    from: u64,
    direction: Direction,
    limit: usize,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let sql = match direction {
        Direction::Forwards => STREAM_FORWARDS,
        Direction::Backwards => STREAM_BACKWARDS,
    };
    sqlx::query(sql).bind(stream.as_str()).bind(integer(from)).bind(capped(limit)).fetch_all(executor).await
}

/// The events of rows.
pub(super) fn events(rows: &[PgRow]) -> Result<Vec<RecordedEvent>, ReadError> {
    rows.iter().map(rows::event).collect()
}

fn capped(limit: usize) -> i64 {
    integer(limit.min(READ_EVENTS_MAX) as u64)
}
