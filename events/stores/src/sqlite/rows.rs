//! The events table in SQL: how its rows are written, read and decoded.
//!
//! **Invariant:** a stored row that makes no sense is an error that names its position and column, never a panic.

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, SecondsFormat, Utc};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{Direction, ReadError};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::reader;
use crate::sql::batch::Log;

/// Rows in one INSERT, and streams in one look-up: 2,560 of the 32,766 values that SQLite binds in a statement. More
/// gains nothing measurable and keeps longer statements in the cache.
const STATEMENT_ROWS_MAX: usize = 256;
/// Statements are made for 1 to 15 and for whole sixteens of rows: 31 cached shapes, and at most two statements for
/// any number up to [`STATEMENT_ROWS_MAX`].
const STATEMENT_ROWS_STEP: usize = 16;

/// `OR FAIL`: what a statement that fails has written is left for the end of its transaction, which is a rollback. Else SQLite
/// keeps a copy of every page that the statement touches.
const INSERT_HEAD: &str = "INSERT OR FAIL INTO events (position, event_id, stream_id, stream_revision, type, schema_version, \
                           company_id, recorded_at, data, metadata) VALUES ";
const INSERT_ROW: &str = "(?,?,?,?,?,?,?,?,?,?),";
/// The statement of [`STATEMENT_ROWS_MAX`] rows; its beginnings are the shorter ones.
static INSERT: LazyLock<String> = LazyLock::new(|| INSERT_HEAD.to_owned() + &INSERT_ROW.repeat(STATEMENT_ROWS_MAX));

const REVISIONS_HEAD: &str = "SELECT ";
/// One seek at the end of the stream in the index of (`stream_id`, `stream_revision`).
const REVISIONS_STREAM: &str = "(SELECT max(stream_revision) FROM events WHERE stream_id=?),";
/// As [`INSERT`]; one row with a column a stream, since every row returned costs a message between threads.
static REVISIONS: LazyLock<String> =
    LazyLock::new(|| REVISIONS_HEAD.to_owned() + &REVISIONS_STREAM.repeat(STATEMENT_ROWS_MAX));

/// `SELECT` of whole events, with the given rest of the statement.
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT position, event_id, stream_id, stream_revision, type, schema_version, company_id, recorded_at, ",
            "data, metadata FROM events ",
            $rest
        )
    };
}
pub(super) use select_events;

