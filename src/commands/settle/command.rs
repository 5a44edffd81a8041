//! Settling a command in a workspace: one that was started and has no end on record never will have one, once its process is
//! dead or its time is over. That nobody knows how it ended is put on record; it is not run again.

use lease_events::failure::Fault;
use lease_events::id::{CommandId, LeaseId};
use lease_events::lease::event::LeaseCommandExecuted;
use lease_events::lease::state::RunningCommand;
use lease_events::lease::vocabulary::ExecutionOutcome;
use lease_events::seam::crash::Step;

use crate::commands::Context;
use crate::commands::caller::Command;
use crate::commands::error::{CommandError, moment};
use crate::commands::session::LeaseSession;
use crate::commands::upkeep::{Did, Upkeep};

/// The code of the fault of a command that nobody will ever know the end of.
const BROKEN_OFF: &str = "broken-off";

/// Puts on record of each lost command in the lease's workspace that nobody knows how it ended; `None` where there is none.
pub async fn settle_commands(
    context: &Context,
    command: &Command,
    lease_id: LeaseId,
) -> Result<Option<Upkeep>, CommandError> {
    let session = LeaseSession::load_existing(context, command, lease_id, None).await?;
    let mut settled = Vec::new();
    for running in &session.state()?.running {
        context.owners.look_up(&running.owner).await;
        let Some(fault) = lost(context, running) else { continue };
        if settle_one(context, command, lease_id, running.command_id, &fault).await? {
            settled.push(format!("command {}: {}", running.command, fault.message));
        }
    }
    Ok((!settled.is_empty()).then(|| Upkeep::new(Did::CommandLost, settled.join("; "))))
}

/// Why nobody will ever know how a command ended: its process is dead, or its time is over; `None` where it may run still.
#[must_use]
pub fn lost(context: &Context, running: &RunningCommand) -> Option<Fault> {
    if running.settle_at <= context.clock.now() {
        let sentence = format!("no end of it was on record until {}", moment(running.settle_at));
        return Some(Fault::new(BROKEN_OFF, sentence));
    }
    let is_dead = running.owner != context.owner && context.owners.is_dead(&running.owner);
    is_dead.then(|| broken_off(running))
}

/// That nobody is at it any more.
pub(in crate::commands) fn broken_off(running: &RunningCommand) -> Fault {
    let sentence = format!("its process {} ended before its end was on record", running.owner);
    Fault::new(BROKEN_OFF, sentence)
}

/// Puts on record that nobody knows how a command ended, unless its end is; answers whether it was this that did.
pub(in crate::commands) async fn settle_one(
    context: &Context,
    command: &Command,
    lease_id: LeaseId,
    command_id: CommandId,
    fault: &Fault,
) -> Result<bool, CommandError> {
    let mut session = LeaseSession::load_existing(context, command, lease_id, None).await?;
    let before = session.written();
    let settle = session.decide(|state| {
        let running = state.running(command_id);
        Ok(running.map(|running| unknown(context, running, fault).into()).into_iter().collect())
    });
    context.step(Step::SettleCommand, settle).await?;
    Ok(session.written() > before)
}

fn unknown(context: &Context, running: &RunningCommand, fault: &Fault) -> LeaseCommandExecuted {
    let duration = (context.clock.now() - running.started_at).num_milliseconds();
    LeaseCommandExecuted {
        command_id: Some(running.command_id),
        command: running.command.clone(),
        argument_count: running.argument_count,
        outcome: ExecutionOutcome::Unknown,
        exit_code: None,
        signal: None,
        timed_out: false,
        limit: None,
        duration_ms: u64::try_from(duration).unwrap_or_default(),
        fault: Some(fault.clone()),
    }
}
