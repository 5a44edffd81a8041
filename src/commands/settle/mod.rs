//! Settle: what an intent began and no outcome ended is brought to an end, by whoever finds it.
//!
//! - A **release or destroy** is run again: both are idempotent. This command takes the intent over first, so that one
//!   process is at it.
//! - An **acquire** becomes `lease-effect-unknown`, and then (in `acquire.rs`) the driver's recipe finds out: asking again
//!   under the same lease id and attempt, where the driver declares that this gives the same thing; else its listing,
//!   by label; else an operator.
//! - An acquire's **late answer** (see [`settle_late`]) ends the search.
//! - A **take-over** whose claim has no decision is decided; then what was claimed is resumed, or goes back.
//! - A **claim** by a lease that will never take over what it claimed goes back (see [`claim`]).
//! - A **command** in a workspace that nobody is at any more is put on record as unknown (see [`command`]).
//! - **Realize** leaves nothing to settle; that command says why.
//!
//! **Invariants**
//! - One process at a time asks a provider again: it first stores that it does, until when, and whoever is overtaken in
//!   that leaves the lease alone.
//! - Nothing is begun for a lease whose owner lives, before its time: due is what has passed its `settle_at`, or whose
//!   owner is provably dead. An owner that was only slow finds what was done at its next append, which decides anew.
//! - What is found is adopted only where somebody can still want it: its run is not released, or, without a run, it ends
//!   by itself. Everything else that is found is released or destroyed.
//! - That nothing is there counts only where the driver can confirm absence, after its visibility delay, twice.

mod acquire;
pub mod claim;
pub mod command;
mod late;
mod look;

pub use late::settle_late;

use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::event::LeaseReleaseRequested;
use lease_events::lease::state::ReleaseIntent;
use lease_events::lease::vocabulary::{LeaseStatus, NextActionKind, Reason, ReleaseStatus, Teardown};
use lease_events::seam::crash::Step;

use super::Context;
use super::caller::Command;
use super::effect::settle_at;
use super::error::{CommandError, moment};
use super::release::{finish, is_ending};
use super::session::LeaseSession;
use super::upkeep::{Did, Upkeep};

/// Settles what is in flight of a lease, if it is due; `None` where there is nothing to do.
pub async fn settle(context: &Context, command: &Command, lease_id: LeaseId) -> Result<Option<Upkeep>, CommandError> {
    // Whoever in this process is at work on the lease ends it better.
    let _held = context.locks.hold(lease_id.0).await;
    let mut session = LeaseSession::load_existing(context, command, lease_id, None).await?;
    let state = session.state()?;
    if let Some(owner) = state.in_flight.as_ref().and_then(|in_flight| in_flight.owner.as_deref()) {
        context.owners.look_up(owner).await;
    }
    let Some(because) = due(context, state) else { return Ok(None) };
    if state.provider_lease.is_some() {
        return finish_release(context, &mut session, because).await;
    }
    let is_due = state.next_action.as_ref().and_then(|next| next.at).is_some_and(|at| at <= context.clock.now());
    acquire::Settling { context, command, session, because, is_due }.run().await
}

/// Why the effect in flight is to be settled now; `None` where it is not, or there is none.
fn due(context: &Context, state: &LeaseState) -> Option<String> {
    let next = state.next_action.as_ref()?;
    if !matches!(next.action, NextActionKind::SettleAcquire | NextActionKind::FinishRelease) {
        return None;
    }
    let at = next.at?;
    if at <= context.clock.now() {
        return Some(match state.status {
            LeaseStatus::EffectUnknown => next.because.clone(),
            _ => format!("no outcome was stored until {}", moment(at)),
        });
    }
    let owner = state.in_flight.as_ref()?.owner.as_deref()?;
    let is_dead = owner != context.owner && context.owners.is_dead(owner);
    is_dead.then(|| format!("its owner {owner} is dead"))
}

async fn finish_release(
    context: &Context,
    session: &mut LeaseSession<'_>,
    because: String,
) -> Result<Option<Upkeep>, CommandError> {
    let take_over = session.decide(|state| {
        let is_mine = is_ending(state) && due(context, state).is_some();
        Ok(if is_mine { vec![intent(context, state, state.release.clone()).into()] } else { Vec::new() })
    });
    context.step(Step::SettleIntent, take_over).await?;
    if session.written() == 0 {
        return Ok(None);
    }
    finish(context, session).await?;
    Ok(Some(Upkeep::new(Did::Finished, because)))
}

/// The intent to end a lease, made this process's own. One that nobody asked for destroys what is found, unless it may
/// hold somebody's work.
fn intent(context: &Context, state: &LeaseState, asked: Option<ReleaseIntent>) -> LeaseReleaseRequested {
    let protected = context.care.protects(state.workspace_kind);
    let ReleaseIntent { status, teardown, reason } = asked.unwrap_or(ReleaseIntent {
        status: ReleaseStatus::Failed,
        teardown: if protected { Teardown::ByPolicy } else { Teardown::Destroy },
        reason: Reason::RecoverySettled,
    });
    let limit = context.drivers.get(&state.driver).map(|driver| driver.traits(&state.config).call_timeout);
    LeaseReleaseRequested {
        status,
        teardown,
        reason,
        note: None,
        owner: context.owner.clone(),
        settle_at: settle_at(context, limit.unwrap_or_default()),
    }
}
