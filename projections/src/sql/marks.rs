//! The table `projections`: how far each table has come. Its rows are the truth for every process on the database.
//!
//! **Invariants:** a mark moves in the transaction that moves its table; a table that stands still says why.

use std::collections::HashMap;

use lease_stores::sql::{SqlConnection, SqlReader};

use super::access;
use super::dialect::Database;
use super::statements::sql;
use crate::projection::{Row, Value};

const READ: &str = "SELECT name, version, generation, position, stalled FROM projections";
const PUT: &str = "INSERT INTO projections (name, version, generation, position) VALUES ($1, $2, $3, $4)
  ON CONFLICT (name) DO UPDATE SET version = excluded.version, generation = excluded.generation,
    position = excluded.position, stalled = NULL, stalled_at = NULL";
const STALL: &str = "UPDATE projections SET stalled = $1, stalled_at = $2 WHERE name = $3";
const REMOVE: &str = "DELETE FROM projections WHERE name = $1";

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
pub(crate) async fn create(connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
    access::script(connection, Database::of_connection(connection).create_marks()).await
}

/// Every mark, seen from the writer's transaction.
pub(crate) async fn read(connection: &mut SqlConnection<'_>) -> Result<Marks, sqlx::Error> {
    access::fetch(connection, READ, []).await?.into_iter().map(mark).collect()
}

/// Every mark, as committed.
pub(crate) async fn committed(reader: &SqlReader) -> Result<Marks, sqlx::Error> {
    access::read(reader, READ, []).await?.into_iter().map(mark).collect()
}

fn mark(row: Row) -> Result<(String, Mark), sqlx::Error> {
    let odd = || sqlx::Error::Decode("a row of the table projections makes no sense".into());
    let [Value::Text(name), Value::Integer(version), Value::Integer(generation), Value::Integer(position), stalled] =
        <[Value; 5]>::try_from(row).map_err(|_| odd())?
    else {
        return Err(odd());
    };
    let mark = Mark {
        version: u32::try_from(version).map_err(|_| odd())?,
        generation: generation.cast_unsigned(),
        position: position.cast_unsigned(),
        stalled: match stalled {
            Value::Text(cause) => Some(cause.to_string()),
            Value::Null | Value::Integer(_) => None,
        },
    };
    Ok((name.to_string(), mark))
}

/// Writes one mark whole; the table does not stand still.
pub(crate) async fn put(connection: &mut SqlConnection<'_>, name: &str, mark: &Mark) -> Result<(), sqlx::Error> {
    let numbers = [u64::from(mark.version), mark.generation, mark.position].map(Value::from);
    access::execute(connection, PUT, std::iter::once(Value::from(name)).chain(numbers)).await.map(drop)
}

/// Moves `names` to `position`; none of them stands still any more.
pub(crate) async fn advance(
    connection: &mut SqlConnection<'_>,
    names: &[&str],
    position: u64,
) -> Result<(), sqlx::Error> {
    let moved = access::execute(connection, sql(advancing(names)), [Value::from(position)]).await?;
    if moved == names.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// The statement that moves `names` to `$1`.
pub(crate) fn advancing(names: &[&str]) -> String {
    let list = names.join("', '");
    format!("UPDATE projections SET position = $1, stalled = NULL, stalled_at = NULL WHERE name IN ('{list}')")
}

/// Says why `name` stands still, and since when.
pub(crate) async fn stall(
    connection: &mut SqlConnection<'_>,
    name: &str,
    cause: &str,
    since: Value,
) -> Result<(), sqlx::Error> {
    access::execute(connection, STALL, [Value::from(cause), since, Value::from(name)]).await.map(drop)
}

/// Forgets a table.
pub(crate) async fn remove(connection: &mut SqlConnection<'_>, name: &str) -> Result<(), sqlx::Error> {
    access::execute(connection, REMOVE, [Value::from(name)]).await.map(drop)
}
