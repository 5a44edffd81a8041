//! Rebuild: a projection made anew from the log, beside the live one, and swapped in.
//!
//! **Invariants:** readers and appends use the live table until one transaction drops it, renames the new one and
//! writes the mark. A rebuild that is interrupted leaves a copy that the next one removes, and nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::record::Position;
use lease_events::store::EventStore as _;
use lease_stores::append_hook::WriterJob;
use lease_stores::sql::SqlConnection;
use sqlx::SqliteConnection;
use tokio::sync::mpsc;

use super::batch::SqlFold;
use super::marks::{self, Mark, Marks};
use super::scratch::Scratch;
use super::sqlite::SqliteProjections;
use super::{SqliteReadModel, on_writer, statements, tables};
use crate::projection::QueryError;
use crate::read_model::{RebuildProgress, RebuildReport};

/// What the names of the new tables end in until they are swapped in.
const SUFFIX: &str = "__rebuild";

/// Rebuilds the table `name`; the one that keeps the states takes those that show them along.
pub(crate) async fn rebuild(
    model: &SqliteReadModel,
    name: &str,
    progress: &mpsc::Sender<RebuildProgress>,
) -> Result<RebuildReport, QueryError> {
    let (fold, view) = model.find(name)?;
    let one_at_a_time = model.scratch.lock().await;
    let projection = &model.projections.projections[fold];
    let scratch = Scratch::new(model.store.clone(), SqlFold::new(projection, SUFFIX), (view != 0).then_some(view));
    let swapped: Vec<usize> = if view == 0 { scratch.views.clone() } else { vec![view] };
    let mut job = Rebuild { projections: model.projections.clone(), scratch, swapped, begun: false, done: false };
    while !job.done {
        let head = model.store.head().await?;
        job = on_writer(&model.store, job).await?;
        if let Some(failure) = job.scratch.failure.take() {
            return Err(failure);
        }
        // A slow reader of the progress loses some of it; the work does not wait.
        let _ = progress.try_send(RebuildProgress { position: Position(job.scratch.position), head });
    }
    drop(one_at_a_time);
    let tables: Vec<String> =
        job.swapped.iter().map(|view| job.scratch.fold.views[*view].table.name.to_owned()).collect();
    let rows = model.count(name).await?;
    Ok(RebuildReport { tables, position: Position(job.scratch.position), rows })
}

struct Rebuild {
    projections: Arc<SqliteProjections>,
    scratch: Scratch,
    /// The tables that are swapped in.
    swapped: Vec<usize>,
    begun: bool,
    done: bool,
}

#[async_trait]
impl WriterJob for Rebuild {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        // The marks change under the append hook's feet.
        self.projections.forget();
        let live = tables::ensure(&mut *connection, &self.projections.folds).await?;
        if !self.begun {
            let (fold, swapped) = (&self.scratch.fold, self.swapped.clone());
            let generations: Vec<Option<u64>> = (0..fold.views.len())
                .map(|view| swapped.contains(&view).then(|| next_generation(&live, fold.views[view].table.name)))
                .collect();
            self.scratch.create(connection, |view| generations[view]).await?;
            self.begun = true;
        }
        if self.scratch.page(connection, u64::MAX).await? {
            self.swap(&live, connection).await?;
            self.done = true;
        } else if self.scratch.failure.is_some() {
            self.scratch.remove(connection).await?;
        }
        Ok(())
    }
}

impl Rebuild {
    async fn swap(&self, live: &Marks, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for view in &self.swapped {
            let view = &self.scratch.fold.views[*view];
            let name = view.table.name;
            sqlx::query(statements::drop_table(name)).execute(&mut *connection).await?;
            sqlx::query(statements::rename_table(&view.statements.name, name)).execute(&mut *connection).await?;
            let mark = Mark {
                version: view.table.version,
                generation: next_generation(live, name),
                position: self.scratch.position,
                stalled: None,
            };
            marks::put(connection, name, &mark).await?;
        }
        self.scratch.remove(connection).await
    }
}

fn next_generation(marks: &Marks, name: &str) -> u64 {
    marks.get(name).map_or(1, |mark| mark.generation + 1)
}
