//! Which event may follow in which status: the lease's state machine as one table. Pure.
//!
//! **Invariant:** an event that [`LeaseState::check`] refuses is never appended, and a stream that holds one is
//! corrupt. The table speaks of statuses; `permits` adds what depends on more than the status.

use super::event::{LeaseEvent, LeaseReleased, LeaseResumed};
use super::state::LeaseState;
use super::vocabulary::LeaseStatus::{
    self, Active, EffectUnknown, Expired, Failed, PendingCleanup, Released, Releasing, Requested, Retained,
};
use super::vocabulary::{CleanupStatus, Effect};
use crate::codec::DomainEvent;

/// The statuses in which each event type may be appended. `lease-requested` starts a stream, and stands only there.
pub const TRANSITIONS: &[(&str, &[LeaseStatus])] = &[
    ("lease-requested", &[]),
    ("lease-reuse-decided", &[Requested, Releasing]),
    // A release that overtakes the acquire does not stop the provider's answer: it is recorded, then released. An answer
    // that comes after the acquire was given up is recorded too, and what it gave is cleaned up.
    ("lease-provider-acquired", &[Requested, Releasing, EffectUnknown, Released, Expired, Failed]),
    ("lease-resumed", &[Requested, Releasing, EffectUnknown, Active, Retained]),
    ("lease-acquire-failed", &[Requested, Releasing, EffectUnknown]),
    ("lease-effect-unknown", &[Requested, Releasing, EffectUnknown]),
    ("lease-realized", &[Active, Releasing]),
    ("lease-renewed", &[Active]),
    ("lease-command-started", &[Active]),
    // A command that outlives its lease is still a fact.
    (
        "lease-command-executed",
        &[EffectUnknown, Active, Releasing, Released, Expired, Failed, Retained, PendingCleanup],
    ),
    ("lease-release-requested", LeaseStatus::ALL),
    // On a lease that is over: what another lease claimed comes back, because it could not be resumed.
    ("lease-released", &[Releasing, Released, Retained]),
    ("lease-reuse-claimed", &[Released, Retained]),
    ("lease-cleanup-failed", &[EffectUnknown, Releasing, Released, Expired, Failed, Retained, PendingCleanup]),
    ("lease-cleanup-succeeded", &[EffectUnknown, Releasing, Released, Expired, Failed, Retained, PendingCleanup]),
    ("lease-cleanup-escalated", &[EffectUnknown, Releasing, Released, Expired, Failed, Retained, PendingCleanup]),
    ("lease-cleanup-waived", &[EffectUnknown, Releasing, Released, Expired, Failed, Retained, PendingCleanup]),
    ("lease-destroyed", &[Releasing, PendingCleanup]),
];

/// Whether `event` may be appended to a lease in `status`; `None` is a lease that is not there yet.
#[must_use]
pub fn is_allowed(status: Option<LeaseStatus>, event: &LeaseEvent) -> bool {
    match status {
        None => matches!(event, LeaseEvent::Requested(_)),
        Some(status) => TRANSITIONS
            .iter()
            .any(|(event_type, statuses)| *event_type == event.event_type() && statuses.contains(&status)),
    }
}

impl LeaseState {
    /// Whether `event` may follow now; `None` is a lease that is not there yet.
    pub fn check(state: Option<&Self>, event: &LeaseEvent) -> Result<(), IllegalTransition> {
        let status = state.map(|state| state.status);
        if is_allowed(status, event) && state.is_none_or(|state| state.permits(event)) {
            Ok(())
        } else {
            Err(IllegalTransition { status, event_type: event.event_type() })
        }
    }

    /// What the table cannot say, because it depends on more than the status.
    fn permits(&self, event: &LeaseEvent) -> bool {
        let holds = self.provider_lease.is_some();
        match event {
            LeaseEvent::Requested(_) | LeaseEvent::Renewed(_) => true,
            // They answer an acquire under way; once the provider has given something, they would hide it.
            LeaseEvent::ReuseDecided(_) | LeaseEvent::ProviderAcquired(_) | LeaseEvent::AcquireFailed(_) => !holds,
            LeaseEvent::Resumed(resumed) => self.permits_resumed(resumed),
            LeaseEvent::EffectUnknown(unknown) => match unknown.effect {
                Effect::Acquire | Effect::Resume => !holds,
                Effect::Release | Effect::Destroy => holds,
                Effect::Realize | Effect::Execute => false,
            },
            LeaseEvent::Realized(_) => holds,
            // A command is started once, and ends once.
            LeaseEvent::CommandStarted(started) => holds && self.running(started.command_id).is_none(),
            LeaseEvent::CommandExecuted(executed) => {
                holds && executed.command_id.is_none_or(|command_id| self.running(command_id).is_some())
            }
            // On a lease that is over there must be something to release: not what another lease took over.
            LeaseEvent::ReleaseRequested(_) => self.status.is_open() || self.keeps_something(),
            LeaseEvent::Released(released) => self.permits_released(released),
            // A lease is claimed once, only while it keeps something, and under a higher token.
            LeaseEvent::ReuseClaimed(claimed) => {
                self.is_reusable() && Some(claimed.next_fencing_token) > self.fencing_token()
            }
            // While an acquire is under way there is nothing to clean up yet; what was claimed is not ours to touch.
            LeaseEvent::CleanupFailed(_) | LeaseEvent::CleanupEscalated(_) | LeaseEvent::CleanupWaived(_) => {
                (holds || self.status != Releasing) && !self.is_claimed_away()
            }
            // The claimant may have found that it is gone.
            LeaseEvent::CleanupSucceeded(_) => holds || self.status != Releasing,
            LeaseEvent::Destroyed(destroyed) => holds && is_end(destroyed.status),
        }
    }

    fn permits_resumed(&self, resumed: &LeaseResumed) -> bool {
        match &self.provider_lease {
            // A take-over, of what was decided on.
            None => resumed.from_lease_id.is_some() && resumed.from_lease_id == self.resuming_from,
            // Its own, under a higher token; a retained lease resumes only what it still keeps.
            Some(held) => {
                resumed.from_lease_id.is_none()
                    && resumed.fencing_token > held.fencing_token
                    && (self.status.is_open() || self.keeps_something())
            }
        }
    }

    fn permits_released(&self, released: &LeaseReleased) -> bool {
        // While an acquire is under way nobody knows what there is to release. On a lease that is over: what
        // another lease claimed comes back, once.
        let now = if self.status == Releasing { self.provider_lease.is_some() } else { self.is_claimed_away() };
        // What is named at the provider is an obligation until it is confirmed gone, and what is retained is there.
        let owed = match released.cleanup_status {
            None => self.provider_lease_id().is_none() && released.status != Retained,
            Some(CleanupStatus::Success) => released.status != Retained,
            Some(CleanupStatus::Pending | CleanupStatus::Failed) => true,
        };
        now && owed && is_end(released.status)
    }
}

/// Whether a lease can end in `status`.
fn is_end(status: LeaseStatus) -> bool {
    matches!(status, Released | Expired | Failed | Retained)
}

/// An event that may not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {event_type} may not follow in a lease that is {}", .status.map_or("not there", LeaseStatus::as_str))]
pub struct IllegalTransition {
    /// Where the lease stands; `None` where it is not there.
    pub status: Option<LeaseStatus>,
    /// What was to follow.
    pub event_type: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_event_once() {
        let mut named: Vec<&str> = TRANSITIONS.iter().map(|(event_type, _)| *event_type).collect();
        let mut known: Vec<&str> = LeaseEvent::schemas().iter().map(|(event_type, _, _)| *event_type).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
    }
}
