//! SQL text made from a [`Table`]: how its rows are written and found. Text only; nothing here touches a database.
//!
//! Names come from constants of this crate, never from input; values are always bound.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use sqlx::AssertSqlSafe;

use super::dialect::Database;
use crate::projection::Table;

/// How many rows one statement has room for on SQLite. A batch takes the smallest that holds it, and leaves the rest
/// unbound, which is NULL and matches nothing: one trip to the connection's thread costs more than a hundred such rows, and
/// few texts stay prepared. 128 rows of the widest table are 4,864 parameters, below SQLite's 32,766.
pub(crate) const BATCH_SIZES: [usize; 4] = [1, 8, 32, 128];

/// How many shapes of change a table's statements are kept for, some 10 KiB each. A life of a lease has about ten.
const UPDATES_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");

/// A statement's text, shared.
pub(crate) type Sql = AssertSqlSafe<Arc<str>>;

/// A statement's text.
pub(crate) fn sql(text: String) -> Sql {
    AssertSqlSafe(text.into())
}

/// A statement that takes keys: by [`BATCH_SIZES`] on SQLite, any number as one array on PostgreSQL.
pub(crate) struct Keyed(Vec<Sql>);

impl Keyed {
    fn new(database: Database, start: &str, key: &str) -> Self {
        Self(match database {
            Database::Sqlite => {
                BATCH_SIZES.map(|rows| sql(format!("{start} WHERE {key} IN ({})", repeated("?", rows)))).into()
            }
            Database::Postgres => vec![sql(format!("{start} WHERE {key} = ANY($1)"))],
        })
    }

    /// The text for as many keys as `BATCH_SIZES[size]`.
    pub(crate) fn sql(&self, size: usize) -> Sql {
        AssertSqlSafe(self.0[size].0.clone())
    }
}

/// A statement that takes rows: by [`BATCH_SIZES`] on SQLite, any number as an array a column on PostgreSQL.
pub(crate) struct Write {
    /// Where the values that it takes stand in a row, in order.
    pub(crate) columns: Vec<usize>,
    /// Which of them are text; the others are whole numbers.
    pub(crate) is_text: Vec<bool>,
    texts: Vec<Sql>,
}

impl Write {
    /// A statement around the rows' text.
    fn new(database: Database, table: &Table, columns: Vec<usize>, around: impl Fn(&str) -> String) -> Self {
        let is_text: Vec<bool> = columns.iter().map(|at| table.columns[*at].kind.is_text()).collect();
        let texts = match database {
            Database::Sqlite => {
                let row = format!("({})", repeated("?", columns.len()));
                BATCH_SIZES.map(|rows| sql(around(&format!("(VALUES {})", repeated(&row, rows))))).into()
            }
            Database::Postgres => {
                let array = |(number, is_text): (usize, &bool)| {
                    format!("${number}::{}[]", if *is_text { "text" } else { "bigint" })
                };
                let arrays: Vec<String> = (1..).zip(&is_text).map(array).collect();
                vec![sql(around(&format!("UNNEST({})", arrays.join(", "))))]
            }
        };
        Self { columns, is_text, texts }
    }

    /// Whole rows that are new, or of which it is not known whether they are there.
    fn put(database: Database, table: &Table, name: &str) -> Self {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let set: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let (into, key, set) = (names.join(", "), table.key(), set.join(", "));
        Self::new(database, table, (0..names.len()).collect(), |rows| {
            let (insert, bound) = match database {
                // OR FAIL: the savepoint undoes what a failed statement did; SQLite need not keep what it would undo itself.
                Database::Sqlite => ("INSERT OR FAIL", " WHERE column1 IS NOT NULL"),
                Database::Postgres => ("INSERT", ""),
            };
            format!("{insert} INTO {name} ({into}) SELECT * FROM {rows}{bound} ON CONFLICT ({key}) DO UPDATE SET {set}")
        })
    }

