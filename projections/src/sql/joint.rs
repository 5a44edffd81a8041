//! On PostgreSQL: all that a batch of events changes, in one statement. Each statement is an exchange with the server, which
//! costs as much as ten rows; and the values of this one are encoded beforehand, while the server writes the events.
//!
//! **Invariant:** all parts of the statement see the tables as they were before it, and their order is open: so no row is in
//! two of them.

use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, PgConnection, Postgres, Row as _, Type};

use super::access::{all_of, listed, number, text};
use super::marks;
use super::statements::{Keyed, Write};
use crate::projection::Row;

/// The changes of a batch, as a statement with its values.
#[derive(Default)]
pub(crate) struct Joint {
    parts: Vec<Part>,
    values: PgArguments,
}

struct Part {
    text: String,
    /// How many rows it must touch; any number where they may be gone already.
    rows: Option<usize>,
}

impl Joint {
    /// Writes rows, if any, each of which must be written.
    pub(crate) fn write(&mut self, write: &Write, rows: &[Row]) -> Result<(), sqlx::Error> {
        let first = self.values.len();
        for (at, is_text) in write.columns.iter().zip(&write.is_text) {
            if *is_text {
                self.bind(rows.iter().map(|row| text(&row[*at])).collect::<Vec<_>>())?;
            } else {
                self.bind(rows.iter().map(|row| number(&row[*at])).collect::<Vec<_>>())?;
            }
        }
        self.part(&write.sql(0).0, first, Some(rows.len()));
        Ok(())
    }

    /// Deletes the rows of `keys`, if any, where they are there.
    pub(crate) fn delete(&mut self, delete: &Keyed, keys: &[Arc<str>]) -> Result<(), sqlx::Error> {
        let first = self.values.len();
        self.bind(listed(keys))?;
        self.part(&delete.sql(0).0, first, None);
        Ok(())
    }

    /// Moves the marks of the tables `names` to `position`; none of them stands still any more.
    pub(crate) fn advance(&mut self, names: &[&str], position: u64) -> Result<(), sqlx::Error> {
        let first = self.values.len();
        self.bind(position.cast_signed())?;
        self.part(&marks::advancing(names), first, Some(names.len()));
        Ok(())
    }

    /// Does it all, or nothing.
    pub(crate) async fn run(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut text = String::new();
        for (at, part) in self.parts.iter().enumerate() {
            let start = if at == 0 { "WITH" } else { "," };
            let _infallible = write!(text, "{start} part{at} AS ({} RETURNING 1)", part.text);
        }
        for at in 0..self.parts.len() {
            let start = if at == 0 { " SELECT" } else { "," };
            let _infallible = write!(text, "{start} (SELECT count(*) FROM part{at})");
        }
        let counts = sqlx::query_with(AssertSqlSafe(text), self.values).fetch_one(connection).await?;
        for (at, part) in self.parts.iter().enumerate() {
            let touched: i64 = counts.try_get(at)?;
            if let Some(rows) = part.rows {
                all_of(rows, touched.unsigned_abs())?;
            }
        }
        Ok(())
    }

    fn bind<'v>(&mut self, value: impl Encode<'v, Postgres> + Type<Postgres> + 'v) -> Result<(), sqlx::Error> {
        self.values.add(value).map_err(sqlx::Error::Encode)
    }

    /// A statement whose `$1` is the value behind the `first` ones.
    fn part(&mut self, text: &str, first: usize, rows: Option<usize>) {
        self.parts.push(Part { text: renumbered(text, first), rows });
    }
}

/// `text` with each `$N` as `$(N + by)`. It has a `$` nowhere else.
fn renumbered(text: &str, by: usize) -> String {
    let mut pieces = text.split('$');
    let mut moved = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(piece.len());
        let number = piece[..digits].parse().unwrap_or(0) + by;
        let _infallible = write!(moved, "${number}{}", &piece[digits..]);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_part_stand_behind_those_before_it() {
        assert_eq!(renumbered("a = $1::text[] AND b = ANY($12)", 3), "a = $4::text[] AND b = ANY($15)");
        assert_eq!(renumbered("$1", 0), "$1");
        assert_eq!(renumbered("no value", 7), "no value");
    }
}
