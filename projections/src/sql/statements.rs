//! SQL text made from a [`Table`]: how it is created, written and read. Text only; nothing here touches a database.
//!
//! Names come from constants of this crate, never from input; values are always bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::AssertSqlSafe;

use crate::projection::{ColumnKind, Table};

/// How many rows one statement has room for. A batch takes the smallest that holds it, and leaves the rest unbound,
/// which is NULL and matches nothing: one trip to the connection's thread costs more than a hundred such rows, and few
/// texts stay prepared. 128 rows of the widest table are 4,864 parameters, below SQLite's 32,766.
pub(crate) const BATCH_SIZES: [usize; 4] = [1, 8, 32, 128];

/// A statement's text, shared.
pub(crate) type Sql = AssertSqlSafe<Arc<str>>;

/// The statements of one table under one name.
pub(crate) struct Statements {
    /// The name that they speak of: the table's own, or that of a copy beside it.
    pub(crate) name: String,
    /// Whole rows that are new, or of which it is not known whether they are there.
    put: [Sql; BATCH_SIZES.len()],
    /// What changes of rows that are there, by which of the indexed columns are among it; made when first needed.
    updates: Mutex<HashMap<ColumnSet, Arc<Update>>>,
    delete: [Sql; BATCH_SIZES.len()],
    /// Whole rows.
    select: [Sql; BATCH_SIZES.len()],
}

impl Statements {
    /// The statements of `table` under its name followed by `suffix`.
    pub(crate) fn new(table: &Table, suffix: &str) -> Self {
        let name = format!("{}{suffix}", table.name);
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let keyed = |start: String| BATCH_SIZES.map(|rows| sql(format!("{start} IN ({})", repeated("?", rows))));
        Self {
            put: BATCH_SIZES.map(|rows| sql(put(table, &name, rows))),
            updates: Mutex::default(),
            delete: keyed(format!("DELETE FROM {name} WHERE {}", table.key())),
            select: keyed(format!("SELECT {} FROM {name} WHERE {}", names.join(", "), table.key())),
            name,
        }
    }

    /// The write of as many whole rows as `BATCH_SIZES[size]`.
    pub(crate) fn put(&self, size: usize) -> Sql {
        AssertSqlSafe(self.put[size].0.clone())
    }

    /// The change of rows that are there and of whose indexed columns just `changed` changed: SQLite maintains an index
    /// whenever a column of it is set, even to what it was.
    pub(crate) fn update(&self, table: &Table, changed: ColumnSet) -> Arc<Update> {
        let mut updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        updates.entry(changed).or_insert_with(|| Arc::new(Update::new(table, &self.name, changed))).clone()
    }

    /// The delete of as many keys as `BATCH_SIZES[size]`.
    pub(crate) fn delete(&self, size: usize) -> Sql {
        AssertSqlSafe(self.delete[size].0.clone())
    }

    /// The rows of as many keys as `BATCH_SIZES[size]`.
    pub(crate) fn select(&self, size: usize) -> Sql {
        AssertSqlSafe(self.select[size].0.clone())
    }
}

/// How `count` rows are cut: the index in [`BATCH_SIZES`] and the rows of each statement, in order.
pub(crate) fn cut(count: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let largest = BATCH_SIZES.len() - 1;
    (0..count).step_by(BATCH_SIZES[largest]).map(move |from| {
        let range = from..count.min(from + BATCH_SIZES[largest]);
        (BATCH_SIZES.iter().position(|size| *size >= range.len()).unwrap_or(largest), range)
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
            let key = match (at, table.stored_by) {
                // An INTEGER PRIMARY KEY is what SQLite stores a table's rows by.
                (_, Some(name)) if name == column.name => " PRIMARY KEY",
                (0, Some(_)) => " UNIQUE",
                (0, None) => " PRIMARY KEY",
                _ => "",
            };
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
        let columns = match index.columns {
            // Every entry ends in what its row is stored by.
            [columns @ .., last] if Some(*last) == table.stored_by && !columns.is_empty() => columns,
            columns => columns,
        };
        sql(format!(
            "CREATE INDEX {}_{}_{generation} ON {name} ({}){condition}",
            table.name,
            index.name,
            columns.join(", ")
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

fn put(table: &Table, name: &str, rows: usize) -> String {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let row = format!("({})", repeated("?", names.len()));
    let set: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO {name} ({}) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL ON CONFLICT ({}) DO UPDATE SET {}",
        names.join(", "),
        repeated(&row, rows),
        table.key(),
        set.join(", ")
    )
}

/// Some columns of a table, by where they stand; tables have fewer than 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct ColumnSet(u64);

impl ColumnSet {
    /// The set with the column at `at` in it.
    pub(crate) fn with(self, at: usize) -> Self {
        Self(self.0 | 1 << at)
    }

    fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }
}

/// The statements that change rows which are there, and which of a row's values they take, in order.
pub(crate) struct Update {
    /// Where the values stand in a row; the first is what the row is found by.
    pub(crate) columns: Vec<usize>,
    texts: [Sql; BATCH_SIZES.len()],
}

impl Update {
    fn new(table: &Table, name: &str, changed: ColumnSet) -> Self {
        let is_set = |at: &usize| !table.columns[*at].fixed && (!is_indexed(table, *at) || changed.has(*at));
        let found_by = table.stored_by.and_then(|name| table.index_of(name)).unwrap_or(0);
        let columns: Vec<usize> = std::iter::once(found_by).chain((1..table.columns.len()).filter(is_set)).collect();
        let texts = BATCH_SIZES.map(|rows| sql(Self::text(table, name, &columns, rows)));
        Self { columns, texts }
    }

    fn text(table: &Table, name: &str, columns: &[usize], rows: usize) -> String {
        let set: Vec<String> = (2..)
            .zip(&columns[1..])
            .map(|(number, at)| format!("{} = new.column{number}", table.columns[*at].name))
            .collect();
        let row = format!("({})", repeated("?", columns.len()));
        format!(
            "UPDATE {name} SET {} FROM (VALUES {}) AS new WHERE {name}.{} = new.column1",
            set.join(", "),
            repeated(&row, rows),
            table.columns[columns[0]].name
        )
    }

    /// The change of as many rows as `BATCH_SIZES[size]`.
    pub(crate) fn sql(&self, size: usize) -> Sql {
        AssertSqlSafe(self.texts[size].0.clone())
    }
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
            assert_eq!(ranges.len(), count.div_ceil(128));
            assert!(cut(count).all(|(size, range)| BATCH_SIZES[size] >= range.len()));
        }
    }

    #[test]
    fn an_update_leaves_alone_what_is_fixed_and_what_is_indexed_and_did_not_change() {
        let table = &current_leases::TABLE;
        let at = |name: &str| table.index_of(name).expect("it is a column");
        let names = |changed: ColumnSet| -> Vec<&str> {
            Update::new(table, "t", changed).columns.iter().map(|at| table.columns[*at].name).collect()
        };
        let narrow = names(ColumnSet::default());
        assert_eq!(narrow[0], "created_position");
        assert!(narrow.contains(&"position") && narrow.contains(&"state"));
        for left_alone in
            ["next_action_at", "is_open", "cleanup_status", "needs_attention", "run_id", "lease_id", "created_position"]
        {
            assert!(!narrow[1..].contains(&left_alone), "{left_alone}");
        }
        let due = names(ColumnSet::default().with(at("next_action_at")));
        assert!(due.contains(&"next_action_at") && !due.contains(&"is_open"));
    }
}
