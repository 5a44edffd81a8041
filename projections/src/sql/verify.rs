//! Verify: a fresh fold of the log, compared with the live table row by row.
//!
//! The log is folded into a copy. Then ranges of keys are compared, one writer job each: the job first steps the copy
//! to where the live table stands, so that both sides of a range are at one position, and appends go on between.

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::record::Position;
use lease_stores::append_hook::WriterJob;
use lease_stores::sql::SqlConnection;
use sqlx::AssertSqlSafe;

use super::access::fetch;
use super::apply::begin;
use super::batch::SqlFold;
use super::hook::SqlProjections;
use super::marks;
use super::scratch::Scratch;
use super::statements::{Sql, sql};
use super::{SqlReadModel, on_writer, tables};
use crate::projection::{QueryError, Row, Table, Value};
use crate::read_model::{DIFFERENCES_MAX, Difference, DifferenceKind, VerifyReport};

/// What the names of the copies end in.
const SUFFIX: &str = "__verify";
/// Live rows that one job compares: some 10 ms in which appends wait.
const RANGE: i64 = 2_000;

/// Compares the table `name` with a fresh fold of the log.
pub(crate) async fn verify(model: &SqlReadModel, name: &str) -> Result<VerifyReport, QueryError> {
    let (fold, view) = model.find(name)?;
    let one_at_a_time = model.scratch.lock().await;
    let projection = &model.projections.projections[fold];
    let scratch =
        Scratch::new(model.store.clone(), SqlFold::new(model.projections.database, projection, SUFFIX), Some(view));
    let table = scratch.fold.views[view].table;
    let mut job = Verify {
        projections: model.projections.clone(),
        texts: Texts::new(table, &scratch.fold.views[view].statements.name),
        table,
        scratch,
        begun: false,
        after: "".into(),
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
    projections: Arc<SqlProjections>,
    scratch: Scratch,
    table: &'static Table,
    texts: Texts,
    begun: bool,
    /// The last key that was compared.
    after: Arc<str>,
    done: bool,
    report: VerifyReport,
}

struct Texts {
    /// The last key of the next range of live rows, and how many rows it has.
    range: Sql,
    /// The differences from behind one key up to another.
    compare: Sql,
    /// From behind one key to the end.
    compare_rest: Sql,
}

impl Texts {
    fn new(table: &Table, copy: &str) -> Self {
        let (name, key) = (table.name, table.key());
        let differs: Vec<String> =
            table.columns.iter().map(|column| format!("live.{0} IS DISTINCT FROM fresh.{0}", column.name)).collect();
        let compare = |limit: &str, range: &str| {
            let side = |name: &str| format!("(SELECT * FROM {name} WHERE {range})");
            sql(format!(
                "SELECT live.{key}, fresh.{key}, {} FROM {} AS live FULL JOIN {} AS fresh ON live.{key} = fresh.{key} \
                 WHERE {} LIMIT {limit}",
                differs.join(", "),
                side(name),
                side(copy),
                differs.join(" OR ")
            ))
        };
        Self {
            range: sql(format!(
                "SELECT max({key}), count(*) FROM \
                 (SELECT {key} FROM {name} WHERE {key} > $1 ORDER BY {key} LIMIT $2) AS next"
            )),
            compare: compare("$3", &format!("{key} > $1 AND {key} <= $2")),
            compare_rest: compare("$2", &format!("{key} > $1")),
        }
    }
}

#[async_trait]
impl WriterJob for Verify {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        begin(connection).await?;
        if !self.begun {
            self.projections.forget();
            tables::ensure(connection, &self.projections.folds).await?;
            self.scratch.create(connection, |_| None).await?;
            self.begun = true;
        }
        let live = marks::read(connection).await?.remove(self.table.name);
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
    async fn compare(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let after = || Value::Text(self.after.clone());
        let range = AssertSqlSafe(self.texts.range.0.clone());
        let mut range = fetch(connection, range, [after(), Value::Integer(RANGE)]).await?.into_iter().flatten();
        let (last, rows) = match (range.next(), range.next()) {
            (Some(Value::Text(last)), Some(Value::Integer(rows))) => (Some(last).filter(|_| rows == RANGE), rows),
            _ => (None, 0),
        };
        let room = Value::from((DIFFERENCES_MAX - self.report.differences.len()) as u64);
        let found = match &last {
            Some(last) => {
                let compare = AssertSqlSafe(self.texts.compare.0.clone());
                fetch(connection, compare, [after(), Value::Text(last.clone()), room]).await?
            }
            None => fetch(connection, AssertSqlSafe(self.texts.compare_rest.0.clone()), [after(), room]).await?,
        };
        let found = found.iter().map(|row| self.difference(row)).collect::<Vec<_>>();
        self.report.differences.extend(found);
        self.report.rows += rows.cast_unsigned();
        self.report.position = Position(self.scratch.position);
        match last {
            Some(last) if self.report.differences.len() < DIFFERENCES_MAX => self.after = last,
            _ => self.done = true,
        }
        Ok(())
    }

    /// What a row of the comparison says: the key on either side, and for each column whether it differs.
    fn difference(&self, row: &Row) -> Difference {
        match (&row[0], &row[1]) {
            (Value::Text(key), Value::Text(_)) => {
                let differs =
                    self.table.columns.iter().zip(&row[2..]).filter(|(_, differs)| **differs != Value::from(false));
                let columns = differs.map(|(column, _)| column.name).collect();
                Difference { key: key.to_string(), kind: DifferenceKind::Columns(columns) }
            }
            (Value::Text(key), _) => Difference { key: key.to_string(), kind: DifferenceKind::Surplus },
            (_, Value::Text(key)) => Difference { key: key.to_string(), kind: DifferenceKind::Missing },
            _ => Difference { key: String::new(), kind: DifferenceKind::Missing },
        }
    }
}
