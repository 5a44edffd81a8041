//! Runs that heartbeats kept alive and that went silent: their leases are released as `failed` (B4).
//!
//! **Invariants:** a run is silent only where it could have been heard: this process has listened for the run's whole
//! time to live, without a break. After a start, a pause of the process or a jump of the clock ahead, every run has its
//! time to live once more. So a pass by hand without a server, which has listened to nobody, ends no run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::id::RunId;
use lease_events::run::RunState;
use lease_projections::projection::QueryError;
use lease_projections::read_model::AliveFilter;
use tokio::time::Instant;

use super::patience::Patience;
use super::report::SweepReport;
use super::run_ends::{RUNS_PER_LOOK, end_all};
use super::{Pass, Sweep};
use crate::commands::Context;
use crate::commands::silence::release_silent;
use crate::commands::upkeep::{Did, command_of};

/// How far the wall clock may run ahead of the monotonic one between two looks, and how long the process may take no
/// look, before it counts as not having listened: more than a busy machine's delays, less than the shortest time to live.
const BREAK_MAX: Duration = Duration::from_secs(4);

/// The sweep.
#[derive(Debug, Default)]
pub struct SilentRuns {
    listening: Mutex<Option<Listening>>,
    patience: Patience<RunId>,
}

/// Since when runs could be heard.
#[derive(Debug, Clone, Copy)]
struct Listening {
    since: Instant,
    /// The end of the last look, by both clocks.
    looked: (Instant, DateTime<Utc>),
}

impl SilentRuns {
    /// For how long runs could be heard without a break.
    fn listened_for(&self, wall: DateTime<Utc>) -> Duration {
        let now = Instant::now();
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *listening {
            Some(Listening { since, looked: (at, wall_at) }) => {
                let passed = now - at;
                let jumped = (wall - wall_at).to_std().is_ok_and(|wall_passed| wall_passed > passed + BREAK_MAX);
                if jumped || passed > BREAK_MAX { now } else { since }
            }
            None => now,
        };
        *listening = Some(Listening { since, looked: (now, wall) });
        now - since
    }

    /// The look is over; however long it took, heartbeats were taken meanwhile.
    fn looked(&self, wall: DateTime<Utc>) {
        if let Some(listening) = &mut *self.listening.lock().unwrap_or_else(PoisonError::into_inner) {
            listening.looked = (Instant::now(), wall);
        }
    }

    /// Runs that were silent for their whole time to live while they could be heard; and whether there may be more.
    async fn find(&self, context: &Context, listened: Duration) -> Result<(Vec<RunId>, bool), QueryError> {
        let until = Some(context.clock.now());
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = context.read_model.alive_runs(&AliveFilter { until, after, limit: RUNS_PER_LOOK }).await?;
            let is_last = page.len() < RUNS_PER_LOOK;
            after = page.last().and_then(|run| Some((run.alive_until?, run.run_id)));
            let silent = page.iter().filter(|run| could_be_heard(run, listened) && !self.patience.waits(&run.run_id));
            found.extend(silent.map(|run| run.run_id));
            if is_last || found.len() >= RUNS_PER_LOOK {
                found.truncate(RUNS_PER_LOOK);
                return Ok((found, !is_last));
            }
        }
    }
}

fn could_be_heard(run: &RunState, listened: Duration) -> bool {
    run.time_to_live_ms.is_some_and(|time_to_live| listened >= Duration::from_millis(time_to_live))
}

#[async_trait]
impl Sweep for SilentRuns {
    fn name(&self) -> &'static str {
        "silent-runs"
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let context = &pass.context;
        let began = context.clock.now();
        let listened = self.listened_for(began);
        let (runs, more) = match self.find(context, listened).await {
            Ok(found) => found,
            Err(error) => return SweepReport::failed(&error),
        };
        let rows = end_all(pass, runs, Did::RunLost, &self.patience, |context, run_id| async move {
            release_silent(&context, &command_of(&context, "silent-runs"), run_id).await
        })
        .await;
        let next = AliveFilter { until: None, after: Some((began, RunId(uuid::Uuid::max()))), limit: 1 };
        let next = context.read_model.alive_runs(&next).await;
        self.looked(context.clock.now());
        match next {
            Ok(next) => SweepReport { rows, fault: None, more, next_due: next.first().and_then(|run| run.alive_until) },
            Err(error) => SweepReport { rows, fault: Some(error.to_string()), more, next_due: None },
        }
    }
}
