//! Which tables are there: creating the missing ones, and telling which must be made anew.

use std::collections::HashSet;

use lease_stores::sql::SqlConnection;

use super::access;
use super::batch::SqlFold;
use super::dialect::{Database, drop_table};
use super::marks::{self, Mark, Marks};
use crate::projection::{QueryError, Table, Value};

/// Creates the tables that are not there, empty, at the start of the log, and answers every mark. A table whose mark
/// is lost is not trusted: it is made anew.
pub(crate) async fn ensure(connection: &mut SqlConnection<'_>, folds: &[SqlFold]) -> Result<Marks, sqlx::Error> {
    marks::create(connection).await?;
    let mut marks = marks::read(connection).await?;
    let there = access::fetch(connection, Database::of_connection(connection).catalogue(), []).await?;
    let there: HashSet<Value> = there.into_iter().flatten().collect();
    for table in folds.iter().flat_map(SqlFold::tables) {
        if marks.contains_key(table.name) && there.contains(&Value::from(table.name)) {
            continue;
        }
        let generation = marks.get(table.name).map_or(1, |mark| mark.generation + 1);
        let mark = Mark { version: table.version, generation, position: 0, stalled: None };
        create(connection, table, table.name, Some(generation)).await?;
        marks::put(connection, table.name, &mark).await?;
        marks.insert(table.name.to_owned(), mark);
    }
    Ok(marks)
}

/// Creates `table` as `name`, empty, in place of whatever is there; with the indexes of `generation`, or without.
pub(crate) async fn create(
    connection: &mut SqlConnection<'_>,
    table: &Table,
    name: &str,
    generation: Option<u64>,
) -> Result<(), sqlx::Error> {
    let database = Database::of_connection(connection);
    access::script(connection, drop_table(name)).await?;
    access::script(connection, database.create_table(table, name)).await?;
    for sql in generation.map(|generation| database.create_indexes(table, name, generation)).unwrap_or_default() {
        access::script(connection, sql).await?;
    }
    Ok(())
}

/// The tables that an older program left in another shape.
///
/// # Errors
/// A newer program has written one: this one must not touch it.
pub(crate) fn outdated(folds: &[SqlFold], marks: &Marks) -> Result<Vec<&'static str>, QueryError> {
    let mut names = Vec::new();
    for table in folds.iter().flat_map(SqlFold::tables) {
        let found = marks.get(table.name).map_or(table.version, |mark| mark.version);
        if found > table.version {
            return Err(QueryError::NewerTable { table: table.name, found, known: table.version });
        }
        if found < table.version {
            names.push(table.name);
        }
    }
    Ok(names)
}
