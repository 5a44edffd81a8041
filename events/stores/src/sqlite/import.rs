//! The two statements of an import ([`crate::sql::import`]) in SQLite.

use lease_events::record::{Position, RecordedEvent};
use sqlx::SqliteConnection;

use super::{reader, rows};

/// Where the log ends.
pub(crate) async fn head(connection: &mut SqliteConnection) -> Result<Position, sqlx::Error> {
    let head: i64 = sqlx::query_scalar(reader::HEAD).fetch_one(connection).await?;
    Ok(Position(head.unsigned_abs()))
}

/// Writes events behind the end.
pub(crate) async fn write(connection: &mut SqliteConnection, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
    rows::insert(connection, events).await
}
