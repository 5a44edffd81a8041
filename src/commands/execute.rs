//! Execute: runs one command in the workspace of an active lease. On record: that it was started, and how it ended; never
//! its arguments, environment, input or output.
//!
//! 1. `lease-command-started`: the intent, on the lease's stream.
//! 2. The driver runs it; `lease-command-executed`: the outcome.
//!
//! **Invariants:** a command is run at most once, however often it is told and whoever dies in it. Told again, its end is
//! answered where it is on record; while its process lives and its time is not over, it is refused as still running; else
//! nobody will ever know, and that is put on record, and answered for ever. What it did is inside the workspace
//! and goes with the lease: a command in flight changes nothing about the lease, and keeps nothing from happening to it.

use std::time::Duration;

use lease_events::codec::decode;
use lease_events::failure::Fault;
use lease_events::fold::{FoldError, StreamState};
use lease_events::id::{CompanyId, EventId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseCommandExecuted, LeaseCommandStarted, LeaseEvent};
use lease_events::lease::vocabulary::{Effect, ExecutionOutcome};
use lease_events::record::StreamId;
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::Context;
use super::authority::{self, Authority};
use super::caller;
use super::effect::{driver_of, held, scope, settle_at};
use super::error::CommandError;
use super::session::LeaseSession;
use super::settle::command::{broken_off, lost, settle_one};
use crate::drivers::{Command, Execution, Outcome, OutputSink};
use crate::queries::history::lease_history;

/// How long a command may run whose caller gave no limit: the longest that any driver's config can set (B7).
const LASTS: Duration = Duration::from_hours(24);
/// The longest that a command's deadline is away: beyond any command, and still a date.
const LASTS_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// What is asked. Values of `env`, and `stdin`, are part of nothing that is stored, not even of the digest by which
/// an idempotency key knows its request.
#[derive(Clone, Serialize)]
pub struct ExecuteRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// By what right.
    pub authority: Option<Authority>,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts; the realized workspace where absent.
    pub cwd: Option<String>,
    /// Its environment.
    #[serde(serialize_with = "names_only")]
    pub env: Vec<(String, String)>,
    /// Its input.
    #[serde(skip)]
    pub stdin: Option<Vec<u8>>,
    /// Longest time it may run, in milliseconds; the config's limit where absent.
    pub timeout_ms: Option<u64>,
}

fn names_only<S: serde::Serializer>(env: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(env.iter().map(|(name, _)| name))
}

/// How a command ended, and the lease as it was then.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecuteAnswer {
    /// The lease.
    pub lease: LeaseState,
    /// How it ended.
    pub execution: Execution,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// Runs the command; its output goes to `output` while it runs.
pub async fn execute(
    context: &Context,
    command: &caller::Command,
    request: &ExecuteRequest,
    output: OutputSink,
) -> Result<ExecuteAnswer, CommandError> {
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    if session.written() > 0 {
        return Box::pin(told_again(context, command, session)).await;
    }
    let state = session.state()?;
    check_request(request)?;
    authority::check_usable(state, context.clock.now())?;
    authority::check(request.authority.as_ref(), state)?;
    let driver = std::sync::Arc::clone(driver_of(context, state)?);
    let start = session.decide(|state| {
        authority::check_usable(state, context.clock.now())?;
        authority::check(request.authority.as_ref(), state)?;
        Ok(vec![started(context, command, request, driver.traits(&state.config).call_timeout).into()])
    });
    context.step(Step::ExecuteIntent, start).await?;

    let state = session.state()?;
    if state.running(command.id).is_none_or(|running| running.owner != context.owner) {
        // Another process was told the same, and was first.
        return Box::pin(told_again(context, command, session)).await;
    }
    let call = scope(state, state.fencing_token().unwrap_or_default(), 1);
    let program = Command {
        command: request.command.clone(),
        args: request.args.clone(),
        cwd: request.cwd.clone().or_else(|| state.cwd.clone()),
        env: request.env.clone(),
        stdin: request.stdin.clone(),
        timeout: request.timeout_ms.map(Duration::from_millis),
    };
    let since = tokio::time::Instant::now();
    let held = held(state);
    let effect = driver.execute(&call, &held, program, output);
    let outcome = context.step(Step::ExecuteEffect, effect).await;
    let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);

    let record = record(command, request, &outcome, duration_ms);
    let stored = session.append_outcome(|state| {
        // Somebody took this process for dead, or the command for lost: that is what is told of it from then on.
        if state.running(command.id).is_some() { vec![record.clone().into()] } else { Vec::new() }
    });
    context.step(Step::ExecuteOutcome, stored).await?;
    if session.written() > 1 {
        return answer(session.into_state()?, &record);
    }
    Box::pin(told_again(context, command, session)).await
}

/// The intent.
fn started(
    context: &Context,
    command: &caller::Command,
    request: &ExecuteRequest,
    call_timeout: Duration,
) -> LeaseCommandStarted {
    let lasts = request.timeout_ms.map_or(LASTS, Duration::from_millis).min(LASTS_MAX);
    LeaseCommandStarted {
        command_id: command.id,
        command: request.command.clone(),
        argument_count: argument_count(request),
        owner: context.owner.clone(),
        settle_at: settle_at(context, lasts + call_timeout),
    }
}

