//! The projection port: a fold whose states are rows of published tables.
//!
//! Inline, catch-up, rebuild, verify and memory all end in the same [`Fold::step`] and the same [`View::row`], so
//! that "rebuilt equals live, row for row" holds by construction. Authors write a [`Fold`], which is typed; executors
//! hold it as a [`Projection`], which is object-safe. A state stays typed while it is hot, so that an event costs
//! neither a parse nor a print of the row before it.

use std::any::Any;

use lease_events::record::RecordedEvent;
use lease_events::store::ReadError;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::row::{Row, Value, restore};

/// The column that holds, as JSON, what the other columns do not hold of a row's typed state. The first table of
/// every fold has it; the next event of a row that is not hot starts from it.
pub const STATE_COLUMN: &str = "state";

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
    /// A fixed, unique, whole-numbered column that rows are stored by, where there is one. Rows that are made at one time
    /// then stand together, and a change finds its row without a look-up of the key.
    pub stored_by: Option<&'static str>,
    /// The secondary indexes.
    pub indexes: &'static [Index],
}

impl Table {
    /// The name of the primary key's column.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.columns.first().map_or("", |column| column.name)
    }

    /// Where the column `name` stands in a row.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
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
    /// Whether a row keeps its first value for ever: updates leave such a column, and its indexes, alone.
    pub fixed: bool,
    /// The field of the state that this column alone holds, exactly: [`STATE_COLUMN`] leaves it out. A row is half as
    /// long for it, and a row's length is what an append pays for.
    pub holds: Option<&'static str>,
    /// What it means, in a sentence, with units and vocabulary.
    pub about: &'static str,
}

impl Column {
    /// A column that is never NULL and may change.
    #[must_use]
    pub const fn new(name: &'static str, kind: ColumnKind, about: &'static str) -> Self {
        Self { name, kind, nullable: false, fixed: false, holds: None, about }
    }

    /// The same, but it may be NULL.
    #[must_use]
    pub const fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// The same, but a row keeps its first value.
    #[must_use]
    pub const fn fixed(self) -> Self {
        Self { fixed: true, ..self }
    }

    /// The same, but it alone holds the state's `field`.
    #[must_use]
    pub const fn holds(self, field: &'static str) -> Self {
        Self { holds: Some(field), ..self }
    }
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

/// One published table of a fold: which row a state makes in it.
#[derive(Debug)]
pub struct View<S: 'static> {
    /// The table.
    pub table: &'static Table,
    /// The row of a state; `None` where it has none. The first view of a fold has one for every state, with
    /// [`STATE_COLUMN`] in it.
    pub row: fn(&S) -> Option<Row>,
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

/// A fold over the log, one state a key, and the tables that show it. Pure: no SQL, no clock, no I/O.
///
/// A second table costs no second fold: it shows another pure function of the same state, stands in the same
/// transaction, and still fails, is rebuilt and is verified by itself.
pub trait Fold: Send + Sync + 'static {
    /// What is known of one key.
    type State: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The tables; the first has a row a state.
    fn views(&self) -> &'static [View<Self::State>];

    /// The key of the one state that `event` may change; `None` where it changes none.
    fn key(&self, event: &RecordedEvent) -> Option<String>;

    /// Whether no event before `event` can have had its key, so that no row need be looked for. As it stands, a key is
    /// that of one stream.
    fn begins(&self, event: &RecordedEvent) -> bool {
        event.stream_revision == 0
    }

    /// What `event` makes of the state of its key; `None` is a state that is not there, before and after. Events
    /// come in the order of their positions, each once.
    fn step(&self, state: Option<Self::State>, event: &RecordedEvent) -> Result<Option<Self::State>, String>;
}

/// A fold's state in the hands of an executor, which does not know its type.
pub type AnyState = Box<dyn Any + Send + Sync>;

/// A fold without its type, as executors hold it. Implemented by every [`Fold`], and by nothing else.
pub trait Projection: Send + Sync {
    /// The tables; the first has a row a state.
    fn tables(&self) -> Vec<&'static Table>;
    /// See [`Fold::key`].
    fn key(&self, event: &RecordedEvent) -> Option<String>;
    /// See [`Fold::begins`].
    fn begins(&self, event: &RecordedEvent) -> bool;
    /// See [`Fold::step`].
    fn step(&self, state: Option<AnyState>, event: &RecordedEvent) -> Result<Option<AnyState>, StepError>;
    /// The row of a state in the table at `view`; `None` where it has none.
    fn row(&self, view: usize, state: &AnyState) -> Option<Row>;
    /// The state of a row of the first table.
    fn restore(&self, row: &Row) -> Result<AnyState, String>;
    /// A copy of a state; `None` where it is of another fold.
    fn copy(&self, state: &AnyState) -> Option<AnyState>;
}

impl<F: Fold> Projection for F {
    fn tables(&self) -> Vec<&'static Table> {
        self.views().iter().map(|view| view.table).collect()
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        Fold::key(self, event)
    }

    fn begins(&self, event: &RecordedEvent) -> bool {
        Fold::begins(self, event)
    }

    fn step(&self, state: Option<AnyState>, event: &RecordedEvent) -> Result<Option<AnyState>, StepError> {
        let failed = |cause: String| StepError {
            table: self.views().first().map_or("", |view| view.table.name),
            position: event.position.0,
            cause,
        };
        let state = match state {
            None => None,
            Some(state) => match state.downcast::<F::State>() {
                Ok(state) => Some(*state),
                Err(_) => return Err(failed("its state is of another fold".to_owned())),
            },
        };
        let next = Fold::step(self, state, event).map_err(failed)?;
        Ok(next.map(|state| Box::new(state) as AnyState))
    }

    fn row(&self, view: usize, state: &AnyState) -> Option<Row> {
        let state = state.downcast_ref::<F::State>()?;
        (self.views().get(view)?.row)(state)
    }

    fn restore(&self, row: &Row) -> Result<AnyState, String> {
        let table = self.views().first().ok_or("the fold has no table")?.table;
        Ok(Box::new(restore::<F::State>(table, row)?))
    }

    fn copy(&self, state: &AnyState) -> Option<AnyState> {
        Some(Box::new(state.downcast_ref::<F::State>()?.clone()))
    }
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
    /// The rows have not seen the wanted position in time.
    #[error(
        "the projections are at position {position}, not yet at {wanted}; ask again, or see `lease-ledger projection list`"
    )]
    Behind {
        /// What every one of them has seen.
        position: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// A newer program has written the table.
    #[error("table {table} is of version {found}, written by a newer lease-ledger; this one reads version {known}")]
    NewerTable {
        /// The table.
        table: &'static str,
        /// As stored.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The projection stands still, and cannot be followed, rebuilt or compared until its cause is mended.
    #[error("projection {name} is stalled at position {position}: {cause}")]
    Stalled {
        /// The table.
        name: String,
        /// What it has seen.
        position: u64,
        /// Why.
        cause: String,
    },
    /// Another rebuild or verification of the same projection has begun, and this one gave way.
    #[error("another rebuild or verification of {name} has begun; wait for it, then try again")]
    Overtaken {
        /// The table.
        name: String,
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