/// Writes events whose positions and revisions are decided.
pub(super) async fn insert(connection: &mut SqliteConnection, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
    // One time text for all of a transaction's events: they were taken at one time.
    let mut stamp: Option<(DateTime<Utc>, Arc<str>)> = None;
    let mut rest = events;
    while !rest.is_empty() {
        let (rows, behind) = rest.split_at(statement_rows(rest.len()));
        rest = behind;
        let mut query = sqlx::query(AssertSqlSafe(beginning(&INSERT, INSERT_HEAD, INSERT_ROW, rows.len())));
        for event in rows {
            let recorded_at = match &stamp {
                Some((at, text)) if *at == event.recorded_at => Arc::clone(text),
                _ => {
                    let text: Arc<str> = time_text(event.recorded_at).into();
                    stamp = Some((event.recorded_at, Arc::clone(&text)));
                    text
                }
            };
            query = query
                .bind(integer(event.position.0))
                .bind(event.event_id.to_string())
                .bind(event.stream_id.as_str())
                .bind(integer(event.stream_revision))
                .bind(Arc::clone(&event.event_type))
                .bind(event.schema_version)
                .bind(event.company_id.to_string())
                .bind(recorded_at)
                .bind(Arc::clone(&event.data))
                .bind(Arc::clone(&event.metadata));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// The last revision of each of `streams`, in their order; `None` where a stream has no event.
async fn last_revisions(
    connection: &mut SqliteConnection,
    streams: &[StreamId],
) -> Result<Vec<Option<u64>>, sqlx::Error> {
    let mut revisions = Vec::with_capacity(streams.len());
    let mut rest = streams;
    while !rest.is_empty() {
        let (asked, behind) = rest.split_at(statement_rows(rest.len()));
        rest = behind;
        let sql = beginning(&REVISIONS, REVISIONS_HEAD, REVISIONS_STREAM, asked.len());
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for stream in asked {
            query = query.bind(stream.as_str());
        }
        let row = query.fetch_one(&mut *connection).await?;
        for column in 0..asked.len() {
            let revision: Option<i64> = row.try_get(column)?;
            // The table's CHECK keeps revisions from being negative.
            revisions.push(revision.map(i64::unsigned_abs));
        }
    }
    Ok(revisions)
}

impl Log for SqliteConnection {
    async fn last_revisions(&mut self, streams: &[StreamId]) -> Result<Vec<Option<u64>>, sqlx::Error> {
        last_revisions(self, streams).await
    }

    async fn stored(&mut self, stream: &StreamId, first: u64, count: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        reader::stream(self, stream, first, Direction::Forwards, count).await
    }
}

/// How many of `left` rows the next statement takes.
fn statement_rows(left: usize) -> usize {
    if left < STATEMENT_ROWS_STEP { left } else { STATEMENT_ROWS_MAX.min(left - left % STATEMENT_ROWS_STEP) }
}

/// The first `rows` of a statement's repeated parts, without the last comma.
fn beginning(statement: &'static str, head: &str, part: &str, rows: usize) -> &'static str {
    &statement[..head.len() + part.len() * rows - 1]
}

/// A number as SQLite holds it. Beyond its range (`u64::MAX`, "from the end") the largest one serves.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as it is stored: RFC 3339, UTC, six fractional digits, `Z`.
pub(super) fn time_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// An event from a row of [`select_events`].
pub(super) fn event(row: &SqliteRow) -> Result<RecordedEvent, ReadError> {
    let unplaced = Cells { row, position: Position::START };
    let position = Position(unplaced.number(0, "position")?);
    let cells = Cells { row, position };
    let schema_version = cells.number(5, "schema_version")?;
    Ok(RecordedEvent {
        event_id: cells.parsed(1, "event_id")?,
        stream_id: StreamId::parse(cells.text(2, "stream_id")?).map_err(|cause| cells.corrupt("stream_id", &cause))?,
        stream_revision: cells.number(3, "stream_revision")?,
        position,
        event_type: cells.text(4, "type")?.into(),
        schema_version: u16::try_from(schema_version).map_err(|cause| cells.corrupt("schema_version", &cause))?,
        company_id: cells.parsed(6, "company_id")?,
        recorded_at: cells.parsed(7, "recorded_at")?,
        data: cells.text(8, "data")?.into(),
        metadata: cells.text(9, "metadata")?.into(),
    })
}

/// The cells of one row, and where the row stands, for the errors.
struct Cells<'r> {
    row: &'r SqliteRow,
    position: Position,
}

impl<'r> Cells<'r> {
    fn text(&self, index: usize, column: &'static str) -> Result<&'r str, ReadError> {
        self.row.try_get(index).map_err(|cause| self.corrupt(column, &cause))
    }

    fn number(&self, index: usize, column: &'static str) -> Result<u64, ReadError> {
        let number: i64 = self.row.try_get(index).map_err(|cause| self.corrupt(column, &cause))?;
        u64::try_from(number).map_err(|cause| self.corrupt(column, &cause))
    }

    fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, index: usize, column: &'static str) -> Result<T, ReadError> {
        self.text(index, column)?.parse().map_err(|cause| self.corrupt(column, &cause))
    }

    fn corrupt(&self, column: &'static str, cause: &dyn std::fmt::Display) -> ReadError {
        ReadError::Corrupt { position: self.position, column, cause: cause.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_takes_few_statements_of_few_shapes() {
        let mut shapes = std::collections::BTreeSet::new();
        for rows in 1..=STATEMENT_ROWS_MAX {
            let mut left = rows;
            let mut statements = 0;
            while left > 0 {
                let taken = statement_rows(left);
                shapes.insert(taken);
                left -= taken;
                statements += 1;
            }
            assert!(statements <= 2, "{rows} rows take {statements} statements");
        }
        assert_eq!(shapes.len(), 31);
    }

    #[test]
    fn a_statement_for_some_rows_is_a_beginning_of_the_longest() {
        assert_eq!(
            beginning(&REVISIONS, REVISIONS_HEAD, REVISIONS_STREAM, 1),
            "SELECT (SELECT max(stream_revision) FROM events WHERE stream_id=?)"
        );
        assert!(
            beginning(&INSERT, INSERT_HEAD, INSERT_ROW, 2)
                .ends_with("VALUES (?,?,?,?,?,?,?,?,?,?),(?,?,?,?,?,?,?,?,?,?)")
        );
    }
}
