//! Which event may follow in which status: the lease's state machine as one table. Pure.
//!
//! **Invariant:** an event that the table refuses is never appended, and a stream that holds one is corrupt. The
//! table speaks of statuses; [`super::state::LeaseState::apply`] adds what depends on more than the status.

use super::event::LeaseEvent;
use super::vocabulary::LeaseStatus::{
    self, Active, EffectUnknown, Expired, Failed, PendingCleanup, Released, Releasing, Requested, Retained,
};
use crate::codec::DomainEvent;

/// The statuses in which each event type may be appended. `lease-requested` starts a stream, and stands only there.
pub const TRANSITIONS: &[(&str, &[LeaseStatus])] = &[
    ("lease-requested", &[]),
    ("lease-reuse-decided", &[Requested, Releasing]),
    // A release that overtakes the acquire does not stop the provider's answer: it is recorded, then released.
    ("lease-provider-acquired", &[Requested, Releasing, EffectUnknown]),
    ("lease-resumed", &[Requested, Releasing, EffectUnknown, Active, Retained]),
    ("lease-acquire-failed", &[Requested, Releasing, EffectUnknown]),
    ("lease-effect-unknown", &[Requested, Releasing, EffectUnknown]),
    ("lease-realized", &[Active, Releasing]),
    ("lease-renewed", &[Active]),
    // A command that outlives its lease is still a fact.
    ("lease-command-executed", &[Active, Releasing, Released, Expired, Failed, Retained, PendingCleanup]),
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
