//! Rebuild: a projection made anew from the log, beside the live one, and swapped in.
//!
//! **Invariants:** readers and appends use the live table until one transaction drops it, renames the new one and
//! writes the mark. A rebuild that is interrupted leaves a copy that the next one removes, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::record::Position;
use lease_stores::append_hook::WriterJob;
use lease_stores::sql::SqlConnection;
use tokio::sync::mpsc;

use super::access;
use super::apply::{begin, undo};
use super::batch::SqlFold;
use super::dialect::{LOCK_NOT_AVAILABLE, RELEASE};
use super::hook::SqlProjections;
use super::marks::{self, Mark, Marks};
use super::scratch::Scratch;
use super::{SqlReadModel, on_writer, tables};
use crate::projection::QueryError;
use crate::read_model::{RebuildProgress, RebuildReport};

/// What the names of the new tables end in until they are swapped in.
pub(crate) const SUFFIX: &str = "__rebuild";
/// How often a swap is tried while somebody else has locked the table: a long report, or a backup, reads it.
const SWAPS_MAX: u32 = 20;
/// The pause between two of them, in which appends go on.
const SWAP_PAUSE: Duration = Duration::from_secs(1);

/// Rebuilds the table `name`; the one that keeps the states takes those that show them along.
pub(crate) async fn rebuild(
    model: &SqlReadModel,
    name: &str,
    progress: &mpsc::Sender<RebuildProgress>,
) -> Result<RebuildReport, QueryError> {
    let (fold, view) = model.find(name)?;
    let one_at_a_time = model.scratch.lock().await;
    let projection = &model.projections.projections[fold];
    let scratch = Scratch::new(
        model.store.clone(),
        SqlFold::new(model.projections.database, projection, SUFFIX),
        (view != 0).then_some(view),
    );
    let swapped: Vec<usize> = if view == 0 { scratch.views.clone() } else { vec![view] };
    let projections = model.projections.clone();
    let mut job = Rebuild { projections, scratch, swapped, begun: false, swaps_failed: 0, done: false };
    while !job.done {
        let head = model.store.head().await?;
        let swaps_failed = job.swaps_failed;
        job = on_writer(&model.store, job).await?;
        if job.swaps_failed > swaps_failed {
            tokio::time::sleep(SWAP_PAUSE).await;
        }
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
    projections: Arc<SqlProjections>,
    scratch: Scratch,
    /// The tables that are swapped in.
    swapped: Vec<usize>,
    begun: bool,
    swaps_failed: u32,
    done: bool,
}

#[async_trait]
impl WriterJob for Rebuild {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        // The marks change under the append hook's feet.
        self.projections.forget();
        begin(connection).await?;
        let live = tables::ensure(connection, &self.projections.folds).await?;
        if !self.begun {
            let (fold, swapped) = (&self.scratch.fold, self.swapped.clone());
            let generations: Vec<Option<u64>> = (0..fold.views.len())
                .map(|view| swapped.contains(&view).then(|| next_generation(&live, fold.views[view].table.name)))
                .collect();
            self.scratch.create(connection, |view| generations[view]).await?;
            self.begun = true;
        }
        if self.scratch.page(connection, u64::MAX).await? {
            self.try_swap(&live, connection).await?;
        }
        if self.scratch.failure.is_some() {
            self.scratch.remove(connection).await?;
        }
        Ok(())
    }
}

impl Rebuild {
    /// Swaps the new tables in, unless somebody else has locked an old one.
    async fn try_swap(&mut self, live: &Marks, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        begin(connection).await?;
        match self.swap(live, connection).await {
            Ok(()) => {
                self.done = true;
                access::control(connection, RELEASE).await
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                undo(connection).await?;
                self.swaps_failed += 1;
                if self.swaps_failed == SWAPS_MAX {
                    let cause = format!("the table is in use, and the new one cannot take its place: {error}");
                    self.scratch.failure = Some(QueryError::Unavailable { cause });
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn swap(&self, live: &Marks, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let database = self.projections.database;
        for view in &self.swapped {
            let view = &self.scratch.fold.views[*view];
            let name = view.table.name;
            access::script(connection, database.swap(name, &view.statements.name)).await?;
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
