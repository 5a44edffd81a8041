//! The service: one background task a sweep, for as long as the ledger runs.
//!
//! **Invariants:** a task sleeps until the earliest thing falls due, and never longer than the sweep's period, so that a
//! clock that jumps, or another process's events, are noticed. A look that panics or fails is logged, and the next one
//! is taken.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::id::LeaseId;

use super::duties::Duties;
use super::report::{SweepReport, SweepRow};
use super::{Pass, Sweep};

/// The longest time between two looks, where nothing is due earlier: half of the second within which expiry is promised.
/// A look is one read of an index.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The shortest time between two looks while more is due: lets commands of callers go between.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Looks again and again until the ledger stops, as long as it is this process's duty.
pub async fn keep(sweep: Arc<dyn Sweep>, pass: Pass, duties: Arc<dyn Duties>) {
    let mut looks: u64 = 0;
    loop {
        looks += 1;
        let seed = [pass.context.owner.as_str(), sweep.name(), &looks.to_string()].join("/");
        let wait = match duties.begin(sweep.name()) {
            Some(_turn) => {
                let report = look(&sweep, &pass).await;
                tell(sweep.name(), &report);
                until_next(&report, jittered(sweep.look_every(), &seed), pass.context.clock.now())
            }
            // It may become this process's at any time.
            None => jittered(LOOK_EVERY, &seed),
        };
        tokio::select! {
            () = pass.stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How long to wait after a look, `longest` at most.
fn until_next(report: &SweepReport, longest: Duration, now: DateTime<Utc>) -> Duration {
    let wait = match report.next_due {
        _ if report.more && report.fault.is_none() => PAUSE_MIN,
        Some(due) => (due - now).max(TimeDelta::zero()).to_std().unwrap_or(longest),
        None => longest,
    };
    wait.clamp(PAUSE_MIN, longest)
}

/// One look, in a task of its own: a panic in it ends the look, not the sweep.
async fn look(sweep: &Arc<dyn Sweep>, pass: &Pass) -> SweepReport {
    let (sweep, pass) = (Arc::clone(sweep), pass.clone());
    let look = tokio::spawn(async move { sweep.run_once(&pass).await });
    look.await.unwrap_or_else(|broken| SweepReport::failed(&format!("the look was broken off: {broken}")))
}

fn tell(sweep: &str, report: &SweepReport) {
    if let Some(fault) = &report.fault {
        tracing::warn!(sweep, fault, "a sweep could not look; it looks again");
    }
    for SweepRow { lease_id, provider_lease_id, did, because } in &report.rows {
        let (lease, provider_lease) = (lease_id.map(tracing::field::display), provider_lease_id.as_deref());
        if let Some(did) = did {
            tracing::info!(sweep, lease, provider_lease, did = did.as_str(), because, "recovered");
        } else {
            tracing::warn!(sweep, lease, provider_lease, fault = because, "a row could not be seen to");
        }
    }
}

/// From half to all of `time`, drawn from `seed`: processes, sweeps and rows that began together part.
#[must_use]
pub(super) fn jittered(time: Duration, seed: &str) -> Duration {
    let thousandths = 500 + LeaseId::derived(&["jitter", seed]).0.as_fields().0 % 501;
    time * thousandths / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_all() {
        let drawn: Vec<Duration> = (0..200).map(|seed| jittered(LOOK_EVERY, &seed.to_string())).collect();
        assert!(drawn.iter().all(|wait| *wait >= LOOK_EVERY / 2 && *wait <= LOOK_EVERY));
        assert!(drawn.iter().max() > drawn.iter().min());
    }
}
