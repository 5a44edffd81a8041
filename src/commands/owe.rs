//! What is owed at a provider, and what a failed try to settle it puts on record. Pure, but for reading the settings.
//!
//! **Invariants:** an obligation never ends here: it ends by a receipt or a waiver. A try counts only where it may have
//! reached the provider. Every failed try says when the next one is; escalated ones are still tried.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::failure::Fault;
use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseCleanupEscalated, LeaseCleanupFailed, LeaseEvent};
use lease_events::lease::vocabulary::WorkspaceKind;

use super::Context;
use crate::drivers::{Outcome, may_have_reached_provider};

/// How owed cleanup is tried again, and what is never destroyed by the ledger itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CareSettings {
    /// First wait before a failed try is repeated; doubled each time, with ±50 % jitter. Default 10 s.
    pub wait_first: Duration,
    /// Longest such wait. Default 1 h.
    pub wait_max: Duration,
    /// Failed tries that reached the provider, after which an operator must look. Default 6.
    pub tries_max: u32,
    /// The wait between tries once an operator must look. Default a day.
    pub wait_escalated: Duration,
    /// Whether a workspace of which nobody said what it is worth is kept like the only copy of somebody's work. Default
    /// no.
    pub keep_unknown_workspaces: bool,
}

impl Default for CareSettings {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_secs(10),
            wait_max: Duration::from_hours(1),
            tries_max: 6,
            wait_escalated: Duration::from_hours(24),
            keep_unknown_workspaces: false,
        }
    }
}

impl CareSettings {
    /// Whether nothing but somebody's explicit wish may destroy such a workspace.
    #[must_use]
    pub fn protects(&self, kind: WorkspaceKind) -> bool {
        match kind {
            WorkspaceKind::SoleCopy => true,
            WorkspaceKind::Unknown => self.keep_unknown_workspaces,
            WorkspaceKind::Derived => false,
        }
    }
}

/// A try that did not settle what is owed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Try {
    /// Why.
    pub(super) fault: Fault,
    /// Whether the provider may have been reached.
    pub(super) charged: bool,
    /// Whether another try would be refused the same way.
    pub(super) hopeless: bool,
}

impl Try {
    /// What came of an effect, or the try that it was.
    pub(super) fn of<T>(outcome: &Outcome<T>) -> Result<&T, Self> {
        match outcome {
            Outcome::Done(value) => Ok(value),
            Outcome::NotDone(fault) => Err(Self::failed(fault)),
            Outcome::Unknown(fault) => Err(Self { fault: fault.clone(), charged: true, hopeless: false }),
            Outcome::Refused(fault) => Err(Self { hopeless: true, ..Self::failed(fault) }),
        }
    }

    /// A try that may help when it is repeated.
    pub(super) fn failed(fault: &Fault) -> Self {
        Self { fault: fault.clone(), charged: may_have_reached_provider(fault), hopeless: false }
    }
}

/// What a failed try puts on record: the failure, and where it is one too many, or hopeless, that an operator must look.
pub(super) fn failed(context: &Context, state: &LeaseState, tried: &Try) -> Vec<LeaseEvent> {
    let care = &context.care;
    let now = context.clock.now();
    let attempt = state.cleanup_attempts + u32::from(tried.charged);
    let escalates = !state.needs_attention && (tried.hopeless || (tried.charged && attempt >= care.tries_max));
    let wait = if state.needs_attention || escalates {
        jittered(care.wait_escalated, &state.lease_id, attempt)
    } else if tried.charged {
        cleanup_wait(care, &state.lease_id, attempt)
    } else {
        // As long again as since the last event: it doubles, without counting a try that never was one.
        let passed = (now - state.updated_at).to_std().unwrap_or_default();
        jittered((passed * 2).clamp(care.wait_first, care.wait_max), &state.lease_id, attempt).min(care.wait_max)
    };
    let next_try_at = Some(after(now, wait));
    let failed = LeaseCleanupFailed { attempt, charged: tried.charged, fault: tried.fault.clone(), next_try_at };
    let mut events = vec![failed.into()];
    if escalates {
        let fault = tried.fault.clone();
        events.push(LeaseCleanupEscalated { attempts: attempt, fault, next_try_at }.into());
    }
    events
}

/// That an operator must look, with a daily try where one is of use.
pub(super) fn escalated(context: &Context, state: &LeaseState, fault: Fault) -> LeaseEvent {
    let wait = jittered(context.care.wait_escalated, &state.lease_id, state.cleanup_attempts);
    let next_try_at = Some(after(context.clock.now(), wait));
    LeaseCleanupEscalated { attempts: state.cleanup_attempts, fault, next_try_at }.into()
}

/// That what a lease holds is kept until somebody says what shall become of it.
pub(super) fn kept(state: &LeaseState) -> LeaseEvent {
    let sentence = "its workspace may hold the only copy of somebody's work: destroy the lease, or waive its cleanup";
    let fault = Fault::new("sole-copy", sentence);
    LeaseCleanupEscalated { attempts: state.cleanup_attempts, fault, next_try_at: None }.into()
}

fn after(now: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    now + TimeDelta::from_std(wait).unwrap_or(TimeDelta::days(1))
}

/// How long a cleanup waits after its `attempt`-th failure.
fn cleanup_wait(care: &CareSettings, lease_id: &LeaseId, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let doubled = care.wait_first.saturating_mul(1 << doublings).min(care.wait_max);
    jittered(doubled, lease_id, attempt).min(care.wait_max)
}

/// From half to one and a half of `wait`. Drawn from the lease and the attempt, so that leases that failed together do
/// not come back together, and a replay waits the same.
fn jittered(wait: Duration, lease_id: &LeaseId, attempt: u32) -> Duration {
    let drawn = LeaseId::derived(&[&lease_id.to_string(), "cleanup", &attempt.to_string()]);
    wait * (500 + drawn.0.as_fields().0 % 1_001) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_jitter_up_to_the_ceiling() {
        let care = CareSettings::default();
        for attempt in 1..=40 {
            let base = (10_u64 << (attempt - 1).min(20)).min(3_600);
            for seed in 0..50 {
                let lease = LeaseId::derived(&[&seed.to_string()]);
                let wait = cleanup_wait(&care, &lease, attempt);
                let (shortest, longest) = (Duration::from_millis(base * 500), Duration::from_millis(base * 1_500));
                assert!(wait >= shortest && wait <= longest.min(care.wait_max), "{attempt}: {wait:?}");
            }
        }
    }

    #[test]
    fn only_what_is_worth_something_is_protected() {
        let care = CareSettings::default();
        assert!(care.protects(WorkspaceKind::SoleCopy) && !care.protects(WorkspaceKind::Derived));
        assert!(!care.protects(WorkspaceKind::Unknown));
        assert!(CareSettings { keep_unknown_workspaces: true, ..care }.protects(WorkspaceKind::Unknown));
    }
}
