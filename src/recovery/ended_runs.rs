//! Runs that were released while something of theirs was not: a release that was broken off between the run and its
//! leases is finished.

use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use lease_events::id::RunId;

use super::patience::Patience;
use super::report::SweepReport;
use super::run_ends::{RUNS_PER_LOOK, end_all};
use super::{Pass, Sweep};
use crate::commands::silence::finish_run_release;
use crate::commands::upkeep::{Did, command_of};

/// How often it is looked: each look reads the index of open leases.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a release is left to the command that asked for it.
const GRACE: TimeDelta = TimeDelta::seconds(5);

/// The sweep.
#[derive(Debug, Default)]
pub struct EndedRuns(Patience<RunId>);

#[async_trait]
impl Sweep for EndedRuns {
    fn name(&self) -> &'static str {
        "ended-runs"
    }

    fn look_every(&self) -> Duration {
        LOOK_EVERY
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let found = match pass.context.read_model.half_released_runs(RUNS_PER_LOOK).await {
            Ok(found) => found,
            Err(error) => return SweepReport::failed(&error),
        };
        let now = pass.context.clock.now();
        let is_left = |at: chrono::DateTime<chrono::Utc>| at + GRACE <= now;
        let runs = found.iter().filter(|run| run.released_at.is_none_or(is_left) && !self.0.waits(&run.run_id));
        let runs = runs.map(|run| run.run_id).collect();
        let rows = end_all(pass, runs, Did::RunEnded, &self.0, |context, run_id| async move {
            finish_run_release(&context, &command_of(&context, "ended-runs"), run_id).await
        })
        .await;
        SweepReport { rows, ..SweepReport::default() }
    }
}
