//! What an intent began and no outcome ended is settled: an acquire or a release whose time is over, or whose owner is
//! dead.
//!
//! Owners are looked at less often than what is due: a file per owner in flight, instead of one read of an index.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lease_events::lease::vocabulary::NextActionKind;
use lease_projections::projection::QueryError;
use lease_projections::read_model::{DueFilter, DueLease};
use tokio::time::Instant;

use super::due::{DueRows, ROWS_PER_LOOK};
use super::report::SweepReport;
use super::{Pass, Sweep};
use crate::commands::Context;
use crate::commands::settle::settle;
use crate::commands::upkeep::command_of;

/// How often it is looked whether owners of what is in flight are dead.
const OWNERS_EVERY: Duration = Duration::from_secs(2);

/// The sweep: one for each kind of effect in flight.
#[derive(Debug)]
pub struct Settling {
    name: &'static str,
    action: NextActionKind,
    due: DueRows,
    /// When owners were last looked at.
    looked: Mutex<Option<Instant>>,
}

impl Settling {
    /// Acquires in flight.
    #[must_use]
    pub fn acquires() -> Self {
        Self::of("settle-acquires", NextActionKind::SettleAcquire)
    }

    /// Releases in flight.
    #[must_use]
    pub fn releases() -> Self {
        Self::of("settle-releases", NextActionKind::FinishRelease)
    }

    fn of(name: &'static str, action: NextActionKind) -> Self {
        Self { name, action, due: DueRows::of(action), looked: Mutex::default() }
    }

    /// What dead owners left in flight and is not due by itself; at most one look's worth.
    async fn left_by_the_dead(&self, context: &Context) -> Result<Vec<DueLease>, QueryError> {
        let mut dead: HashMap<String, bool> = HashMap::new();
        let mut left = Vec::new();
        let mut after = None;
        loop {
            let filter = DueFilter { action: self.action, by: None, after, limit: ROWS_PER_LOOK };
            let page = context.read_model.due(&filter).await?;
            let is_last = page.len() < ROWS_PER_LOOK;
            after = page.last().map(|row| (row.at, row.lease_id));
            let now = context.clock.now();
            for row in page.into_iter().filter(|row| row.at > now && !self.due.waits(row.lease_id)) {
                let Some(owner) = row.in_flight_owner.clone().filter(|owner| *owner != context.owner) else { continue };
                if !dead.contains_key(&owner) {
                    context.owners.look_up(&owner).await;
                }
                if *dead.entry(owner).or_insert_with_key(|owner| context.owners.is_dead(owner)) {
                    left.push(row);
                }
            }
            if is_last || left.len() >= ROWS_PER_LOOK {
                left.truncate(ROWS_PER_LOOK);
                return Ok(left);
            }
        }
    }

    /// Whether it is time to look at owners again.
    fn owners_are_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = looked.is_none_or(|looked| looked.elapsed() >= OWNERS_EVERY);
        if is_due {
            *looked = Some(Instant::now());
        }
        is_due
    }
}

#[async_trait]
impl Sweep for Settling {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let act = |context: Arc<Context>, lease_id| async move {
            settle(&context, &command_of(&context, "settle"), lease_id).await
        };
        let mut report = self.due.look(pass, act).await;
        if self.owners_are_due() || pass.by_hand {
            match self.left_by_the_dead(&pass.context).await {
                Ok(left) => report.rows.extend(self.due.work(pass, left, &act).await),
                Err(error) => report.fault = Some(error.to_string()),
            }
        }
        report
    }
}
