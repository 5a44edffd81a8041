//! The statements of an import ([`crate::sql::import`]) in PostgreSQL.

use lease_events::record::{Position, RecordedEvent};
use sqlx::PgConnection;

use super::{reader, rows};

/// Where the log ends.
pub(crate) async fn head(connection: &mut PgConnection) -> Result<Position, sqlx::Error> {
    let head: i64 = sqlx::query_scalar(reader::HEAD).fetch_one(connection).await?;
    Ok(Position(head.unsigned_abs()))
}

/// Writes events behind the end, which the writer moves.
pub(crate) async fn write(connection: &mut PgConnection, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
    rows::insert(connection, events).await
}
