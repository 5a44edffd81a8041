//! One batch of events through one fold: read what is not hot, step, write what changed. Inline, catch-up, rebuild
//! and verify all come through here.
//!
//! **Invariant:** rows are taken out of the hot ones while they are worked on, so that a failure leaves none behind
//! that the database does not hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lease_events::record::RecordedEvent;
use lease_stores::sql::SqlConnection;

use super::access;
use super::dialect::Database;
use super::fault::BatchError;
use super::hot::{HotRow, HotRows, Shown};
use super::joint::Joint;
use super::statements::{ColumnSet, Statements};
use crate::projection::{AnyState, Projection, Row, STATE_COLUMN, Table, Value};

/// One table of a fold, with its statements.
pub(crate) struct SqlView {
    pub(crate) table: &'static Table,
    pub(crate) statements: Statements,
    /// The columns that may change, but for the state's.
    compared: Vec<usize>,
    /// What is written of every row that changed.
    always: ColumnSet,
    /// Whether a column holds the state.
    has_state: bool,
}

/// A fold and its tables under one set of names.
pub(crate) struct SqlFold {
    pub(crate) projection: Arc<dyn Projection>,
    /// The first keeps the states.
    pub(crate) views: Vec<SqlView>,
}

impl SqlFold {
    /// The fold over tables whose names end in `suffix`.
    pub(crate) fn new(database: Database, projection: &Arc<dyn Projection>, suffix: &str) -> Self {
        let view = |table: &'static Table| SqlView::new(database, table, Statements::new(database, table, suffix));
        Self { projection: projection.clone(), views: projection.tables().into_iter().map(view).collect() }
    }

    /// Every table.
    pub(crate) fn tables(&self) -> Vec<&'static Table> {
        self.views.iter().map(|view| view.table).collect()
    }

    /// The table that keeps the states.
    pub(crate) fn main(&self) -> &SqlView {
        &self.views[0]
    }
}

/// The rows that a batch of events touches, each once, in the order of its first event.
pub(crate) struct Batch {
    keys: Vec<Arc<str>>,
    rows: Vec<HotRow>,
    /// What is to be written, by table, where that was worked out beforehand.
    staged: BTreeMap<usize, Staged>,
}

/// What is to be written to one table.
struct Staged {
    new: Vec<Row>,
    /// By which columns changed.
    changed: BTreeMap<ColumnSet, Vec<Row>>,
    gone: Vec<Arc<str>>,
}

/// The rows that events touch, found but not stepped yet.
struct Found<'a> {
    batch: Batch,
    slots: HashMap<Arc<str>, usize>,
    steps: Vec<(usize, &'a RecordedEvent)>,
    /// Rows that are not hot, and may be in the database.
    cold: Vec<usize>,
}

impl Batch {
    /// Reads the rows that `events` touch and steps them through all of `events`.
    pub(crate) async fn fold(
        fold: &SqlFold,
        hot: &mut HotRows,
        connection: &mut SqlConnection<'_>,
        events: &[RecordedEvent],
    ) -> Result<Self, BatchError> {
        let Found { mut batch, slots, steps, cold } = Self::find(fold, hot, events);
        batch.read(fold, connection, &slots, &cold).await?;
        batch.step(fold, steps)?;
        Ok(batch)
    }

    /// The same without the database, and with what the tables at `views` will show worked out: `None` where a row is
    /// not hot, or a step fails, which is then found again by [`Self::fold`].
    pub(crate) fn fold_hot(
        fold: &SqlFold,
        views: &[usize],
        hot: &mut HotRows,
        events: &[RecordedEvent],
    ) -> Option<Self> {
        let Found { mut batch, steps, cold, .. } = Self::find(fold, hot, events);
        if !cold.is_empty() {
            batch.keep(hot);
            return None;
        }
        batch.step(fold, steps).ok()?;
        for view in views {
            let staged = batch.stage(fold, *view);
            batch.staged.insert(*view, staged);
        }
        Some(batch)
    }

