//! Heartbeat: a run says that it lives, and for how long that shall be believed. No effect.
//!
//! A run that is kept alive and then goes silent has its leases released as `failed` (B4), by [`super::silence`]; one
//! that never sent a heartbeat is left alone.
//!
//! **Invariants:** a heartbeat that was answered keeps the run alive for its whole time to live. What is recorded lasts
//! half as long again, and a heartbeat that this covers is answered without being recorded: however often a run
//! sends one, its stream grows by two events a time to live. The price: silence is noticed between one and one and a
//! half times to live after the last heartbeat.

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::id::{CompanyId, RunId};
use lease_events::run::{RunEvent, RunKeptAlive};
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::Context;
use super::caller::Command;
use super::error::CommandError;
use super::run::{CONFLICTS_MAX, RunNow};

/// Shortest time to live, in milliseconds: some missed heartbeats' worth at one a second. With less, a busy moment of
/// the ledger or of the network would end a run.
pub const TIME_TO_LIVE_MS_MIN: u64 = 5_000;
/// Longest time to live, in milliseconds: a day. A run that may be silent for longer is not kept alive by heartbeats.
pub const TIME_TO_LIVE_MS_MAX: u64 = 86_400_000;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct HeartbeatRequest {
    /// The tenant.
    pub company_id: CompanyId,
    /// The run.
    pub run_id: RunId,
    /// For how long it shall count as alive from now on, in milliseconds.
    pub time_to_live_ms: u64,
}

/// Keeps a run alive; answers until when. One that was released is refused.
pub async fn heartbeat(
    context: &Context,
    command: &Command,
    request: &HeartbeatRequest,
) -> Result<RunKeptAlive, CommandError> {
    let HeartbeatRequest { company_id, run_id, time_to_live_ms } = *request;
    let time_to_live = check_time_to_live(time_to_live_ms)?;
    for _ in 0..CONFLICTS_MAX {
        let run = RunNow::load(context, run_id).await?;
        let before = run.event_in(company_id)?;
        run.check_not_released()?;
        let now = context.clock.now();
        if let Some(RunEvent::KeptAlive(kept)) = before
            && covers(kept, time_to_live_ms, now)
        {
            return Ok(kept.clone());
        }
        let alive_until = now + time_to_live + time_to_live / 2;
        let kept = RunKeptAlive { run_id, time_to_live_ms, alive_until };
        let keep = run.append(context, command, company_id, kept.clone().into());
        if context.step(Step::HeartbeatOutcome, keep).await?.is_some() {
            return Ok(kept);
        }
    }
    Err(RunNow::contention(run_id))
}

/// Whether what is recorded keeps the run alive for as long as another heartbeat of this time to live would ask, and
/// not for longer than one recorded now: a clock that was ahead is corrected.
fn covers(kept: &RunKeptAlive, time_to_live_ms: u64, now: DateTime<Utc>) -> bool {
    let Ok(time_to_live) = check_time_to_live(time_to_live_ms) else { return false };
    kept.time_to_live_ms == time_to_live_ms
        && kept.alive_until >= now + time_to_live
        && kept.alive_until <= now + time_to_live + time_to_live / 2
}

fn check_time_to_live(milliseconds: u64) -> Result<TimeDelta, CommandError> {
    let allowed = (TIME_TO_LIVE_MS_MIN..=TIME_TO_LIVE_MS_MAX).contains(&milliseconds);
    let time_to_live = i64::try_from(milliseconds).ok().filter(|_| allowed).map(TimeDelta::milliseconds);
    time_to_live.ok_or_else(|| CommandError::Invalid {
        field: "timeToLiveMs",
        sentence: format!(
            "\"timeToLiveMs\" is {milliseconds}; give {TIME_TO_LIVE_MS_MIN} to {TIME_TO_LIVE_MS_MAX} (5 seconds to a day)."
        ),
    })
}
