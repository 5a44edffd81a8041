//! The memory executor: the same folds for the memory store, for tests and for a ledger under a simulated clock.
//!
//! Only the states are kept; a table's row is made when it is asked for. Lists look at every state: this executor is
//! for thousands of leases, not for millions.
//!
//! **Invariants:** a step that fails refuses no event: its fold stands still before it, says so, and is caught up later.

mod fresh;

mod queries;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, EventStore, READ_EVENTS_MAX};
use lease_stores::append_hook::MemoryAppendHook;
use tokio::sync::{Notify, watch};

use crate::projection::{AnyState, Projection, QueryError, Row, StepError};

/// The pause before a stalled projection is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The projections of one memory store, as its append hook. Made before the store.
pub struct MemoryProjections {
    folds: Mutex<Vec<MemoryFold>>,
    seen: watch::Sender<Position>,
    behind: Notify,
}

/// One fold and its states.
pub(crate) struct MemoryFold {
    projection: Arc<dyn Projection>,
    states: BTreeMap<String, AnyState>,
    position: u64,
    stalled: Option<String>,
}

impl MemoryProjections {
    /// An executor of `projections`.
    #[must_use]
    pub fn new(projections: Vec<Arc<dyn Projection>>) -> Arc<Self> {
        let folds = projections.into_iter().map(MemoryFold::new).collect();
        Arc::new(Self { folds: Mutex::new(folds), seen: watch::Sender::new(Position::START), behind: Notify::new() })
    }

    /// An executor of the ledger's own projections.
    #[must_use]
    pub fn new_standard() -> Arc<Self> {
        Self::new(crate::standard())
    }

    /// Every row of the table `name`, by key.
    pub fn rows(&self, name: &str) -> Result<Vec<Row>, QueryError> {
        let folds = self.folds();
        let (fold, view) = find(&folds, name)?;
        Ok(folds[fold].rows(view))
    }

    fn folds(&self) -> MutexGuard<'_, Vec<MemoryFold>> {
        self.folds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes every fold along that stands right before `events`; where `again`, stalled ones too.
    fn step(&self, events: &[RecordedEvent], again: bool) {
        let Some(first) = events.first() else { return };
        let mut folds = self.folds();
        for fold in folds.iter_mut() {
            if fold.position + 1 == first.position.0 && (again || fold.stalled.is_none()) {
                fold.follow(events);
            }
            if fold.stalled.is_some() || fold.position + 1 < first.position.0 {
                self.behind.notify_one();
            }
        }
        self.seen.send_replace(seen(&folds));
    }
}

impl MemoryAppendHook for MemoryProjections {
    fn on_append(&self, events: &[RecordedEvent]) {
        self.step(events, false);
    }
}

impl MemoryFold {
    fn new(projection: Arc<dyn Projection>) -> Self {
        Self { projection, states: BTreeMap::new(), position: 0, stalled: None }
    }

    fn follow(&mut self, events: &[RecordedEvent]) {
        self.stalled = None;
        for event in events {
            if let Err(error) = self.step(event) {
                tracing::error!(projection = error.table, position = self.position, cause = %error.cause,
                    "a projection is stalled; the events stand");
                self.stalled = Some(error.to_string());
                return;
            }
        }
    }

    fn step(&mut self, event: &RecordedEvent) -> Result<(), StepError> {
        if let Some(key) = self.projection.key(event) {
            // A step consumes its state, and the row must stand as it was where the step fails.
            let before = self.states.get(&key).and_then(|state| self.projection.copy(state));
            match self.projection.step(before, event)? {
                Some(state) => drop(self.states.insert(key, state)),
                None => drop(self.states.remove(&key)),
            }
        }
        self.position = event.position.0;
        Ok(())
    }

    fn rows(&self, view: usize) -> Vec<Row> {
        self.states.values().filter_map(|state| self.projection.row(view, state)).collect()
    }
}

fn find(folds: &[MemoryFold], name: &str) -> Result<(usize, usize), QueryError> {
    let tables: Vec<(usize, usize, &str)> = folds
        .iter()
        .enumerate()
        .flat_map(|(at, fold)| {
            fold.projection.tables().into_iter().enumerate().map(move |(view, table)| (at, view, table.name))
        })
        .collect();
    let found = tables.iter().find(|(_, _, table)| *table == name).map(|(fold, view, _)| (*fold, *view));
    found.ok_or_else(|| QueryError::UnknownProjection {
        name: name.to_owned(),
        known: tables.iter().map(|(_, _, table)| *table).collect::<Vec<_>>().join(", "),
    })
}

/// The position that every fold which does not stand still has seen; where all stand still, nothing is waited for.
fn seen(folds: &[MemoryFold]) -> Position {
    let positions = folds.iter().filter(|fold| fold.stalled.is_none()).map(|fold| fold.position);
    Position(positions.min().unwrap_or(u64::MAX))
}

/// The projections of a memory store: the reading port, and catch-up.
pub struct MemoryReadModel {
    projections: Arc<MemoryProjections>,
    store: Arc<dyn EventStore>,
}

impl MemoryReadModel {
    /// Attaches `projections` to the store that was made with them as its hook.
    #[must_use]
    pub fn attach(projections: Arc<MemoryProjections>, store: Arc<dyn EventStore>) -> Arc<Self> {
        Arc::new(Self { projections, store })
    }

    /// Steps every projection that is behind up to the head of the log.
    ///
    /// # Errors
    /// One of them stands still: the others are at the head all the same.
    pub async fn catch_up(&self) -> Result<(), QueryError> {
        let count = self.projections.folds().len();
        for at in 0..count {
            loop {
                let before = self.projections.folds()[at].position;
                let events = self.store.read_all(Position(before), Direction::Forwards, READ_EVENTS_MAX).await?;
                if events.is_empty() {
                    break;
                }
                self.projections.step(&events, true);
                if self.projections.folds()[at].stalled.is_some() {
                    break;
                }
            }
        }
        let folds = self.projections.folds();
        match folds.iter().find_map(|fold| Some((fold, fold.stalled.clone()?))) {
            None => Ok(()),
            Some((fold, cause)) => Err(QueryError::Stalled {
                name: fold.projection.tables().first().map(|table| table.name.to_owned()).unwrap_or_default(),
                position: fold.position,
                cause,
            }),
        }
    }

    /// Catches up whatever falls behind, until `stop` is ready.
    pub async fn follow(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let mut failing = false;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.projections.behind.notified(), if !failing => {}
                () = tokio::time::sleep(RETRY), if failing => {}
            }
            failing = self.catch_up().await.is_err();
        }
    }
}