    fn update(database: Database, table: &Table, name: &str, changed: ColumnSet) -> Self {
        let found_by = table.stored_by.and_then(|name| table.index_of(name)).unwrap_or(0);
        let columns: Vec<usize> =
            std::iter::once(found_by).chain((1..table.columns.len()).filter(|at| changed.has(*at))).collect();
        let set = |(number, at): (usize, &usize)| format!("{} = new.column{number}", table.columns[*at].name);
        let set: Vec<String> = (2..).zip(&columns[1..]).map(set).collect();
        let (set, found_by) = (set.join(", "), table.columns[found_by].name);
        let (update, alias) = match database {
            Database::Sqlite => ("UPDATE OR FAIL", "new".to_owned()),
            Database::Postgres => {
                let names: Vec<String> = (1..=columns.len()).map(|number| format!("column{number}")).collect();
                ("UPDATE", format!("new ({})", names.join(", ")))
            }
        };
        Self::new(database, table, columns, |rows| {
            format!("{update} {name} SET {set} FROM {rows} AS {alias} WHERE {name}.{found_by} = new.column1")
        })
    }

    /// The text for as many rows as `BATCH_SIZES[size]`.
    pub(crate) fn sql(&self, size: usize) -> Sql {
        AssertSqlSafe(self.texts[size].0.clone())
    }
}

/// The statements of one table under one name.
pub(crate) struct Statements {
    /// The name that they speak of: the table's own, or that of a copy beside it.
    pub(crate) name: String,
    database: Database,
    /// Whole rows that are new, or of which it is not known whether they are there.
    pub(crate) put: Write,
    /// What changes of rows that are there, by which columns it is; made when first needed.
    updates: Mutex<LruCache<ColumnSet, Arc<Write>>>,
    pub(crate) delete: Keyed,
    /// Whole rows.
    pub(crate) select: Keyed,
}

impl Statements {
    /// The statements of `table` under its name followed by `suffix`.
    pub(crate) fn new(database: Database, table: &Table, suffix: &str) -> Self {
        let name = format!("{}{suffix}", table.name);
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        Self {
            put: Write::put(database, table, &name),
            updates: Mutex::new(LruCache::new(UPDATES_MAX)),
            delete: Keyed::new(database, &format!("DELETE FROM {name}"), table.key()),
            select: Keyed::new(database, &format!("SELECT {} FROM {name}", names.join(", ")), table.key()),
            name,
            database,
        }
    }

    /// The change of rows that are there and of which just the columns `changed` changed.
    pub(crate) fn update(&self, table: &Table, changed: ColumnSet) -> Arc<Write> {
        let mut updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        let update = || Arc::new(Write::update(self.database, table, &self.name, changed));
        updates.get_or_insert(changed, update).clone()
    }
}

/// How `count` rows are cut on SQLite: the index in [`BATCH_SIZES`] and the rows of each statement, in order.
pub(crate) fn cut(count: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let largest = BATCH_SIZES.len() - 1;
    (0..count).step_by(BATCH_SIZES[largest]).map(move |from| {
        let range = from..count.min(from + BATCH_SIZES[largest]);
        (BATCH_SIZES.iter().position(|size| *size >= range.len()).unwrap_or(largest), range)
    })
}

/// Some columns of a table, by where they stand; tables have fewer than 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct ColumnSet(u64);

impl ColumnSet {
    /// The columns of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }
}

impl FromIterator<usize> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = usize>>(columns: I) -> Self {
        columns.into_iter().fold(Self::default(), |set, at| Self(set.0 | 1 << at))
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
    fn an_update_sets_what_changed_and_finds_the_row_by_what_it_is_stored_by() {
        let table = &current_leases::TABLE;
        let at = |name: &str| table.index_of(name).expect("it is a column");
        let changed = [at("status"), at("state")].into_iter().collect();
        let update = Write::update(Database::Sqlite, table, "t", changed);
        assert_eq!(update.columns, [at("created_position"), at("status"), at("state")]);
        assert_eq!(
            update.texts[0].0.as_ref(),
            "UPDATE OR FAIL t SET status = new.column2, state = new.column3 FROM (VALUES (?, ?, ?)) AS new \
             WHERE t.created_position = new.column1"
        );
        let update = Write::update(Database::Postgres, table, "t", changed);
        assert_eq!(update.is_text, [false, true, true]);
        assert_eq!(
            update.texts[0].0.as_ref(),
            "UPDATE t SET status = new.column2, state = new.column3 \
             FROM UNNEST($1::bigint[], $2::text[], $3::text[]) AS new (column1, column2, column3) \
             WHERE t.created_position = new.column1"
        );
    }
}
