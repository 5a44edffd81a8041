//! Verify: a fresh fold of the log, compared with the live table row by row.
//!
//! The log is folded into a copy. Then ranges of keys are compared, one writer job each: the job first steps the copy
//! to where the live table stands, so that both sides of a range are at one position, and appends go on between.

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::record::Position;
use lease_stores::append_hook::WriterJob;
use lease_stores::sql::SqlConnection;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::batch::SqlFold;
use super::marks;
use super::scratch::Scratch;
use super::sqlite::SqliteProjections;
use super::statements::{Sql, sql};
use super::{SqliteReadModel, on_writer, tables};
use crate::projection::{QueryError, Table};
use crate::read_model::{DIFFERENCES_MAX, Difference, DifferenceKind, VerifyReport};

/// What the names of the copies end in.
const SUFFIX: &str = "__verify";
/// Live rows that one job compares: some 10 ms in which appends wait.
const RANGE: i64 = 2_000;

/// Compares the table `name` with a fresh fold of the log.
pub(crate) async fn verify(model: &SqliteReadModel, name: &str) -> Result<VerifyReport, QueryError> {
    let (fold, view) = model.find(name)?;
    let one_at_a_time = model.scratch.lock().await;
    let projection = &model.projections.projections[fold];
    let scratch = Scratch::new(model.store.clone(), SqlFold::new(projection, SUFFIX), Some(view));
    let table = scratch.fold.views[view].table;
    let mut job = Verify {
        projections: model.projections.clone(),
        texts: Texts::new(table, &scratch.fold.views[view].statements.name),
        table,
        scratch,
        begun: false,
        after: String::new(),
        done: false,
        report: VerifyReport {
            table: table.name.to_owned(),
            position: Position::START,
            rows: 0,
            differences: Vec::new(),
        },
    };
    while !job.done {
        job = on_writer(&model.store, job).await?;
        if let Some(failure) = job.scratch.failure.take() {
            return Err(failure);
        }
    }
    drop(one_at_a_time);
    Ok(job.report)
}

struct Verify {
    projections: Arc<SqliteProjections>,
    scratch: Scratch,
    table: &'static Table,
    texts: Texts,
    begun: bool,
    /// The last key that was compared.
    after: String,
    done: bool,
    report: VerifyReport,
}

struct Texts {
    /// The last key of the next range of live rows, and how many rows it has.
    range: Sql,
    compare: Sql,
}

impl Texts {
    fn new(table: &Table, copy: &str) -> Self {
        let (name, key) = (table.name, table.key());
        let differs: Vec<String> =
            table.columns.iter().map(|column| format!("live.{0} IS NOT fresh.{0}", column.name)).collect();
        let side = |name: &str| format!("(SELECT * FROM {name} WHERE {key} > ?1 AND (?2 IS NULL OR {key} <= ?2))");
        Self {
            range: sql(format!(
                "SELECT max({key}), count(*) FROM (SELECT {key} FROM {name} WHERE {key} > ? ORDER BY {key} LIMIT ?)"
            )),
            compare: sql(format!(
                "SELECT live.{key}, fresh.{key}, {} FROM {} AS live FULL JOIN {} AS fresh ON live.{key} = fresh.{key} \
                 WHERE {} LIMIT ?3",
                differs.join(", "),
                side(name),
                side(copy),
                differs.join(" OR ")
            )),
        }
    }
}

#[async_trait]
impl WriterJob for Verify {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        if !self.begun {
            self.projections.forget();
            tables::ensure(&mut *connection, &self.projections.folds).await?;
            self.scratch.create(connection, |_| None).await?;
            self.begun = true;
        }
        let live = marks::read(&mut *connection).await?.remove(self.table.name);
        let position = live.filter(|mark| mark.version == self.table.version).map_or(0, |mark| mark.position);
        if position < self.scratch.position {
            self.scratch.failure = Some(QueryError::Overtaken { name: self.table.name.to_owned() });
        } else if self.scratch.page(connection, position).await? {
            self.compare(connection).await?;
        }
        if self.done || self.scratch.failure.is_some() {
            self.scratch.remove(connection).await?;
        }
        Ok(())
    }
}

impl Verify {
    /// Compares the next range of keys; the last one also takes what lies behind the live table's last key.
    async fn compare(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let (last, rows): (Option<String>, i64) = sqlx::query_as(AssertSqlSafe(self.texts.range.0.clone()))
            .bind(&self.after)
            .bind(RANGE)
            .fetch_one(&mut *connection)
            .await?;
        let last = last.filter(|_| rows == RANGE);
        let room = DIFFERENCES_MAX - self.report.differences.len();
        let found = sqlx::query(AssertSqlSafe(self.texts.compare.0.clone()))
            .bind(&self.after)
            .bind(&last)
            .bind(i64::try_from(room).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        for row in found {
            self.report.differences.push(self.difference(&row)?);
        }
        self.report.rows += rows.cast_unsigned();
        self.report.position = Position(self.scratch.position);
        match last {
            Some(last) if self.report.differences.len() < DIFFERENCES_MAX => self.after = last,
            _ => self.done = true,
        }
        Ok(())
    }

    fn difference(&self, row: &sqlx::sqlite::SqliteRow) -> Result<Difference, sqlx::Error> {
        let (live, fresh): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(match (live, fresh) {
            (Some(key), None) => Difference { key, kind: DifferenceKind::Surplus },
            (None, key) => Difference { key: key.unwrap_or_default(), kind: DifferenceKind::Missing },
            (Some(key), Some(_)) => {
                let mut columns = Vec::new();
                for (at, column) in self.table.columns.iter().enumerate() {
                    if row.try_get::<bool, _>(at + 2)? {
                        columns.push(column.name);
                    }
                }
                Difference { key, kind: DifferenceKind::Columns(columns) }
            }
        })
    }
}
