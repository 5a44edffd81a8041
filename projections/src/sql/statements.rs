//! SQL text made from a [`Table`]: how it is created, written and read. Text only; nothing here touches a database.
//!
//! Names come from constants of this crate, never from input; values are always bound.

use std::sync::Arc;

use sqlx::AssertSqlSafe;

use crate::projection::{ColumnKind, Table};

/// How many rows one statement takes. A batch is cut into these, greedily, so that the few texts stay prepared
/// (sqlx keeps 100 a connection); 128 rows of the widest table are 4,864 parameters, below SQLite's 32,766.
pub(crate) const BATCH_SIZES: [usize; 5] = [128, 32, 8, 2, 1];

/// A statement's text, shared.
pub(crate) type Sql = AssertSqlSafe<Arc<str>>;

/// The statements of one table under one name.
pub(crate) struct Statements {
    /// The name that they speak of: the table's own, or that of a copy beside it.
    pub(crate) name: String,
    /// Rows that are new, or of which an indexed column changed.
    put: [Sql; BATCH_SIZES.len()],
    /// Rows that are there and whose indexed columns stay: no index is touched.
    put_unindexed: [Sql; BATCH_SIZES.len()],
    delete: [Sql; BATCH_SIZES.len()],
    /// Key and state.
    select_states: Option<[Sql; BATCH_SIZES.len()]>,
}

impl Statements {
    /// The statements of `table` under its name followed by `suffix`.
    pub(crate) fn new(table: &Table, suffix: &str) -> Self {
        let name = format!("{}{suffix}", table.name);
        let state = table.index_of(crate::projection::STATE_COLUMN).map(|at| table.columns[at].name);
        let keyed = |start: String| BATCH_SIZES.map(|rows| sql(format!("{start} IN ({})", repeated("?", rows))));
        Self {
            put: BATCH_SIZES.map(|rows| sql(put(table, &name, rows, true))),
            put_unindexed: BATCH_SIZES.map(|rows| sql(put(table, &name, rows, false))),
            delete: keyed(format!("DELETE FROM {name} WHERE {}", table.key())),
            select_states: state.map(|state| keyed(format!("SELECT {0}, {state} FROM {name} WHERE {0}", table.key()))),
            name,
        }
    }

    /// The write of as many rows as `BATCH_SIZES[size]`.
    pub(crate) fn put(&self, size: usize, indexed: bool) -> Sql {
        let texts = if indexed { &self.put } else { &self.put_unindexed };
        AssertSqlSafe(texts[size].0.clone())
    }

    /// The delete of as many keys as `BATCH_SIZES[size]`.
    pub(crate) fn delete(&self, size: usize) -> Sql {
        AssertSqlSafe(self.delete[size].0.clone())
    }

    /// Key and state of as many keys as `BATCH_SIZES[size]`; `None` where the table keeps no state.
    pub(crate) fn select_states(&self, size: usize) -> Option<Sql> {
        self.select_states.as_ref().map(|texts| AssertSqlSafe(texts[size].0.clone()))
    }
}

/// How `count` rows are cut: the index in [`BATCH_SIZES`] and the rows of each statement, in order.
pub(crate) fn cut(count: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let size = BATCH_SIZES.iter().position(|size| *size <= count - from)?;
        let range = from..from + BATCH_SIZES[size];
        from = range.end;
        Some((size, range))
    })
}

/// `CREATE TABLE` of `table` as `name`.
pub(crate) fn create_table(table: &Table, name: &str) -> Sql {
    let columns: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let kind = match column.kind {
                ColumnKind::Text | ColumnKind::Timestamp | ColumnKind::Json => "TEXT",
                ColumnKind::Integer | ColumnKind::Boolean => "INTEGER",
            };
            let null = if column.nullable { "" } else { " NOT NULL" };
            let key = if at == 0 { " PRIMARY KEY" } else { "" };
            format!("{} {kind}{null}{key}", column.name)
        })
        .collect();
    sql(format!("CREATE TABLE {name} (\n  {}\n) STRICT", columns.join(",\n  ")))
}

/// `CREATE INDEX` of every index of `table`, on the table that is called `name`. The generation is part of each
/// index's name, so that a table and the copy that will replace it can stand side by side.
pub(crate) fn create_indexes(table: &Table, name: &str, generation: u64) -> Vec<Sql> {
    let index = |index: &crate::projection::Index| {
        let condition = index.condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        sql(format!(
            "CREATE INDEX {}_{}_{generation} ON {name} ({}){condition}",
            table.name,
            index.name,
            index.columns.join(", ")
        ))
    };
    table.indexes.iter().map(index).collect()
}

/// `DROP TABLE`, where it is there.
pub(crate) fn drop_table(name: &str) -> Sql {
    sql(format!("DROP TABLE IF EXISTS {name}"))
}

/// `ALTER TABLE … RENAME TO …`.
pub(crate) fn rename_table(from: &str, to: &str) -> Sql {
    sql(format!("ALTER TABLE {from} RENAME TO {to}"))
}

/// Whether a change of the column at `at` touches an index.
pub(crate) fn is_indexed(table: &Table, at: usize) -> bool {
    let name = table.columns[at].name;
    table.indexes.iter().any(|index| {
        index.columns.contains(&name) || index.condition.is_some_and(|condition| mentions(condition, name))
    })
}

/// A statement's text.
pub(crate) fn sql(text: String) -> Sql {
    AssertSqlSafe(text.into())
}

fn mentions(condition: &str, name: &str) -> bool {
    condition.split(|character: char| !character.is_ascii_alphanumeric() && character != '_').any(|word| word == name)
}

fn put(table: &Table, name: &str, rows: usize, indexed: bool) -> String {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let row = format!("({})", repeated("?", names.len()));
    let set: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(at, column)| !column.fixed && (indexed || !is_indexed(table, *at)))
        .map(|(_, column)| format!("{0} = excluded.{0}", column.name))
        .collect();
    let change = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    format!(
        "INSERT INTO {name} ({}) VALUES {} ON CONFLICT ({}) DO {change}",
        names.join(", "),
        repeated(&row, rows),
        table.key()
    )
}

fn repeated(text: &str, times: usize) -> String {
    vec![text; times].join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::current_leases;

    #[test]
    fn a_batch_is_cut_into_few_statements_that_cover_it() {
        for count in 0..300 {
            let ranges: Vec<_> = cut(count).map(|(_, range)| range).collect();
            let covered: Vec<usize> = ranges.iter().cloned().flatten().collect();
            assert_eq!(covered, (0..count).collect::<Vec<_>>());
            assert!(ranges.len() <= 12, "{count} rows take {} statements", ranges.len());
        }
    }

    #[test]
    fn an_update_leaves_fixed_columns_alone_and_a_narrow_one_the_indexed_ones_too() {
        let wide = put(&current_leases::TABLE, "t", 1, true);
        let narrow = put(&current_leases::TABLE, "t", 1, false);
        assert!(wide.contains("next_action_at = excluded") && !narrow.contains("next_action_at = excluded"));
        assert!(wide.contains("is_open = excluded") && !narrow.contains("is_open = excluded"));
        assert!(narrow.contains("position = excluded.position") && !narrow.contains("created_position = excluded"));
        assert!(!wide.contains("run_id = excluded"));
    }
}
