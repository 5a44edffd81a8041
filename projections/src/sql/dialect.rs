//! Which database the tables are in, and all that the two do not have in common: how tables are made, protected and
//! swapped, and what a savepoint is. Text only; nothing here touches a database.
//!
//! What is not here is the same text for both. Names come from constants of this crate, never from input.

use lease_stores::sql::{SqlConnection, SqlReader};

use super::statements::{Sql, sql};
use crate::projection::{Column, ColumnKind, Table};

/// A database that can hold the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// Rows go in as rows of bound values, since each statement costs a trip to the connection's thread and little else.
    Sqlite,
    /// Rows go in as one array a column: one text serves any number of rows.
    Postgres,
}

/// The role that reads projections on PostgreSQL, where there is one.
const ANALYST: &str = "lease_ledger_analyst";
/// The role that ledger processes write as, where there is one.
const WRITER: &str = "lease_ledger_writer";
/// The setting that names the company whose rows such a reader sees.
const COMPANY: &str = "current_setting('ledger.company', true)";
/// How full PostgreSQL packs a page: a row that changes then finds room beside itself, and its indexes are left alone.
const FILL_FACTOR: u8 = 70;

impl Database {
    /// The database behind `reader`.
    pub(crate) fn of(reader: &SqlReader) -> Self {
        match reader {
            SqlReader::Sqlite(_) => Self::Sqlite,
            SqlReader::Postgres(_) => Self::Postgres,
        }
    }

    /// The database that `connection` leads to.
    pub(crate) fn of_connection(connection: &SqlConnection<'_>) -> Self {
        match connection {
            SqlConnection::Sqlite(_) => Self::Sqlite,
            SqlConnection::Postgres(_) => Self::Postgres,
        }
    }