    fn find<'a>(fold: &SqlFold, hot: &mut HotRows, events: &'a [RecordedEvent]) -> Found<'a> {
        let mut batch = Self::empty();
        let mut slots: HashMap<Arc<str>, usize> = HashMap::new();
        let mut steps: Vec<(usize, &RecordedEvent)> = Vec::with_capacity(events.len());
        let mut cold: Vec<usize> = Vec::new();
        for event in events {
            let Some(key) = fold.projection.key(event) else { continue };
            let slot = if let Some(slot) = slots.get(key.as_str()) {
                *slot
            } else {
                let begins = fold.projection.begins(event);
                let slot = batch.take_or_add(key.into(), hot, fold.views.len(), begins);
                if !begins && batch.rows[slot].state.is_none() {
                    cold.push(slot);
                }
                slots.insert(batch.keys[slot].clone(), slot);
                slot
            };
            steps.push((slot, event));
        }
        Found { batch, slots, steps, cold }
    }

    fn empty() -> Self {
        Self { keys: Vec::new(), rows: Vec::new(), staged: BTreeMap::new() }
    }

    fn step(&mut self, fold: &SqlFold, steps: Vec<(usize, &RecordedEvent)>) -> Result<(), BatchError> {
        for (slot, event) in steps {
            let row = &mut self.rows[slot];
            row.state = fold
                .projection
                .step(row.state.take(), event)
                .map_err(|error| BatchError::Projection(error.to_string()))?;
        }
        Ok(())
    }

    /// The rows that `events` touch, as the first table holds them now; what the other tables show is not known.
    pub(crate) async fn stored(
        fold: &SqlFold,
        connection: &mut SqlConnection<'_>,
        events: &[RecordedEvent],
    ) -> Result<Self, BatchError> {
        let mut batch = Self::empty();
        let mut slots: HashMap<Arc<str>, usize> = HashMap::new();
        for key in events.iter().filter_map(|event| fold.projection.key(event)) {
            let key: Arc<str> = key.into();
            slots.entry(key.clone()).or_insert_with(|| batch.add(key, fold.views.len(), Shown::Unknown));
        }
        let all: Vec<usize> = (0..batch.keys.len()).collect();
        batch.read(fold, connection, &slots, &all).await?;
        for row in &mut batch.rows {
            row.shown.fill(Shown::Unknown);
        }
        Ok(batch)
    }

    fn take_or_add(&mut self, key: Arc<str>, hot: &mut HotRows, views: usize, begins: bool) -> usize {
        // Even where an event begins its key the row may be there: a stalled table is stepped again from behind it.
        match hot.take(&key) {
            Some(row) if !begins => {
                self.keys.push(key);
                self.rows.push(row);
                self.rows.len() - 1
            }
            _ => self.add(key, views, Shown::Absent),
        }
    }

    fn add(&mut self, key: Arc<str>, views: usize, shown: Shown) -> usize {
        self.keys.push(key);
        self.rows.push(HotRow { state: None, shown: vec![shown; views], bytes: 0 });
        self.rows.len() - 1
    }

    async fn read(
        &mut self,
        fold: &SqlFold,
        connection: &mut SqlConnection<'_>,
        slots: &HashMap<Arc<str>, usize>,
        cold: &[usize],
    ) -> Result<(), BatchError> {
        let keys: Vec<Arc<str>> = cold.iter().map(|slot| self.keys[*slot].clone()).collect();
        for row in access::select(connection, &fold.main().statements.select, &keys).await? {
            let Some(Value::Text(key)) = row.first() else { continue };
            let Some(slot) = slots.get(key) else { continue };
            let state = fold
                .projection
                .restore(&row)
                .map_err(|error| BatchError::Projection(format!("the state of row {key} cannot be read: {error}")))?;
            for (view, shown) in self.rows[*slot].shown.iter_mut().enumerate() {
                *shown = fold.views[view].shown(fold.projection.row(view, &state).as_ref());
            }
            self.rows[*slot].state = Some(state);
        }
        Ok(())
    }

    /// Writes what the states show in the table at `view`.
    pub(crate) async fn write(
        &mut self,
        fold: &SqlFold,
        view: usize,
        connection: &mut SqlConnection<'_>,
    ) -> Result<(), BatchError> {
        let Staged { new, changed, gone } = match self.staged.remove(&view) {
            Some(staged) => staged,
            None => self.stage(fold, view),
        };
        let table = &fold.views[view];
        let statements = &table.statements;
        access::write(connection, &statements.put, new).await?;
        for (columns, rows) in changed {
            let update = statements.update(table.table, columns);
            let rows = rows.into_iter().map(|row| update.columns.iter().map(|at| row[*at].clone()).collect()).collect();
            access::write(connection, &update, rows).await?;
        }
        Ok(access::delete(connection, &statements.delete, &gone).await?)
    }

    /// Adds what the states show in the table at `view` to a statement. Whatever a table's change is, its part of the text is
    /// the same, so that few texts stay prepared: one for each set of tables that change together.
    pub(crate) fn join(&mut self, fold: &SqlFold, view: usize, joint: &mut Joint) -> Result<(), sqlx::Error> {
        let Staged { new, changed, gone } = match self.staged.remove(&view) {
            Some(staged) => staged,
            None => self.stage(fold, view),
        };
        if new.is_empty() && changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let table = &fold.views[view];
        joint.write(&table.statements.put, &new)?;
        if table.has_state && changed.is_empty() {
            joint.write(&table.statements.update(table.table, table.always), &[])?;
        }
        for (columns, rows) in changed {
            joint.write(&table.statements.update(table.table, columns), &rows)?;
        }
        // A row with a state hardly ever goes.
        if !table.has_state || !gone.is_empty() {
            joint.delete(&table.statements.delete, &gone)?;
        }
        Ok(())
    }

    /// Works out what is to be written to the table at `view`, and takes it as shown.
    fn stage(&mut self, fold: &SqlFold, view: usize) -> Staged {
        let table = &fold.views[view];
        let mut staged = Staged { new: Vec::new(), changed: BTreeMap::new(), gone: Vec::new() };
        for (key, hot) in self.keys.iter().zip(&mut self.rows) {
            let row = hot.state.as_ref().and_then(|state: &AnyState| fold.projection.row(view, state));
            let shown = table.shown(row.as_ref());
            if view == 0 {
                hot.bytes = row.as_ref().map_or(0, bytes);
            }
            match (row, &hot.shown[view]) {
                (None, Shown::Absent) => {}
                (None, _) => staged.gone.push(key.clone()),
                (Some(row), Shown::Present(before)) => {
                    let changed = table.changed(before, &row);
                    if changed != ColumnSet::default() {
                        staged.changed.entry(changed).or_default().push(row);
                    }
                }
                (Some(row), Shown::Absent | Shown::Unknown) => staged.new.push(row),
            }
            hot.shown[view] = shown;
        }
        staged
    }

    /// Puts the written rows back among the hot ones.
    pub(crate) fn keep(self, hot: &mut HotRows) {
        for (key, row) in self.keys.into_iter().zip(self.rows) {
            hot.put(key, row);
        }
    }
}

