//! Which lease an acquire is: the id that makes it unique.
//!
//! A run holds at most one lease for one fingerprint (B15). Its id is derived from run, fingerprint and a
//! generation that counts those that are over, so that appending `lease-requested` with "no stream" is the
//! reservation: of two acquires of one run, one makes the stream and the other finds it. Every other acquire
//! derives its lease id from its command id, so that the same command makes one lease.

use lease_events::id::{LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::record::StreamId;
use lease_events::store::Direction;
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
    let lease_of =
        |generation: u32| LeaseId::derived(&["run", &run_id.to_string(), fingerprint, &generation.to_string()]);
    // The projection only saves looking at generations that are over.
    let mut generation = context.read_model.latest_generation(run_id, fingerprint).await?.unwrap_or(0);
    if let Some(lease) = made_before(context, command, generation, lease_of).await? {
        return Ok(Slot::Repeated(Box::new(lease)));
    }
    loop {
        let lease_id = lease_of(generation);
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

/// What this very command made before, where the run has acquired again since: the command was broken off, and is told
/// again. Only leases that are younger than the command are looked at.
async fn made_before(
    context: &Context,
    command: &Command,
    latest: u32,
    lease_of: impl Fn(u32) -> LeaseId,
) -> Result<Option<LeaseState>, CommandError> {
    if !command.repeatable || latest == 0 {
        return Ok(None);
    }
    let accepted = context.store.read_stream(&StreamId::command(command.id), 0, Direction::Forwards, 1).await?;
    let Some(accepted) = accepted.first() else { return Ok(None) };
    for generation in (0..latest).rev() {
        let session = LeaseSession::load(context, command, lease_of(generation)).await?;
        match session.get() {
            Some(lease) if session.written() > 0 => return Ok(Some(lease.clone())),
            Some(lease) if lease.created_position > accepted.position => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
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
