//! Moving tables on by a batch of events, such that a projection's failure stays its own.
//!
//! **Invariant:** what a failed projection wrote is undone to a savepoint, and its mark says that it stands still;
//! only a fault of the connection itself is an error here.

use lease_events::record::RecordedEvent;
use lease_stores::sql::SqlConnection;

use super::access::control;
use super::batch::{Batch, SqlFold};
use super::dialect::{Database, RELEASE, ROLLBACK};
use super::fault::BatchError;
use super::hot::HotRows;
use super::joint::Joint;
use super::marks;
use crate::projection::{Table, Value};

/// The tables of one fold that a batch moves on; the first of the fold is always among them.
pub(crate) struct Plan<'a> {
    /// Which fold it is, among all.
    pub(crate) at: usize,
    pub(crate) fold: &'a SqlFold,
    pub(crate) views: Vec<usize>,
    /// The same events, folded beforehand.
    pub(crate) prepared: Option<Batch>,
}

/// What stands still after a batch, and why.
pub(crate) struct Stalled {
    pub(crate) name: &'static str,
    pub(crate) cause: String,
}

/// The tables of `fold` that satisfy `stands`; none where the one that keeps the states does not.
pub(crate) fn views_of(fold: &SqlFold, stands: impl Fn(&Table) -> bool) -> Vec<usize> {
    if !stands(fold.main().table) {
        return Vec::new();
    }
    (0..fold.views.len()).filter(|view| stands(fold.views[*view].table)).collect()
}

/// All that `plans` change by the events up to `last`, whose rows are in `batches`, as one statement.
pub(crate) fn join<'b>(
    plans: &[Plan<'_>],
    batches: impl IntoIterator<Item = &'b mut Batch>,
    last: u64,
) -> Result<Joint, sqlx::Error> {
    let mut joint = Joint::default();
    for (plan, batch) in plans.iter().zip(batches) {
        for view in &plan.views {
            batch.join(plan.fold, *view, &mut joint)?;
        }
    }
    joint.advance(&names(plans), last)?;
    Ok(joint)
}

fn names<'a>(plans: &[Plan<'a>]) -> Vec<&'a str> {
    let name = |plan: &Plan<'a>, view: &usize| plan.fold.views[*view].statements.name.as_str();
    plans.iter().flat_map(|plan| plan.views.iter().map(move |view| name(plan, view))).collect()
}

/// Moves the planned tables on by `events`: all under one savepoint, and one by one where that fails. Whoever
/// fails is marked stalled, and is named in the answer. `joint` is what the prepared batches of all plans come to.
pub(crate) async fn apply(
    plans: &mut [Plan<'_>],
    joint: Option<Joint>,
    hot: &mut [HotRows],
    connection: &mut SqlConnection<'_>,
    events: &[RecordedEvent],
) -> Result<Vec<Stalled>, sqlx::Error> {
    if plans.is_empty() {
        return Ok(Vec::new());
    }
    begin(connection).await?;
    match together(plans, joint, hot, connection, events).await {
        // The savepoint is left to the COMMIT, which ends it as well: a trip to the connection's thread less.
        Ok(()) => Ok(Vec::new()),
        Err(BatchError::Connection(error)) => Err(error),
        Err(BatchError::Projection(_)) => {
            undo(connection).await?;
            // Rows of the folds that went well are hot with what was just rolled back.
            hot.fill_with(HotRows::default);
            one_by_one(plans, connection, events).await
        }
    }
}

/// Begins what can be undone without the transaction.
pub(crate) async fn begin(connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
    control(connection, Database::of_connection(connection).savepoint()).await
}

/// Undoes what came since, and ends it.
pub(crate) async fn undo(connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
    control(connection, ROLLBACK).await?;
    control(connection, RELEASE).await
}

async fn together(
    plans: &mut [Plan<'_>],
    joint: Option<Joint>,
    hot: &mut [HotRows],
    connection: &mut SqlConnection<'_>,
    events: &[RecordedEvent],
) -> Result<(), BatchError> {
    let mut batches = Vec::with_capacity(plans.len());
    for plan in &mut *plans {
        batches.push(match plan.prepared.take() {
            Some(batch) => batch,
            None => Batch::fold(plan.fold, &mut hot[plan.at], connection, events).await?,
        });
    }
    let last = events.last().map_or(0, |event| event.position.0);
    match connection {
        SqlConnection::Sqlite(_) => {
            for (plan, batch) in plans.iter().zip(&mut batches) {
                for view in &plan.views {
                    batch.write(plan.fold, *view, connection).await?;
                }
            }
            marks::advance(connection, &names(plans), last).await?;
        }
        SqlConnection::Postgres(connection) => {
            let joint = match joint {
                Some(joint) => joint,
                None => join(plans, &mut batches, last)?,
            };
            joint.run(connection).await?;
        }
    }
    for (plan, batch) in plans.iter().zip(batches) {
        batch.keep(&mut hot[plan.at]);
    }
    Ok(())
}

async fn one_by_one(
    plans: &[Plan<'_>],
    connection: &mut SqlConnection<'_>,
    events: &[RecordedEvent],
) -> Result<Vec<Stalled>, sqlx::Error> {
    let mut stalled = Vec::new();
    for plan in plans {
        let mut batch = None;
        for view in &plan.views {
            begin(connection).await?;
            match alone(plan.fold, *view, &mut batch, connection, events).await {
                Ok(()) => control(connection, RELEASE).await?,
                Err(BatchError::Connection(error)) => return Err(error),
                Err(BatchError::Projection(cause)) => {
                    undo(connection).await?;
                    let table = plan.fold.views[*view].table;
                    stall(table, &cause, connection, events).await?;
                    stalled.push(Stalled { name: table.name, cause });
                    if *view == 0 {
                        // What the fold's other tables show comes from this one: they wait with it.
                        break;
                    }
                }
            }
        }
    }
    Ok(stalled)
}

/// Moves one table on; the first of a fold steps the batch that the others show.
async fn alone(
    fold: &SqlFold,
    view: usize,
    batch: &mut Option<Batch>,
    connection: &mut SqlConnection<'_>,
    events: &[RecordedEvent],
) -> Result<(), BatchError> {
    let mut rows = match batch.take() {
        Some(rows) => rows,
        None => Batch::fold(fold, &mut HotRows::default(), connection, events).await?,
    };
    let written = rows.write(fold, view, connection).await;
    *batch = Some(rows);
    written?;
    let last = events.last().map_or(0, |event| event.position.0);
    Ok(marks::advance(connection, &[fold.views[view].statements.name.as_str()], last).await?)
}

/// Marks a table stalled, and says so loudly.
pub(crate) async fn stall(
    table: &Table,
    cause: &str,
    connection: &mut SqlConnection<'_>,
    events: &[RecordedEvent],
) -> Result<(), sqlx::Error> {
    let position = events.first().map_or(0, |event| event.position.0 - 1);
    tracing::error!(projection = table.name, position, cause, "a projection is stalled; the events stand");
    let since = Value::time(events.last().map(|event| event.recorded_at));
    marks::stall(connection, table.name, cause, since).await
}
