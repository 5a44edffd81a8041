//! The events table in SQL: how its rows are written, read and decoded.
//!
//! **Invariant:** a stored row that makes no sense is an error that names its position and column, never a panic.

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{Direction, ReadError};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::reader;
use crate::sql::batch::Log;

/// One statement for the batch: the array of each column is one value, whatever the number of rows.
const INSERT: &str = "INSERT INTO events (position, event_id, stream_id, stream_revision, type, schema_version, company_id, \
    recorded_at, data, metadata) SELECT $1 + place - 1, event_id, stream_id, stream_revision, type, schema_version, company_id, \
    recorded_at, data, metadata FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::integer[], $7::text[], \
    $8::text[], $9::text[], $10::text[]) WITH ORDINALITY AS batch (event_id, stream_id, stream_revision, type, schema_version, \
    company_id, recorded_at, data, metadata, place)";

/// One seek a stream, at its end in the index of (`stream_id`, `stream_revision`).
const REVISIONS: &str = "SELECT (SELECT max(stream_revision) FROM events WHERE events.stream_id = asked.stream_id) \
                         FROM unnest($1::text[]) WITH ORDINALITY AS asked (stream_id, place) ORDER BY place";

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

/// Writes events whose positions and revisions are decided; their positions follow each other.
pub(super) async fn insert(connection: &mut PgConnection, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
    let Some(first) = events.first() else { return Ok(()) };
    let ids: Vec<String> = events.iter().map(|event| event.event_id.to_string()).collect();
    let companies: Vec<String> = events.iter().map(|event| event.company_id.to_string()).collect();
    let streams: Vec<&str> = events.iter().map(|event| event.stream_id.as_str()).collect();
    let revisions: Vec<i64> = events.iter().map(|event| integer(event.stream_revision)).collect();
    let types: Vec<&str> = events.iter().map(|event| &*event.event_type).collect();
    let versions: Vec<i32> = events.iter().map(|event| i32::from(event.schema_version)).collect();
    // Those of one transaction were taken at one time.
    let times: Vec<(usize, String)> = events
        .chunk_by(|one, next| one.recorded_at == next.recorded_at)
        .map(|alike| (alike.len(), time_text(alike[0].recorded_at)))
        .collect();
    let times: Vec<&str> = times.iter().flat_map(|(count, text)| std::iter::repeat_n(text.as_str(), *count)).collect();
    let data: Vec<&str> = events.iter().map(|event| &*event.data).collect();
    let metadata: Vec<&str> = events.iter().map(|event| &*event.metadata).collect();
    sqlx::query(INSERT)
        .bind(integer(first.position.0))
        .bind(&ids)
        .bind(&streams)
        .bind(&revisions)
        .bind(&types)
        .bind(&versions)
        .bind(&companies)
        .bind(&times)
        .bind(&data)
        .bind(&metadata)
        .execute(connection)
        .await
        .map(drop)
}

impl Log for PgConnection {
    async fn last_revisions(&mut self, streams: &[StreamId]) -> Result<Vec<Option<u64>>, sqlx::Error> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        let streams: Vec<&str> = streams.iter().map(StreamId::as_str).collect();
        let revisions: Vec<Option<i64>> = sqlx::query_scalar(REVISIONS).bind(&streams).fetch_all(self).await?;
        // The table's CHECK keeps revisions from being negative.
        Ok(revisions.into_iter().map(|revision| revision.map(i64::unsigned_abs)).collect())
    }

    async fn stored(&mut self, stream: &StreamId, first: u64, count: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        let rows = reader::stream_rows(self, stream, first, Direction::Forwards, count).await;
        reader::events(&rows.map_err(|error| ReadError::Unavailable { cause: error.to_string() })?)
    }
}

/// A number as PostgreSQL holds it. Beyond its range (`u64::MAX`, "from the end") the largest one serves.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as it is stored: RFC 3339, UTC, six fractional digits, `Z`.
pub(super) fn time_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// An event from a row of [`select_events`].
pub(super) fn event(row: &PgRow) -> Result<RecordedEvent, ReadError> {
    let unplaced = Cells { row, position: Position::START };
    let position = Position(unplaced.number(0, "position")?);
    let cells = Cells { row, position };
    let schema_version: i32 = row.try_get(5).map_err(|cause| cells.corrupt("schema_version", &cause))?;
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
    row: &'r PgRow,
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
