//! The append hook: projections that follow every append inside its transaction.
//!
//! **Invariants:**
//! - A projection's failure never refuses an event. All tables are written under one savepoint; only where that
//!   fails is each tried alone under its own, and who fails again is marked stalled in the same transaction.
//! - A table is written inline only while its mark stands right before the transaction's first event. The marks in
//!   the database decide, not this process: where another one has written, they are read again. A table that is
//!   behind is left to the follower, so that no append ever waits for a catch-up.
//! - What is held in memory is taken out while a transaction works on it, and is put back when that went well; an
//!   error, a cancellation or a rollback leaves nothing, and nothing is always true.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use lease_stores::append_hook::AppendHook;
use lease_stores::sql::SqlConnection;
use tokio::sync::{Notify, watch};

use super::apply::{Plan, apply, begin, join, undo, views_of};
use super::batch::{Batch, SqlFold};
use super::dialect::Database;
use super::fault::BatchError;
use super::hot::HotRows;
use super::joint::Joint;
use super::marks::{self, Marks};
use crate::projection::{Projection, Table};

/// The projections of one SQL store, as its append hook. Made before the store is opened, and attached to it
/// afterwards by [`super::SqlReadModel::attach`]; until then it does nothing.
pub struct SqlProjections {
    pub(crate) database: Database,
    pub(crate) projections: Vec<Arc<dyn Projection>>,
    pub(crate) folds: Vec<SqlFold>,
    live: Mutex<Live>,
    attached: AtomicBool,
    /// The position that every table which does not stand still has seen, as far as this process has committed.
    pub(crate) seen: watch::Sender<Position>,
    /// A table is behind: the follower has work.
    pub(crate) behind: Notify,
}

/// What the writer remembers between transactions.
#[derive(Default)]
pub(crate) struct Live {
    marks: Option<Marks>,
    hot: Vec<HotRows>,
    /// The events that are being written, folded while they are: one a plan of theirs.
    prepared: Vec<Option<Batch>>,
    /// On PostgreSQL, what all of them come to.
    joint: Option<Joint>,
    /// What [`SqlProjections::seen`] becomes on commit.
    seen: Option<Position>,
}

impl SqlProjections {
    /// An executor of `projections` on `database`.
    #[must_use]
    pub fn new(database: Database, projections: Vec<Arc<dyn Projection>>) -> Arc<Self> {
        Arc::new(Self {
            folds: projections.iter().map(|projection| SqlFold::new(database, projection, "")).collect(),
            database,
            projections,
            live: Mutex::default(),
            attached: AtomicBool::new(false),
            seen: watch::Sender::new(Position::START),
            behind: Notify::new(),
        })
    }

    /// An executor of the ledger's own projections on `database`.
    #[must_use]
    pub fn new_standard(database: Database) -> Arc<Self> {
        Self::new(database, crate::standard())
    }

    /// Every table, in the order of the projections.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &'static Table> {
        self.folds.iter().flat_map(SqlFold::tables)
    }

    /// From here on appends are followed.
    pub(crate) fn set_attached(&self) {
        self.attached.store(true, Ordering::Release);
    }

    /// Forgets what is remembered; the next transaction reads it again.
    pub(crate) fn forget(&self) {
        drop(self.take());
    }

    fn take(&self) -> Live {
        std::mem::take(&mut *self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn follow(
        &self,
        live: &mut Live,
        connection: &mut SqlConnection<'_>,
        events: &[RecordedEvent],
    ) -> Result<(), sqlx::Error> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let marks = if let Some(marks) = live.marks.take() {
            marks
        } else {
            begin(connection).await?;
            match marks::read(connection).await {
                Ok(marks) => marks,
                Err(error) => return self.without_marks(connection, error).await,
            }
        };
        live.hot.resize_with(self.folds.len(), HotRows::default);
        let mut plans = self.in_step(&marks, first.position.0 - 1);
        for (plan, prepared) in plans.iter_mut().zip(std::mem::take(&mut live.prepared)) {
            plan.prepared = prepared;
        }
        let complete = plans.iter().map(|plan| plan.views.len()).sum::<usize>() == self.tables().count();
        let stalled = apply(&mut plans, live.joint.take(), &mut live.hot, connection, events).await?;
        if stalled.is_empty() {
            live.marks = Some(moved(marks, &plans, last.position.0));
        }
        if complete && stalled.is_empty() {
            live.seen = Some(last.position);
        } else {
            self.behind.notify_one();
        }
        Ok(())
    }

    async fn without_marks(&self, connection: &mut SqlConnection<'_>, error: sqlx::Error) -> Result<(), sqlx::Error> {
        match BatchError::from(error) {
            BatchError::Connection(error) => Err(error),
            BatchError::Projection(cause) => {
                tracing::error!(cause, "the table of the projections' positions cannot be read; nothing is projected");
                self.behind.notify_one();
                undo(connection).await
            }
        }
    }

    /// The tables that have seen everything up to `position`, and nothing more.
    fn in_step(&self, marks: &Marks, position: u64) -> Vec<Plan<'_>> {
        let stands = |table: &Table| {
            marks.get(table.name).is_some_and(|mark| {
                mark.position == position && mark.version == table.version && mark.stalled.is_none()
            })
        };
        let plan = |(at, fold)| Plan { at, fold, views: views_of(fold, stands), prepared: None };
        self.folds.iter().enumerate().map(plan).filter(|plan| !plan.views.is_empty()).collect()
    }
}

#[async_trait]
impl AppendHook for SqlProjections {
    fn prepare(&self, events: &[RecordedEvent]) {
        let Some(first) = events.first() else { return };
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let Live { marks, hot, prepared, joint, .. } = &mut *live;
        // What was prepared for a write that failed is not what is there now.
        prepared.clear();
        *joint = None;
        let Some(marks) = marks else { return };
        hot.resize_with(self.folds.len(), HotRows::default);
        let plans = self.in_step(marks, first.position.0 - 1);
        let fold_hot = |plan: &Plan<'_>| Batch::fold_hot(plan.fold, &plan.views, &mut hot[plan.at], events);
        prepared.extend(plans.iter().map(fold_hot));
        if self.database == Database::Postgres && prepared.iter().all(Option::is_some) {
            let last = events.last().map_or(0, |event| event.position.0);
            // What cannot be encoded is found again when it is written.
            match join(&plans, prepared.iter_mut().flatten(), last) {
                Ok(made) => *joint = Some(made),
                Err(_) => prepared.clear(),
            }
        }
    }

    async fn on_append(&self, connection: &mut SqlConnection<'_>, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
        if !self.attached.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut live = self.take();
        self.follow(&mut live, connection, events).await?;
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }

    fn committed(&self) {
        let seen = self.live.lock().unwrap_or_else(PoisonError::into_inner).seen.take();
        if let Some(seen) = seen {
            self.seen.send_replace(seen);
        }
    }

    fn rolled_back(&self) {
        self.forget();
    }

    fn changed_elsewhere(&self) {
        self.forget();
    }
}

fn moved(mut marks: Marks, plans: &[Plan<'_>], position: u64) -> Marks {
    for plan in plans {
        for view in &plan.views {
            if let Some(mark) = marks.get_mut(plan.fold.views[*view].table.name) {
                mark.position = position;
            }
        }
    }
    marks
}
