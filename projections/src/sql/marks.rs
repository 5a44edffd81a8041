//! The table `projections`: how far each table has come. Its rows are the truth for every process on the database.
//!
//! **Invariants:** a mark moves in the transaction that moves its table; a table that stands still says why.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::statements::sql;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS projections (
  name TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  position INTEGER NOT NULL,
  stalled TEXT,
  stalled_at TEXT
) STRICT";
const READ: &str = "SELECT name, version, generation, position, stalled FROM projections";
const PUT: &str = "INSERT INTO projections (name, version, generation, position) VALUES (?, ?, ?, ?)
  ON CONFLICT (name) DO UPDATE SET version = excluded.version, generation = excluded.generation,
    position = excluded.position, stalled = NULL, stalled_at = NULL";
const STALL: &str = "UPDATE projections SET stalled = ?, stalled_at = ? WHERE name = ?";
const REMOVE: &str = "DELETE FROM projections WHERE name = ?";

/// How far one table has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The version of the table's shape.
    pub(crate) version: u32,
    /// How often the table was made anew.
    pub(crate) generation: u64,
    /// The last position that its rows have seen.
    pub(crate) position: u64,
    /// Why it stands still, where it does.
    pub(crate) stalled: Option<String>,
}

/// The marks by the tables' names.
pub(crate) type Marks = HashMap<String, Mark>;

/// Creates the table of marks where it is not there.
pub(crate) async fn create(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query(CREATE).execute(connection).await.map(drop)
}

/// Reads every mark.
pub(crate) async fn read<'c, E>(executor: E) -> Result<Marks, sqlx::Error>
where
    E: sqlx::Executor<'c, Database = sqlx::Sqlite>,
{
    let rows = sqlx::query(READ).fetch_all(executor).await?;
    rows.iter()
        .map(|row| {
            let mark = Mark {
                version: row.try_get("version")?,
                generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
                position: row.try_get::<i64, _>("position")?.cast_unsigned(),
                stalled: row.try_get("stalled")?,
            };
            Ok((row.try_get("name")?, mark))
        })
        .collect()
}

/// Writes one mark whole; the table does not stand still.
pub(crate) async fn put(connection: &mut SqliteConnection, name: &str, mark: &Mark) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(name)
        .bind(mark.version)
        .bind(mark.generation.cast_signed())
        .bind(mark.position.cast_signed())
        .execute(connection)
        .await
        .map(drop)
}

/// Moves `names` to `position`; none of them stands still any more.
pub(crate) async fn advance(
    connection: &mut SqliteConnection,
    names: &[&str],
    position: u64,
) -> Result<(), sqlx::Error> {
    let list = names.join("', '");
    let AssertSqlSafe(text) =
        sql(format!("UPDATE projections SET position = ?, stalled = NULL, stalled_at = NULL WHERE name IN ('{list}')"));
    let done = sqlx::query(AssertSqlSafe(text)).bind(position.cast_signed()).execute(connection).await?;
    if done.rows_affected() == names.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Says why `name` stands still, and since when.
pub(crate) async fn stall(
    connection: &mut SqliteConnection,
    name: &str,
    cause: &str,
    since: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(STALL).bind(cause).bind(since).bind(name).execute(connection).await.map(drop)
}

/// Forgets a table.
pub(crate) async fn remove(connection: &mut SqliteConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(REMOVE).bind(name).execute(connection).await.map(drop)
}
