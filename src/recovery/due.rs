//! Rows that are due: found in the order in which they fell due, worked on beside each other, each by itself.
//!
//! **Invariants:** a row that fails is left alone for a while, longer each time, and the look goes on behind it: as many
//! bad rows as there may be hold up no good one. At most [`AT_ONCE_PER_PROVIDER`] rows of one provider are worked on at
//! once; where more wait, each starts at a moment of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream;
use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::NextActionKind;
use lease_projections::projection::QueryError;
use lease_projections::read_model::{DueFilter, DueLease};

use super::Pass;
use super::patience::Patience;
use super::report::{SweepReport, SweepRow};
use super::service::jittered;
use crate::commands::Context;
use crate::commands::error::CommandError;
use crate::commands::upkeep::Upkeep;

/// Most rows of one look: a few seconds' work at a slow provider, so that a stop need not wait longer.
pub const ROWS_PER_LOOK: usize = 256;
/// Most rows of one provider at once: what a provider's API takes from one client without complaint.
pub const AT_ONCE_PER_PROVIDER: usize = 8;
/// Longest wait of a row before it starts, where one provider has more than it is given at once: at most some 300 a second.
const SPREAD: Duration = Duration::from_millis(40);

/// The rows of one kind of action, and those among them that failed lately.
#[derive(Debug)]
pub struct DueRows {
    action: NextActionKind,
    patience: Patience<LeaseId>,
}

impl DueRows {
    /// The rows whose next action is `action`.
    #[must_use]
    pub fn of(action: NextActionKind) -> Self {
        Self { action, patience: Patience::default() }
    }

    /// Takes one look: works on what is due by `act`, which answers nothing where there was nothing to do.
    pub async fn look<F>(&self, pass: &Pass, act: impl Fn(Arc<Context>, LeaseId) -> F + Sync) -> SweepReport
    where
        F: Future<Output = Result<Option<Upkeep>, CommandError>> + Send + 'static,
    {
        let looked_at = pass.context.clock.now();
        let (rows, more) = match self.find(&pass.context, looked_at).await {
            Ok(found) => found,
            Err(error) => return SweepReport::failed(&error),
        };
        let rows = self.work(pass, rows, &act).await;
        match self.next_due(&pass.context, looked_at).await {
            Ok(next_due) => SweepReport { rows, fault: None, more, next_due },
            Err(error) => SweepReport { rows, fault: Some(error.to_string()), more, next_due: None },
        }
    }

    /// What is due at `by` and has not failed lately; and whether there may be more.
    async fn find(&self, context: &Context, by: DateTime<Utc>) -> Result<(Vec<DueLease>, bool), QueryError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let filter = DueFilter { action: self.action, by: Some(by), after, limit: ROWS_PER_LOOK };
            let page = context.read_model.due(&filter).await?;
            let is_last = page.len() < ROWS_PER_LOOK;
            after = page.last().map(|row| (row.at, row.lease_id));
            found.extend(page.into_iter().filter(|row| !self.waits(row.lease_id)));
            if is_last {
                return Ok((found, false));
            }
            if found.len() >= ROWS_PER_LOOK {
                found.truncate(ROWS_PER_LOOK);
                return Ok((found, true));
            }
        }
    }

    /// When something falls due next behind `now`.
    async fn next_due(&self, context: &Context, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, QueryError> {
        let after = Some((now, LeaseId(uuid::Uuid::max())));
        let filter = DueFilter { action: self.action, by: None, after, limit: 1 };
        Ok(context.read_model.due(&filter).await?.first().map(|row| row.at))
    }

    /// Works on these rows; answers those for which there was something to do.
    pub async fn work<F>(
        &self,
        pass: &Pass,
        rows: Vec<DueLease>,
        act: &(impl Fn(Arc<Context>, LeaseId) -> F + Sync),
    ) -> Vec<SweepRow>
    where
        F: Future<Output = Result<Option<Upkeep>, CommandError>> + Send + 'static,
    {
        let mut providers: BTreeMap<(String, String), Vec<LeaseId>> = BTreeMap::new();
        for row in rows {
            providers.entry((row.driver, row.provider)).or_default().push(row.lease_id);
        }
        let providers = providers.into_values().map(|leases| {
            let spread = if leases.len() > AT_ONCE_PER_PROVIDER { SPREAD } else { Duration::ZERO };
            let one = move |lease_id| self.one(pass, lease_id, spread, act);
            stream::iter(leases)
                .map(one)
                .buffer_unordered(AT_ONCE_PER_PROVIDER)
                .filter_map(std::future::ready)
                .collect()
        });
        let rows: Vec<Vec<SweepRow>> = futures_util::future::join_all(providers).await;
        rows.into_iter().flatten().collect()
    }

    async fn one<F>(
        &self,
        pass: &Pass,
        lease_id: LeaseId,
        spread: Duration,
        act: &(impl Fn(Arc<Context>, LeaseId) -> F + Sync),
    ) -> Option<SweepRow>
    where
        F: Future<Output = Result<Option<Upkeep>, CommandError>> + Send + 'static,
    {
        if !spread.is_zero() {
            tokio::time::sleep(jittered(spread, &lease_id.to_string())).await;
        }
        if pass.stopping.is_cancelled() {
            return None;
        }
        let result = match tokio::spawn(act(Arc::clone(&pass.context), lease_id)).await {
            Ok(result) => result,
            Err(broken) => Err(CommandError::BrokenOff { cause: broken.to_string() }),
        };
        SweepRow::of(lease_id, result, &self.patience)
    }

    /// Whether this row failed lately, and is left alone.
    pub(super) fn waits(&self, lease_id: LeaseId) -> bool {
        self.patience.waits(&lease_id)
    }
}
