//! How each transaction of the writer begins and ends: a message to the server each, since an exchange with it costs as much
//! as some rows.
//!
//! **Invariants:** what is looked at is looked at by a statement that began after the lock of the head was got; COMMIT
//! is reached only where the statement before it went well.

use lease_events::record::Position;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// What the log is like under the lock of the head.
pub(super) struct Around {
    /// Where it ends.
    pub(super) head: Position,
    /// The head's counter of transactions.
    pub(super) changes: i64,
    /// Whether the writer's process is fenced.
    pub(super) fenced: bool,
}

/// Begins a transaction, takes the lock, and looks around: each statement sees what was committed before it began.
pub(super) async fn begin(connection: &mut PgConnection, owner: &str) -> Result<Around, sqlx::Error> {
    let owner = literal(owner);
    let text = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT FROM head FOR UPDATE; \
         SELECT head.position, head.changes, owners.owner IS NULL OR owners.fenced_at IS NOT NULL \
         FROM head LEFT JOIN owners ON owners.owner = {owner}"
    );
    // The first row is the lock's, and has no column.
    let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
    let head: i64 = row.try_get(0)?;
    Ok(Around { head: Position(head.unsigned_abs()), changes: row.try_get(1)?, fenced: row.try_get(2)? })
}

/// Commits, and counts the transaction. Where it wrote events, the log ends at `end` now, and listeners on `channel` hear
/// of it. In a transaction that has failed before, COMMIT would roll back and call it a success; the statement before it
/// fails instead.
pub(super) async fn commit(
    connection: &mut PgConnection,
    end: Option<Position>,
    channel: &str,
) -> Result<(), sqlx::Error> {
    let text = match end {
        Some(Position(end)) => format!(
            "UPDATE head SET position = {end}, changes = changes + 1; SELECT pg_notify({}, '{end}'); COMMIT",
            literal(channel)
        ),
        None => "UPDATE head SET changes = changes + 1; COMMIT".to_owned(),
    };
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}

/// Ends a transaction that wrote nothing.
pub(super) async fn give_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("ROLLBACK").execute(connection).await.map(drop)
}

/// Whether the server said of a transaction's last message that nothing of it is written, and lives. One that ends may
/// have committed before.
pub(super) fn was_refused(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// A text in SQL, whatever is in it and however the server reads backslashes.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_literal() {
        assert_eq!(literal("owner-1"), "E'owner-1'");
        assert_eq!(literal(r"a'b\'; DROP TABLE events; --"), r"E'a''b\\''; DROP TABLE events; --'");
    }
}
