//! By what right a lease is changed: a holder shows its fencing token, an operator gives a reason. Pure.

use lease_events::fold::StreamState;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use serde::{Deserialize, Serialize};

use super::error::CommandError;

/// By what right a lease is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// The holder, by the token that the acquire answered.
    Holder {
        /// The token.
        fencing_token: u64,
    },
    /// An operator, who says why.
    Operator {
        /// The reason, which goes on record.
        reason: String,
    },
    /// The run that owns the lease, which is ending.
    Run,
    /// The ledger itself, for the reason that its command records.
    Ledger,
}

/// Longest reason of an operator, in bytes.
pub const REASON_BYTES_MAX: usize = 1_000;

impl Authority {
    /// What a request shows: a token, a reason, or neither, which is refused later with the lease's name.
    #[must_use]
    pub fn shown(fencing_token: Option<u64>, reason: Option<String>) -> Option<Self> {
        match (fencing_token, reason) {
            (Some(fencing_token), _) => Some(Self::Holder { fencing_token }),
            (None, Some(reason)) => Some(Self::Operator { reason }),
            (None, None) => None,
        }
    }

    /// The operator's words, where an operator acts.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Operator { reason } => Some(reason.clone()),
            Self::Holder { .. } | Self::Run | Self::Ledger => None,
        }
    }
}

/// Refuses a change without authority: neither token nor reason, a token that is not the holder's, or an empty
/// reason.
pub fn check(authority: Option<&Authority>, state: &LeaseState) -> Result<(), CommandError> {
    let lease_id = state.lease_id;
    match authority {
        None => Err(CommandError::NoAuthority { lease_id }),
        Some(Authority::Operator { reason }) if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX => {
            Err(CommandError::Invalid {
                field: "reason",
                sentence: format!("\"reason\" must say something, in at most {REASON_BYTES_MAX} bytes."),
            })
        }
        Some(Authority::Operator { .. } | Authority::Run | Authority::Ledger) => Ok(()),
        Some(Authority::Holder { fencing_token: given }) => match state.fencing_token() {
            Some(current) if current == *given => Ok(()),
            Some(current) => Err(CommandError::StaleFencingToken { lease_id, given: *given, current }),
            None => Err(CommandError::LeaseNotActive { lease_id, status: state.status }),
        },
    }
}

/// Refuses a use of a lease that is not active at `now`.
pub fn check_usable(state: &LeaseState, now: chrono::DateTime<chrono::Utc>) -> Result<(), CommandError> {
    let lease_id = state.lease_id;
    match state.status {
        LeaseStatus::Active => match state.expires_at {
            Some(expired_at) if expired_at <= now => Err(CommandError::LeaseExpired { lease_id, expired_at }),
            _ => Ok(()),
        },
        status if status.is_open() => Err(CommandError::LeaseNotActive { lease_id, status }),
        status => match state.claimed_by {
            Some(to) => Err(CommandError::HandedOver { lease_id, to }),
            None => Err(CommandError::LeaseOver { lease_id, status, ended_at: state.ended_at }),
        },
    }
}

/// Refuses where the caller decided on another revision than the present one.
pub fn check_revision(if_revision: Option<u64>, state: &impl StreamState) -> Result<(), CommandError> {
    let actual = state.revision();
    match if_revision {
        Some(expected) if expected != actual => {
            Err(CommandError::RevisionMismatch { stream: state.stream_id(), expected, actual })
        }
        _ => Ok(()),
    }
}
