//! Statements on either database: values go in, rows of values come out. What stands above this is written once.

use std::borrow::Cow;
use std::sync::Arc;

use lease_stores::sql::{SqlConnection, SqlReader};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Postgres, Row as _, SqlSafeStr, Sqlite, TypeInfo as _, ValueRef as _};

use super::statements::{Keyed, Write, cut};
use crate::projection::{Row, Value};

/// Runs a statement without values, such as a savepoint's.
pub(super) async fn control(connection: &mut SqlConnection<'_>, sql: impl SqlSafeStr) -> Result<(), sqlx::Error> {
    match connection {
        // Prepared once and kept.
        SqlConnection::Sqlite(it) => sqlx::query(sql).execute(&mut **it).await.map(drop),
        // It may be several statements, which is one trip to the server all the same.
        SqlConnection::Postgres(it) => sqlx::raw_sql(sql).execute(&mut **it).await.map(drop),
    }
}

/// Runs statements that make or remove tables.
pub(super) async fn script(connection: &mut SqlConnection<'_>, sql: impl SqlSafeStr) -> Result<(), sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(it) => sqlx::raw_sql(sql).execute(&mut **it).await.map(drop),
        SqlConnection::Postgres(it) => sqlx::raw_sql(sql).execute(&mut **it).await.map(drop),
    }
}

/// Runs a statement; answers how many rows it touched.
pub(super) async fn execute(
    connection: &mut SqlConnection<'_>,
    sql: impl SqlSafeStr,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(it) => Ok(sqlite(sql, values).execute(&mut **it).await?.rows_affected()),
        SqlConnection::Postgres(it) => Ok(postgres(sql, values).execute(&mut **it).await?.rows_affected()),
    }
}

/// The rows of a statement, seen from the writer's transaction.
pub(super) async fn fetch(
    connection: &mut SqlConnection<'_>,
    sql: impl SqlSafeStr,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<Row>, sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(it) => sqlite(sql, values).fetch_all(&mut **it).await?.iter().map(sqlite_row).collect(),
        SqlConnection::Postgres(it) => {
            postgres(sql, values).fetch_all(&mut **it).await?.iter().map(postgres_row).collect()
        }
    }
}

/// The rows of a statement, as committed.
pub(super) async fn read(
    reader: &SqlReader,
    sql: impl SqlSafeStr,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<Row>, sqlx::Error> {
    match reader {
        SqlReader::Sqlite(pool) => sqlite(sql, values).fetch_all(pool).await?.iter().map(sqlite_row).collect(),
        SqlReader::Postgres(pool) => postgres(sql, values).fetch_all(pool).await?.iter().map(postgres_row).collect(),
    }
}

/// Writes rows, each of which must be written.
pub(super) async fn write(
    connection: &mut SqlConnection<'_>,
    write: &Write,
    rows: Vec<Row>,
) -> Result<(), sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(it) => {
            let cuts: Vec<_> = cut(rows.len()).collect();
            let mut rows = rows.into_iter();
            for (size, range) in cuts {
                let values = rows.by_ref().take(range.len()).flatten();
                let done = sqlite(write.sql(size), values).execute(&mut **it).await?;
                all_of(range.len(), done.rows_affected())?;
            }
            Ok(())
        }
        SqlConnection::Postgres(it) if !rows.is_empty() => {
            let mut query = sqlx::query(write.sql(0));
            for (at, is_text) in write.is_text.iter().enumerate() {
                query = if *is_text {
                    query.bind(rows.iter().map(|row| text(&row[at])).collect::<Vec<_>>())
                } else {
                    query.bind(rows.iter().map(|row| number(&row[at])).collect::<Vec<_>>())
                };
            }
            let done = query.execute(&mut **it).await?;
            all_of(rows.len(), done.rows_affected())
        }
        SqlConnection::Postgres(_) => Ok(()),
    }
}

/// Deletes the rows of `keys`, where they are there.
pub(super) async fn delete(
    connection: &mut SqlConnection<'_>,
    delete: &Keyed,
    keys: &[Arc<str>],
) -> Result<(), sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(it) => {
            for (size, range) in cut(keys.len()) {
                let values = keys[range].iter().cloned().map(Value::Text);
                sqlite(delete.sql(size), values).execute(&mut **it).await?;
            }
        }
        SqlConnection::Postgres(it) if !keys.is_empty() => {
            sqlx::query(delete.sql(0)).bind(listed(keys)).execute(&mut **it).await?;
        }
        SqlConnection::Postgres(_) => {}
    }
    Ok(())
}

/// The rows of `keys`, as far as they are there, in any order.
pub(super) async fn select(
    connection: &mut SqlConnection<'_>,
    select: &Keyed,
    keys: &[Arc<str>],
) -> Result<Vec<Row>, sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(it) => {
            let mut found = Vec::with_capacity(keys.len());
            for (size, range) in cut(keys.len()) {
                let values = keys[range].iter().cloned().map(Value::Text);
                for row in &sqlite(select.sql(size), values).fetch_all(&mut **it).await? {
                    found.push(sqlite_row(row)?);
                }
            }
            Ok(found)
        }
        SqlConnection::Postgres(it) if !keys.is_empty() => {
            let rows = sqlx::query(select.sql(0)).bind(listed(keys)).fetch_all(&mut **it).await?;
            rows.iter().map(postgres_row).collect()
        }
        SqlConnection::Postgres(_) => Ok(Vec::new()),
    }
}

/// Every row that was to be written is written.
pub(super) fn all_of(wanted: usize, touched: u64) -> Result<(), sqlx::Error> {
    if touched == wanted as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn sqlite<'q>(sql: impl SqlSafeStr, values: impl IntoIterator<Item = Value>) -> Query<'q, Sqlite, SqliteArguments> {
    values.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Null => query.bind(None::<i64>),
        Value::Integer(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
    })
}

fn postgres<'q>(sql: impl SqlSafeStr, values: impl IntoIterator<Item = Value>) -> Query<'q, Postgres, PgArguments> {
    values.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Integer(number) => query.bind(number),
        value => query.bind(text(&value).map(Cow::into_owned)),
    })
}

/// PostgreSQL's text has no U+0000, whatever a provider may have said; it is kept as the replacement character.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(without_nul(text)),
        Value::Null | Value::Integer(_) => None,
    }
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// A whole number, or NULL.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Null | Value::Text(_) => None,
    }
}

/// Keys as PostgreSQL has them.
pub(super) fn listed(keys: &[Arc<str>]) -> Vec<Cow<'_, str>> {
    keys.iter().map(|key| without_nul(key)).collect()
}

fn sqlite_row(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let value = |at: usize| {
        let raw = row.try_get_raw(at)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        match raw.type_info().name() {
            "INTEGER" => row.try_get::<i64, _>(at).map(Value::Integer),
            _ => row.try_get::<&str, _>(at).map(Value::from),
        }
    };
    (0..row.len()).map(value).collect()
}

fn postgres_row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let value = |at: usize| {
        let raw = row.try_get_raw(at)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        match raw.type_info().name() {
            "INT8" => row.try_get::<i64, _>(at).map(Value::Integer),
            "BOOL" => row.try_get::<bool, _>(at).map(Value::from),
            _ => row.try_get::<&str, _>(at).map(Value::from),
        }
    };
    (0..row.len()).map(value).collect()
}
