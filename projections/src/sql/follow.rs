//! Catch-up: what is behind, because it was stalled, is new, or was left by an older program, is stepped from the
//! log until it stands at the head; from there the append hook takes it along again.
//!
//! **Invariants:** a page is one writer job, so that appends go on between pages. The log is read inside the job:
//! while it holds the write lock nothing is appended, so "at the head" is exact and no event falls between
//! catch-up and hook.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::Direction;
use lease_stores::append_hook::WriterJob;
use lease_stores::sql::{SqlConnection, SqlStore};

use super::access::control;
use super::apply::{Plan, Stalled, apply, begin, stall, undo, views_of};
use super::batch::{Batch, SqlFold};
use super::dialect::RELEASE;
use super::fault::BatchError;
use super::hook::SqlProjections;
use super::hot::HotRows;
use super::marks::{self, Mark, Marks};
use super::{SqlReadModel, on_writer, tables};
use crate::projection::{QueryError, Table};

/// Events of one writer job: some 20 ms in which appends wait.
pub(crate) const PAGE: usize = 1_000;
/// The first pause before a stalled projection is tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause: a mended projection is back within a minute.
const RETRY_MAX: Duration = Duration::from_mins(1);

impl SqlReadModel {
    /// Steps every projection that is behind up to the head of the log.
    ///
    /// # Errors
    /// One of them stands still: the others are at the head all the same.
    pub async fn catch_up(&self) -> Result<(), QueryError> {
        let mut job = CatchUp::new(self.projections.clone(), self.store.clone());
        loop {
            job = on_writer(&self.store, job).await?;
            if let Some(failure) = job.failure.take() {
                return Err(failure);
            }
            if let Some(seen) = job.seen.take() {
                self.projections.seen.send_if_modified(|before| std::mem::replace(before, seen.max(*before)) < seen);
            }
            if !std::mem::take(&mut job.more) {
                break;
            }
        }
        match job.stalled.into_iter().next() {
            None => Ok(()),
            Some((position, Stalled { name, cause })) => {
                Err(QueryError::Stalled { name: name.to_owned(), position, cause })
            }
        }
    }

    /// Catches up whatever falls behind, until `stop` is ready; a projection that stands still is tried again with
    /// growing pauses, for ever: its cause may be mended at any time.
    pub async fn follow(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let mut pause: Option<Duration> = None;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.projections.behind.notified(), if pause.is_none() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            pause = match self.catch_up().await {
                Ok(()) => None,
                Err(error) => {
                    let next = pause.map_or(RETRY_FIRST, |pause| (pause * 2).min(RETRY_MAX));
                    tracing::warn!(%error, retry_in = ?next, "a projection could not be caught up");
                    Some(next)
                }
            };
        }
    }
}

/// One page of catch-up for every projection that is behind.
struct CatchUp {
    projections: Arc<SqlProjections>,
    store: Arc<dyn SqlStore>,
    more: bool,
    stalled: Vec<(u64, Stalled)>,
    seen: Option<Position>,
    failure: Option<QueryError>,
}

#[async_trait]
impl WriterJob for CatchUp {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let projections = self.projections.clone();
        projections.forget();
        self.stalled.clear();
        self.more = false;
        let mut marks = tables::ensure(connection, &projections.folds).await?;
        for at in 0..projections.folds.len() {
            self.step(at, &marks, connection).await?;
            marks = marks::read(connection).await?;
            self.show(&projections.folds[at], &marks, connection).await?;
        }
        let marks = marks::read(connection).await?;
        self.seen = projections
            .tables()
            .filter_map(|table| marks.get(table.name))
            .filter(|mark| mark.stalled.is_none())
            .map(|mark| Position(mark.position))
            .min();
        Ok(())
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

impl CatchUp {
    fn new(projections: Arc<SqlProjections>, store: Arc<dyn SqlStore>) -> Self {
        Self { projections, store, more: false, stalled: Vec::new(), seen: None, failure: None }
    }

    async fn page(&mut self, after: u64) -> Vec<RecordedEvent> {
        match self.store.read_all(Position(after), Direction::Forwards, PAGE).await {
            Ok(events) => events,
            Err(error) => {
                self.failure = Some(error.into());
                Vec::new()
            }
        }
    }

    /// Steps the table that keeps the states, and those that stand where it stands, through one page.
    async fn step(&mut self, at: usize, marks: &Marks, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let projections = self.projections.clone();
        let fold = &projections.folds[at];
        let Some(main) = current(marks, fold.main().table) else { return Ok(()) };
        let events = self.page(main.position).await;
        if events.is_empty() {
            return Ok(());
        }
        let stands = |table: &Table| current(marks, table).is_some_and(|mark| mark.position == main.position);
        let plan = Plan { at, fold, views: views_of(fold, stands), prepared: None };
        let mut hot: Vec<HotRows> = std::iter::repeat_with(HotRows::default).take(at + 1).collect();
        let stalled = apply(&mut [plan], None, &mut hot, connection, &events).await?;
        self.more |= stalled.is_empty() && events.len() == PAGE;
        self.stalled.extend(stalled.into_iter().map(|stalled| (main.position, stalled)));
        Ok(())
    }

    /// Brings the tables up that are behind the one that keeps the states: what they show of a row depends on its
    /// present state alone, so each row that an event touched since is shown again.
    async fn show(
        &mut self,
        fold: &SqlFold,
        marks: &Marks,
        connection: &mut SqlConnection<'_>,
    ) -> Result<(), sqlx::Error> {
        let Some(main) = current(marks, fold.main().table) else { return Ok(()) };
        for view in 1..fold.views.len() {
            let table = fold.views[view].table;
            let Some(mark) = current(marks, table).filter(|mark| mark.position < main.position) else { continue };
            if self.stalled.iter().any(|(_, stalled)| stalled.name == table.name) {
                continue;
            }
            let mut events = self.page(mark.position).await;
            events.retain(|event| event.position.0 <= main.position);
            begin(connection).await?;
            match show_page(fold, view, connection, &events).await {
                Ok(()) => {
                    self.more |= events.last().is_some_and(|event| event.position.0 < main.position);
                    control(connection, RELEASE).await?;
                }
                Err(BatchError::Connection(error)) => return Err(error),
                Err(BatchError::Projection(cause)) => {
                    undo(connection).await?;
                    stall(table, &cause, connection, &events).await?;
                    self.stalled.push((mark.position, Stalled { name: table.name, cause }));
                }
            }
        }
        Ok(())
    }
}

async fn show_page(
    fold: &SqlFold,
    view: usize,
    connection: &mut SqlConnection<'_>,
    events: &[RecordedEvent],
) -> Result<(), BatchError> {
    let Some(last) = events.last() else { return Ok(()) };
    let mut batch = Batch::stored(fold, connection, events).await?;
    batch.write(fold, view, connection).await?;
    Ok(marks::advance(connection, &[fold.views[view].table.name], last.position.0).await?)
}

/// The mark of a table that is there in this program's shape.
fn current<'a>(marks: &'a Marks, table: &Table) -> Option<&'a Mark> {
    marks.get(table.name).filter(|mark| mark.version == table.version)
}
