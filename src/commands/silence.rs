//! Silence: the ledger itself releases what a run holds that was kept alive and was not heard of in time (B4), and goes
//! on with a release of a run that was broken off.
//!
//! **Invariants:** whether a run is silent is decided on its loaded stream, and the release is appended at that
//! revision: a heartbeat that was stored first makes it alive, one that comes later is refused. Never both.

use lease_events::id::RunId;
use lease_events::lease::vocabulary::{Reason, ReleaseStatus};
use lease_events::run::{RunEvent, RunReleased};
use lease_events::seam::crash::Step;

use super::Context;
use super::caller::Command;
use super::error::{CommandError, moment};
use super::release_run::{RunReleaseReport, release_leases};
use super::run::RunNow;

/// What became of a run that was found to be over.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// Its leases.
    pub leases: RunReleaseReport,
    /// Why they were released.
    pub because: String,
}

/// Releases a run as `failed` if its time is over; `None` where there is nothing to do.
pub async fn release_silent(
    context: &Context,
    command: &Command,
    run_id: RunId,
) -> Result<Option<RunEnd>, CommandError> {
    let run = RunNow::load(context, run_id).await?;
    let Some((recorded, RunEvent::KeptAlive(kept))) = run.last() else { return Ok(None) };
    if kept.alive_until > context.clock.now() {
        return Ok(None);
    }
    let company_id = recorded.company_id;
    let event = RunReleased { run_id, status: ReleaseStatus::Failed, reason: Reason::RunLost };
    let release = run.append(context, command, company_id, event.into());
    let Some(at) = context.step(Step::ReleaseRunIntent, release).await? else {
        // Somebody was first: it was heard of, or released.
        return Ok(None);
    };
    let leases = release_leases(context, command, (company_id, run_id), ReleaseStatus::Failed, at).await?;
    let because = format!("nothing was heard of run {run_id} until {}", moment(kept.alive_until));
    Ok(Some(RunEnd { leases, because }))
}

/// Releases whatever a released run still holds, as its release wanted it; `None` where it was not released.
pub async fn finish_run_release(
    context: &Context,
    command: &Command,
    run_id: RunId,
) -> Result<Option<RunEnd>, CommandError> {
    let run = RunNow::load(context, run_id).await?;
    let Some((recorded, RunEvent::Released(released))) = run.last() else { return Ok(None) };
    let run = (recorded.company_id, run_id);
    let leases = release_leases(context, command, run, released.status, recorded.position).await?;
    let because = format!("run {run_id} was released at {}", moment(recorded.recorded_at));
    Ok(Some(RunEnd { leases, because }))
}