impl SqlView {
    fn new(database: Database, table: &'static Table, statements: Statements) -> Self {
        let may_change = |at: &usize| !table.columns[*at].fixed && table.columns[*at].name != STATE_COLUMN;
        let compared: Vec<usize> = (0..table.columns.len()).filter(may_change).collect();
        let state = table.index_of(STATE_COLUMN);
        let always = match database {
            // What is bound is paid for, and SQLite maintains an index whenever a column of it is set, even to what it
            // was: so only what changed is written, and the state, which changes with every event.
            Database::Sqlite => state.into_iter().collect(),
            // PostgreSQL looks itself whether an indexed column is what it was, and a statement is a trip to the server:
            // so all changes are one.
            Database::Postgres => compared.iter().copied().chain(state).collect(),
        };
        Self { table, statements, compared, always, has_state: state.is_some() }
    }

    fn shown(&self, row: Option<&Row>) -> Shown {
        row.map_or(Shown::Absent, |row| Shown::Present(self.compared.iter().map(|at| row[*at].clone()).collect()))
    }

    /// Which columns are not what they were.
    fn changed(&self, before: &[Value], row: &Row) -> ColumnSet {
        let changed = self.compared.iter().zip(before).filter(|(at, before)| row[**at] != **before);
        let changed: ColumnSet = changed.map(|(at, _)| *at).collect();
        if self.has_state || changed != ColumnSet::default() { changed.and(self.always) } else { changed }
    }
}

fn bytes(row: &Row) -> usize {
    row.iter().map(|value| if let Value::Text(text) = value { text.len() } else { 0 }).sum()
}