/// The answer to a command that was started before: its end, or that it runs still. One that nobody is at any more is put
/// on record as unknown.
async fn told_again(
    context: &Context,
    command: &caller::Command,
    session: LeaseSession<'_>,
) -> Result<ExecuteAnswer, CommandError> {
    let state = session.into_state()?;
    let lease_id = state.lease_id;
    if let Some(running) = state.running(command.id) {
        // Whoever has this command's id to itself in this process knows that nobody runs it here.
        let is_left = running.owner == context.owner;
        context.owners.look_up(&running.owner).await;
        let Some(fault) = lost(context, running).or_else(|| is_left.then(|| broken_off(running))) else {
            let program = running.command.clone();
            return Err(CommandError::CommandRunning { lease_id, command: program, since: running.started_at });
        };
        // In the name of another command: whoever is only slow must not take this for its own append.
        let follow_up = command.follow_up("settle the command");
        settle_one(context, &follow_up, lease_id, command.id, &fault).await?;
    }
    ended_before(context, command, lease_id).await
}

/// What the caller is told of a command whose end is on record.
fn answer(lease: LeaseState, record: &LeaseCommandExecuted) -> Result<ExecuteAnswer, CommandError> {
    let (lease_id, effect) = (lease.lease_id, Effect::Execute);
    let unsaid = || Fault::new("unknown", "nothing more is on record");
    let fault = || record.fault.clone().unwrap_or_else(unsaid);
    match record.outcome {
        ExecutionOutcome::Done => {
            let LeaseCommandExecuted { exit_code, signal, timed_out, limit, duration_ms, .. } = record.clone();
            Ok(ExecuteAnswer { lease, execution: Execution { exit_code, signal, timed_out, limit }, duration_ms })
        }
        ExecutionOutcome::NotDone => Err(CommandError::Provider { lease_id, effect, fault: fault() }),
        ExecutionOutcome::Unknown => Err(CommandError::OutcomeUnknown { lease_id, effect, fault: fault() }),
    }
}

/// How this very command ended, as its stream says.
async fn ended_before(
    context: &Context,
    command: &caller::Command,
    lease_id: LeaseId,
) -> Result<ExecuteAnswer, CommandError> {
    // One that ended before starts were put on record is known by its first event.
    let first = EventId::of_command(command.id, StreamId::lease(lease_id).as_str(), 0);
    let mut state = None;
    for recorded in lease_history(context, lease_id, None).await? {
        let is_first = recorded.event_id == first;
        let lease = LeaseState::apply(state, &recorded)?;
        if let LeaseEvent::CommandExecuted(record) = decode(&recorded).map_err(FoldError::from)?
            && (is_first || record.command_id == Some(command.id))
        {
            return answer(lease, &record);
        }
        state = Some(lease);
    }
    Err(CommandError::UnknownLease { lease_id, company_id: None })
}

fn check_request(request: &ExecuteRequest) -> Result<(), CommandError> {
    let refuse = |field, sentence: &str| Err(CommandError::Invalid { field, sentence: sentence.to_owned() });
    if request.command.is_empty() {
        return refuse("command", "\"command\" is empty; name the program to run.");
    }
    if request.timeout_ms == Some(0) {
        return refuse("timeoutMs", "\"timeoutMs\" is 0; give at least 1, or leave it out for the config's limit.");
    }
    let has_nul = |text: &str| text.contains('\0');
    if has_nul(&request.command) || request.args.iter().any(|arg| has_nul(arg)) {
        return refuse("args", "\"command\" and \"args\" must not hold a NUL character.");
    }
    let is_bad_name = |name: &str| name.is_empty() || name.contains('=') || has_nul(name);
    if request.env.iter().any(|(name, value)| is_bad_name(name) || has_nul(value)) {
        return refuse("env", "\"env\" holds a name that is empty or has \"=\" in it, or a NUL character.");
    }
    Ok(())
}

fn argument_count(request: &ExecuteRequest) -> u32 {
    u32::try_from(request.args.len()).unwrap_or(u32::MAX)
}

fn record(
    command: &caller::Command,
    request: &ExecuteRequest,
    outcome: &Outcome<Execution>,
    duration_ms: u64,
) -> LeaseCommandExecuted {
    let (known, execution, fault): (_, Execution, Option<Fault>) = match outcome {
        Outcome::Done(execution) => (ExecutionOutcome::Done, execution.clone(), None),
        Outcome::NotDone(fault) | Outcome::Refused(fault) => {
            (ExecutionOutcome::NotDone, Execution::default(), Some(fault.clone()))
        }
        Outcome::Unknown(fault) => (ExecutionOutcome::Unknown, Execution::default(), Some(fault.clone())),
    };
    LeaseCommandExecuted {
        command_id: Some(command.id),
        command: request.command.clone(),
        argument_count: argument_count(request),
        outcome: known,
        exit_code: execution.exit_code,
        signal: execution.signal,
        timed_out: execution.timed_out,
        limit: execution.limit,
        duration_ms,
        fault,
    }
}
