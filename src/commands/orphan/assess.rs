//! Whether anything accounts for what a provider lists: decided on loaded streams, never on a projection.

use chrono::TimeDelta;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::record::StreamId;

use super::Suspect;
use crate::commands::Context;
use crate::commands::acquire::FIRST_TOKEN;
use crate::commands::error::{CommandError, moment};
use crate::commands::replay::catch_up;
use crate::drivers::PlanRequest;
use crate::queries::history::lease_history;

/// How long it, and the end of its lease, must be past before it counts as left behind: room for clocks that differ and
/// listings that lag.
pub const GRACE: TimeDelta = TimeDelta::minutes(5);
/// Most take-overs that are followed from the lease of the label to the last one. What went through more hands is
/// reported, and left to an operator.
const TAKE_OVERS_MAX: usize = 4_096;
/// The token under which something is destroyed whose lease is not in the ledger: the highest that there is.
const HIGHEST_TOKEN: u64 = (1 << 53) - 1;

/// What the streams say of something that is listed.
#[derive(Debug, Clone, PartialEq)]
pub enum Assessment {
    /// A lease holds it, owes its cleanup, or is about to settle what it is.
    Accounted,
    /// Nothing accounts for it, but it may be too young to say.
    Young,
    /// Nothing accounts for it, and it is not for the ledger to destroy.
    Left {
        /// Why.
        because: String,
    },
    /// Its lease is active, and holds something else.
    Duplicate {
        /// What is known.
        because: String,
    },
    /// Nothing accounts for it.
    Unaccounted {
        /// Its lease, or the last that took over from it; `None` where the ledger has none.
        lease: Option<Box<LeaseState>>,
        /// The highest token that the ledger knows of.
        fencing_token: u64,
        /// Why.
        because: String,
    },
}

/// Judges it, now.
pub async fn assess(context: &Context, suspect: &Suspect) -> Result<Assessment, CommandError> {
    let id = &suspect.listed.provider_lease_id;
    // What was made for a lease that never heard of it was made under the first token.
    let (mut at, mut fencing_token) = (suspect.lease_id, FIRST_TOKEN);
    for _ in 0..TAKE_OVERS_MAX {
        let found: Option<LeaseState> = catch_up(context.store.as_ref(), &StreamId::lease(at), None, |_| {}).await?;
        let Some(lease) = found else {
            if at != suspect.lease_id {
                return Ok(left(format!("{id} was taken over by lease {at}, which is not in the ledger")));
            }
            return Ok(without_lease(context, suspect));
        };
        fencing_token = fencing_token.max(lease.fencing_token().unwrap_or_default());
        if lease.status.is_open() {
            let other = lease.provider_lease_id().filter(|held| held != id && lease.status == LeaseStatus::Active);
            return Ok(match other {
                Some(held) => Assessment::Duplicate {
                    because: format!("{id} bears the label of lease {at}, which is active and holds {held}"),
                },
                None => Assessment::Accounted,
            });
        }
        if lease.keeps_something() {
            return Ok(Assessment::Accounted);
        }
        match lease.claimed_by.filter(|_| lease.is_claimed_away()) {
            Some(claimant) => at = claimant,
            None => return over(context, suspect, lease, fencing_token).await,
        }
    }
    Ok(left(format!("{id} went through more than {TAKE_OVERS_MAX} leases")))
}

/// Its lease is over, and holds and owes nothing.
async fn over(
    context: &Context,
    suspect: &Suspect,
    lease: LeaseState,
    fencing_token: u64,
) -> Result<Assessment, CommandError> {
    let id = &suspect.listed.provider_lease_id;
    let lease_id = lease.lease_id;
    if lease.driver != suspect.driver {
        return Ok(left(format!("lease {lease_id} is of driver {}, not {}", lease.driver, suspect.driver)));
    }
    if context.care.protects(lease.workspace_kind) {
        return Ok(left(format!("{id} may hold the only copy of somebody's work (lease {lease_id})")));
    }
    let waived = |event: &lease_events::record::RecordedEvent| &*event.event_type == "lease-cleanup-waived";
    if lease_history(context, lease_id, None).await?.iter().any(waived) {
        return Ok(left(format!("an operator waived the cleanup of lease {lease_id}")));
    }
    let past = |at: chrono::DateTime<chrono::Utc>| at + GRACE <= context.clock.now();
    if !past(lease.updated_at) || !past(suspect.listed.created_at.unwrap_or(suspect.seen_since)) {
        return Ok(Assessment::Young);
    }
    let ended = lease.ended_at.map(moment).unwrap_or_default();
    let because = format!("lease {lease_id} is {} since {ended}, and holds and owes nothing", lease.status);
    Ok(Assessment::Unaccounted { lease: Some(Box::new(lease)), fencing_token, because })
}

/// Its lease is not in the ledger.
fn without_lease(context: &Context, suspect: &Suspect) -> Assessment {
    let id = &suspect.listed.provider_lease_id;
    let request = PlanRequest { config: &suspect.config, has_run: false, has_execution_workspace: false };
    let plan = context.drivers.get(&suspect.driver).and_then(|driver| driver.plan(&request).ok());
    if plan.is_none_or(|plan| context.care.protects(plan.workspace_kind)) {
        return left(format!("{id} may hold the only copy of somebody's work, and its lease is not in the ledger"));
    }
    if suspect.listed.created_at.unwrap_or(suspect.seen_since) + GRACE > context.clock.now() {
        return Assessment::Young;
    }
    let because = format!("lease {} is not in this ledger, though {id} bears its label", suspect.lease_id);
    Assessment::Unaccounted { lease: None, fencing_token: HIGHEST_TOKEN, because }
}

fn left(because: String) -> Assessment {
    Assessment::Left { because }
}
