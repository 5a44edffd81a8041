//! Execute: runs one command in the workspace of an active lease. On record: that it ran and how it ended, never its
//! arguments, environment, input or output.
//!
//! It leaves no intent behind: what a command that was broken off may have done is inside the workspace, which goes with
//! the lease. Whether to run it again, only its caller can know. Once its end is on record, it is not run again.

use std::time::Duration;

use lease_events::codec::decode;
use lease_events::failure::Fault;
use lease_events::fold::{FoldError, StreamState};
use lease_events::id::{CompanyId, EventId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseCommandExecuted, LeaseEvent};
use lease_events::lease::vocabulary::{Effect, ExecutionOutcome};
use lease_events::record::StreamId;
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::Context;
use super::authority::{self, Authority};
use super::caller;
use super::effect::{driver_of, held, scope};
use super::error::CommandError;
use super::session::LeaseSession;
use crate::drivers::{Command, Execution, Outcome, OutputSink};
use crate::queries::history::lease_history;

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
        return ended_before(context, command, request.lease_id).await;
    }
    let state = session.state()?;
    check_request(request)?;
    authority::check_usable(state, context.clock.now())?;
    authority::check(request.authority.as_ref(), state)?;

    let driver = driver_of(context, state)?;
    let call = scope(state, state.fencing_token().unwrap_or_default(), 1);
    let program = Command {
        command: request.command.clone(),
        args: request.args.clone(),
        cwd: request.cwd.clone().or_else(|| state.cwd.clone()),
        env: request.env.clone(),
        stdin: request.stdin.clone(),
        timeout: request.timeout_ms.map(Duration::from_millis),
    };
    let started = tokio::time::Instant::now();
    let held = held(state);
    let effect = driver.execute(&call, &held, program, output);
    let outcome = context.step(Step::ExecuteEffect, effect).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);

    let record = record(request, &outcome, duration_ms);
    let stored = session.append_outcome(|_| vec![record.clone().into()]);
    context.step(Step::ExecuteOutcome, stored).await?;
    answer(session.into_state()?, &record)
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

/// How this very command ended, before it was broken off.
async fn ended_before(
    context: &Context,
    command: &caller::Command,
    lease_id: LeaseId,
) -> Result<ExecuteAnswer, CommandError> {
    let own = EventId::of_command(command.id, StreamId::lease(lease_id).as_str(), 0);
    let mut state = None;
    for recorded in lease_history(context, lease_id, None).await? {
        let is_own = recorded.event_id == own;
        let lease = LeaseState::apply(state, &recorded)?;
        if is_own && let LeaseEvent::CommandExecuted(record) = decode(&recorded).map_err(FoldError::from)? {
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

fn record(request: &ExecuteRequest, outcome: &Outcome<Execution>, duration_ms: u64) -> LeaseCommandExecuted {
    let (known, execution, fault): (_, Execution, Option<Fault>) = match outcome {
        Outcome::Done(execution) => (ExecutionOutcome::Done, execution.clone(), None),
        Outcome::NotDone(fault) | Outcome::Refused(fault) => {
            (ExecutionOutcome::NotDone, Execution::default(), Some(fault.clone()))
        }
        Outcome::Unknown(fault) => (ExecutionOutcome::Unknown, Execution::default(), Some(fault.clone())),
    };
    LeaseCommandExecuted {
        command: request.command.clone(),
        argument_count: u32::try_from(request.args.len()).unwrap_or(u32::MAX),
        outcome: known,
        exit_code: execution.exit_code,
        signal: execution.signal,
        timed_out: execution.timed_out,
        limit: execution.limit,
        duration_ms,
        fault,
    }
}
