//! A fresh fold of the log into tables beside the live ones: what rebuild and verify have in common.
//!
//! **Invariant:** the copy has a mark of its own, which is checked at every page: two that work on one copy cannot
//! both go on.

use std::sync::Arc;

use lease_events::record::Position;
use lease_events::store::Direction;
use lease_stores::sql::{SqlConnection, SqlStore};

use super::access;
use super::apply::{begin, undo};
use super::batch::{Batch, SqlFold};
use super::dialect::{RELEASE, drop_table};
use super::fault::BatchError;
use super::follow::PAGE;
use super::hot::HotRows;
use super::marks::{self, Mark};
use super::tables;
use crate::projection::QueryError;

/// The copy.
pub(crate) struct Scratch {
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) fold: SqlFold,
    /// Which tables are made; the first keeps the states.
    pub(crate) views: Vec<usize>,
    hot: HotRows,
    /// The last position that it has seen.
    pub(crate) position: u64,
    /// What ended the work.
    pub(crate) failure: Option<QueryError>,
}

impl Scratch {
    /// A copy of `fold`, whose names end in a suffix, with what is needed to show the table at `view`.
    pub(crate) fn new(store: Arc<dyn SqlStore>, fold: SqlFold, view: Option<usize>) -> Self {
        let views = match view {
            Some(0) => vec![0],
            Some(view) => vec![0, view],
            None => (0..fold.views.len()).collect(),
        };
        Self { store, fold, views, hot: HotRows::default(), position: 0, failure: None }
    }

    /// Makes its tables, empty, with the indexes that `generation` gives a view.
    pub(crate) async fn create(
        &mut self,
        connection: &mut SqlConnection<'_>,
        generation: impl Fn(usize) -> Option<u64>,
    ) -> Result<(), sqlx::Error> {
        for view in &self.views {
            let view_of = &self.fold.views[*view];
            tables::create(connection, view_of.table, &view_of.statements.name, generation(*view)).await?;
        }
        let mark = Mark { version: self.fold.main().table.version, generation: 1, position: 0, stalled: None };
        marks::put(connection, self.mark_name(), &mark).await
    }

    /// Removes what is left of it.
    pub(crate) async fn remove(&self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        for view in &self.views {
            let name = &self.fold.views[*view].statements.name;
            access::script(connection, drop_table(name)).await?;
        }
        marks::remove(connection, self.mark_name()).await
    }

    /// Folds one page of the log, up to `until`; answers whether that was all. What ends the work is in `failure`.
    pub(crate) async fn page(&mut self, connection: &mut SqlConnection<'_>, until: u64) -> Result<bool, sqlx::Error> {
        let marks = marks::read(connection).await?;
        if marks.get(self.mark_name()).is_none_or(|mark| mark.position != self.position) {
            self.failure = Some(QueryError::Overtaken { name: self.fold.main().table.name.to_owned() });
            return Ok(false);
        }
        let mut events = match self.store.read_all(Position(self.position), Direction::Forwards, PAGE).await {
            Ok(events) => events,
            Err(error) => {
                self.failure = Some(error.into());
                return Ok(false);
            }
        };
        let full = events.len() == PAGE;
        events.retain(|event| event.position.0 <= until);
        let Some(last) = events.last().map(|event| event.position.0) else { return Ok(true) };
        begin(connection).await?;
        match self.fold_page(connection, &events, last).await {
            Ok(()) => {
                access::control(connection, RELEASE).await?;
                self.position = last;
                Ok(!full || events.len() < PAGE)
            }
            Err(BatchError::Connection(error)) => Err(error),
            Err(BatchError::Projection(cause)) => {
                undo(connection).await?;
                let name = self.fold.main().table.name.to_owned();
                self.failure = Some(QueryError::Stalled { name, position: self.position, cause });
                Ok(false)
            }
        }
    }

    async fn fold_page(
        &mut self,
        connection: &mut SqlConnection<'_>,
        events: &[lease_events::record::RecordedEvent],
        last: u64,
    ) -> Result<(), BatchError> {
        let mut batch = Batch::fold(&self.fold, &mut self.hot, connection, events).await?;
        for view in &self.views {
            batch.write(&self.fold, *view, connection).await?;
        }
        batch.keep(&mut self.hot);
        Ok(marks::advance(connection, &[self.mark_name()], last).await?)
    }

    /// The name of its mark: that of its first table.
    fn mark_name(&self) -> &str {
        &self.fold.main().statements.name
    }
}