    /// Begins what can be undone without the transaction. They nest; the transaction's end ends them all.
    ///
    /// On PostgreSQL somebody else may have locked a table, and appends wait as long as a write or a swap waits for it: a
    /// table that does not come free in time is stalled, and caught up later.
    pub(crate) fn savepoint(self) -> &'static str {
        match self {
            Self::Sqlite => "SAVEPOINT projections",
            Self::Postgres => "SAVEPOINT projections; SET LOCAL lock_timeout = '1s'",
        }
    }

    /// The names of the tables that are there.
    pub(crate) fn catalogue(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
            Self::Postgres => {
                "SELECT relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE relkind = 'r' AND nspname = current_schema()"
            }
        }
    }

    /// A column in a condition that its index should not serve. SQLite, without statistics, takes every index of one
    /// equal column for equally narrow; PostgreSQL has statistics.
    pub(crate) fn beside_index(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("+{column}"),
            Self::Postgres => column.to_owned(),
        }
    }

    /// The type of a column that holds `kind`. Times and JSON are text everywhere, so that rows are the same everywhere,
    /// and compare by byte.
    fn column_type(self, kind: ColumnKind) -> &'static str {
        match (self, kind.is_text()) {
            (Self::Sqlite, true) => "TEXT",
            (Self::Sqlite, false) => "INTEGER",
            (Self::Postgres, true) => "TEXT COLLATE \"C\"",
            (Self::Postgres, false) => "BIGINT",
        }
    }

    fn key_clause(self, table: &Table, at: usize, column: &Column) -> &'static str {
        let stored_by = table.stored_by == Some(column.name);
        match (self, at) {
            // An INTEGER PRIMARY KEY is what SQLite stores a table's rows by.
            (Self::Sqlite, _) if stored_by => " PRIMARY KEY",
            (Self::Sqlite, 0) if table.stored_by.is_some() => " UNIQUE",
            (_, 0) => " PRIMARY KEY",
            (Self::Postgres, _) if stored_by => " UNIQUE",
            _ => "",
        }
    }

    /// Creates `table` as `name`. On PostgreSQL nobody but its owner sees a row of it without naming the row's company,
    /// and the analyst, where there is one, may try.
    pub(crate) fn create_table(self, table: &Table, name: &str) -> Sql {
        let column = |(at, column): (usize, &Column)| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {}{null}{}", column.name, self.column_type(column.kind), self.key_clause(table, at, column))
        };
        let columns: Vec<String> = table.columns.iter().enumerate().map(column).collect();
        let create = format!("CREATE TABLE {name} (\n  {}\n)", columns.join(",\n  "));
        match self {
            Self::Sqlite => sql(format!("{create} STRICT")),
            Self::Postgres => {
                let policy = table
                    .index_of("company_id")
                    .map(|_| format!("CREATE POLICY company ON {name} FOR SELECT USING (company_id = {COMPANY});"));
                sql(format!(
                    "{create} WITH (fillfactor = {FILL_FACTOR});
                     ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
                     {}{}",
                    policy.unwrap_or_default(),
                    hand_over(name, "SELECT"),
                ))
            }
        }
    }

    /// Creates the table of marks where it is not there.
    pub(crate) fn create_marks(self) -> Sql {
        let (text, number) = (self.column_type(ColumnKind::Text), self.column_type(ColumnKind::Integer));
        let create = format!(
            "CREATE TABLE IF NOT EXISTS projections (
  name {text} NOT NULL PRIMARY KEY,
  version {number} NOT NULL,
  generation {number} NOT NULL,
  position {number} NOT NULL,
  stalled {text},
  stalled_at {text}
)"
        );
        match self {
            Self::Sqlite => sql(format!("{create} STRICT")),
            // Why a table stands still may speak of any company's rows.
            Self::Postgres => sql(format!(
                "{create} WITH (fillfactor = {FILL_FACTOR});{}",
                hand_over("projections", "SELECT (name, version, generation, position, stalled_at)")
            )),
        }
    }

    /// `CREATE INDEX` of every index of `table`, on the table that is called `name`. The generation is part of each
    /// index's name, so that a table and the copy that will replace it can stand side by side.
    pub(crate) fn create_indexes(self, table: &Table, name: &str, generation: u64) -> Vec<Sql> {
        let index = |index: &crate::projection::Index| {
            let condition = index.condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
            let columns = match index.columns {
                // Every entry ends in what its row is stored by.
                [columns @ .., last]
                    if self == Self::Sqlite && Some(*last) == table.stored_by && !columns.is_empty() =>
                {
                    columns
                }
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

    /// Puts the table `copy` in the place of `name`, with the rights that were granted on it.
    pub(crate) fn swap(self, name: &str, copy: &str) -> Sql {
        let swap = format!("DROP TABLE IF EXISTS {name}; ALTER TABLE {copy} RENAME TO {name}");
        match self {
            Self::Sqlite => sql(swap),
            Self::Postgres => sql(format!(
                "DO $$ DECLARE given record; BEGIN
                   FOR given IN
                     SELECT privilege_type AS what, CASE is_grantable WHEN true THEN ' WITH GRANT OPTION' ELSE '' END AS how,
                       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS whom
                     FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass('{name}') AND grantee <> relowner
                   LOOP EXECUTE format('GRANT %s ON {copy} TO %s%s', given.what, given.whom, given.how); END LOOP;
                 END $$; {swap}"
            )),
        }
    }
}

/// `DROP TABLE`, where it is there.
pub(crate) fn drop_table(name: &str) -> Sql {
    sql(format!("DROP TABLE IF EXISTS {name}"))
}

/// Undoes what came since the savepoint, and leaves it standing; [`RELEASE`] removes it.
pub(crate) const ROLLBACK: &str = "ROLLBACK TO SAVEPOINT projections";
/// Ends a savepoint.
pub(crate) const RELEASE: &str = "RELEASE SAVEPOINT projections";

/// PostgreSQL's state for a lock that did not come free in time.
pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Lets every ledger process of the role that writes have the table, and the analyst read `what` of it, where there are
/// such roles. Their rights are renewed by `migrations/postgres/roles.sql`.
fn hand_over(name: &str, what: &str) -> String {
    format!(
        "DO $$ BEGIN
           IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ANALYST}') THEN GRANT {what} ON {name} TO {ANALYST}; END IF;
           IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{WRITER}' AND pg_has_role(oid, 'USAGE')
                AND has_schema_privilege(oid, current_schema(), 'CREATE'))
             THEN ALTER TABLE {name} OWNER TO {WRITER}; END IF;
         END $$"
    )
}
