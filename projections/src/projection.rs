//! The projection port: a pure step over one row, and the table that the rows make.
//!
//! Inline, catch-up, rebuild and memory all end in the same [`Projection::step`], so that "rebuilt equals live, row
//! for row" holds by construction.

use lease_events::record::RecordedEvent;
use lease_events::store::ReadError;

/// A published table: its name, version, columns and indexes. Changing columns means raising the version, and the
/// new table is rebuilt beside the old one and swapped in.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The table's name in SQL.
    pub name: &'static str,
    /// The version of its shape and meaning, from 1.
    pub version: u32,
    /// What the table is for, in a sentence: docs/ are generated from it.
    pub about: &'static str,
    /// The columns; the first is the primary key.
    pub columns: &'static [Column],
    /// The secondary indexes.
    pub indexes: &'static [Index],
}

/// A column of a published table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// What it means, in a sentence, with units and vocabulary.
    pub about: &'static str,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// UTF-8 text.
    Text,
    /// A whole number.
    Integer,
    /// 0 or 1 in SQLite, a boolean elsewhere.
    Boolean,
    /// RFC 3339 UTC text with microseconds and `Z` in SQLite (sorts as time), a timestamp elsewhere.
    Timestamp,
    /// JSON text.
    Json,
}

/// A secondary index.
#[derive(Debug, Clone, Copy)]
pub struct Index {
    /// The last part of its name.
    pub name: &'static str,
    /// Its columns, in order.
    pub columns: &'static [&'static str],
    /// A partial index's condition: SQL that SQLite and PostgreSQL both read.
    pub condition: Option<&'static str>,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number; booleans are 0 and 1.
    Integer(i64),
    /// Text; timestamps and JSON too.
    Text(std::sync::Arc<str>),
}

/// A row: one value a column, in the table's order.
pub type Row = Vec<Value>;

/// What a step makes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    Keep,
    /// It becomes this one, or is there from now on.
    Put(Row),
    /// It is there no more.
    Delete,
}

/// Why a step failed: the projection is marked stalled, and the event stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}: the event at position {position} cannot be projected: {cause}")]
pub struct StepError {
    /// The table.
    pub table: &'static str,
    /// The event's position.
    pub position: u64,
    /// Why.
    pub cause: String,
}

/// A table as a fold over the log. Pure: no SQL, no clock, no I/O.
pub trait Projection: Send + Sync {
    /// The table that its rows make.
    fn table(&self) -> &'static Table;

    /// The key of the one row that `event` may change; `None` where it changes none.
    fn key(&self, event: &RecordedEvent) -> Option<String>;

    /// What `event` makes of the row of its key; `None` is a row that is not there. Events come in the order of
    /// their positions, each once.
    fn step(&self, row: Option<&Row>, event: &RecordedEvent) -> Result<Change, StepError>;
}

/// How a projection stands, as `projection list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// The table.
    pub name: String,
    /// The version of the rows that are there.
    pub version: u32,
    /// The last position that the rows have seen.
    pub position: u64,
    /// The last position of the log.
    pub head: u64,
    /// What went wrong, where it is stalled.
    pub stalled: Option<String>,
    /// How many rows there are.
    pub rows: u64,
}

/// Why the read side gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It may be tried again.
    #[error("the projections are not available: {cause}")]
    Unavailable {
        /// What the database said.
        cause: String,
    },
    /// A stored row makes no sense.
    #[error(
        "table {table}, row {key}, column {column} cannot be read: {cause}; run `lease-ledger projection rebuild {table}`"
    )]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// The column.
        column: &'static str,
        /// Why.
        cause: String,
    },
    /// No projection has this name.
    #[error("there is no projection \"{name}\"; there are {known}")]
    UnknownProjection {
        /// As given.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
}
