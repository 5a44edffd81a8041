//! Which lease an acquire is: the id that makes it unique.
//!
//! A run holds at most one lease for one fingerprint (B15). Its id is derived from run, fingerprint and a
//! generation that counts those that are over, so that appending `lease-requested` with "no stream" is the
//! reservation: of two acquires of one run, one makes the stream and the other finds it. Every other acquire
//! derives its lease id from its command id, so that the same command makes one lease.

use lease_events::id::{LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use tokio::sync::OwnedMutexGuard;

use crate::commands::Context;
use crate::commands::caller::Command;
use crate::commands::error::CommandError;
use crate::commands::session::LeaseSession;

/// What an acquire finds in its place.
pub(super) enum Slot<'a> {
    /// The run holds it already.
    Taken(Box<LeaseState>),
    /// This very command made it before.
    Repeated(Box<LeaseState>),
    /// Nothing: the lease may be requested, by whoever holds the lock.
    Free { session: LeaseSession<'a>, generation: u32, held: OwnedMutexGuard<()> },
}

/// Finds the slot of an acquire.
pub(super) async fn find<'a>(
    context: &'a Context,
    command: &'a Command,
    run_id: Option<RunId>,
    fingerprint: Option<&str>,
) -> Result<Slot<'a>, CommandError> {
    let (Some(run_id), Some(fingerprint)) = (run_id, fingerprint) else {
        let lease_id = LeaseId::derived(&["command", &command.id.to_string()]);
        let (session, held) = look(context, command, lease_id).await?;
        return Ok(match session.get() {
            Some(lease) => Slot::Repeated(Box::new(lease.clone())),
            None => Slot::Free { session, generation: 0, held },
        });
    };
    // The projection only saves looking at generations that are over.
    let mut generation = context.read_model.latest_generation(run_id, fingerprint).await?.unwrap_or(0);
    loop {
        let lease_id = LeaseId::derived(&["run", &run_id.to_string(), fingerprint, &generation.to_string()]);
        let (session, held) = look(context, command, lease_id).await?;
        match session.get() {
            None => return Ok(Slot::Free { session, generation, held }),
            Some(lease) if session.written() > 0 => return Ok(Slot::Repeated(Box::new(lease.clone()))),
            Some(lease) if lease.status == LeaseStatus::Active => return Ok(Slot::Taken(Box::new(lease.clone()))),
            Some(lease) if lease.status.is_open() => {
                return Err(CommandError::LeaseNotActive { lease_id, status: lease.status });
            }
            Some(_) => generation += 1,
        }
    }
}

/// The lease as it is once nobody in this process is at work on it any more: an acquire waits for the other of the
/// same run.
async fn look<'a>(
    context: &'a Context,
    command: &'a Command,
    lease_id: LeaseId,
) -> Result<(LeaseSession<'a>, OwnedMutexGuard<()>), CommandError> {
    let held = context.locks.hold(lease_id.0).await;
    Ok((LeaseSession::load(context, command, lease_id).await?, held))
}
