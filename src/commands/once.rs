//! Once: a command with an idempotency key is run once, and every repetition is answered the same.
//!
//! The stream `command-<id>` is the reservation and keeps the outcome, not as a copy but as references: which lease,
//! at which revision. History never changes, so folding it up to there is the same answer, for ever.
//!
//! **Invariant:** no outcome is answered before it is kept. Of two processes that run one command, one keeps what both
//! answer.
//!
//! Where a run was broken off between the two events, a repetition runs the command again under the same ids: each
//! command finds on its lease's stream what it has written already ([`super::session::LeaseSession::written`]).

use std::future::Future;

use async_trait::async_trait;
use lease_events::codec::{decode, encode};
use lease_events::command::{CommandAccepted, CommandCompleted, CommandEvent};
use lease_events::environment::EnvironmentState;
use lease_events::fold::FoldError;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, SecretId};
use lease_events::lease::LeaseState;
use lease_events::record::{RecordedEvent, StreamId};
use lease_events::seam::crash::Step;
use lease_events::secret::SecretState;
use lease_events::store::{Append, AppendError, Direction, Expected};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Context;
use super::acquire::{AcquireAnswer, AcquiredHow, canonical, sha256_hex};
use super::caller::Command;
use super::error::CommandError;
use super::execute::ExecuteAnswer;
use super::release_run::RunReleaseReport;
use super::replay::state_until;
use super::session::{OUTCOME_TRIED_FOR, append_surely, append_until};
use crate::drivers::{Execution, ProbeReport};

/// An outcome that can be told again.
#[async_trait]
pub trait Outcome: Sized + Send {
    /// Whether the command itself finds how it ended, where that could not be kept; so that it may be answered.
    const IS_ON_RECORD: bool = false;
    /// What to keep of it: references into history.
    fn keep(&self) -> Value;
    /// The same outcome, from what was kept.
    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError>;
}

/// Runs a command, or answers what it answered before.
pub async fn once<T: Outcome, F: Future<Output = Result<T, CommandError>> + Send>(
    context: &Context,
    command: &Command,
    company: CompanyId,
    operation: &str,
    request: &(impl Serialize + Sync),
    run: F,
) -> Result<T, CommandError> {
    if !command.repeatable {
        return run.await;
    }
    let _held = context.locks.hold(command.id.0).await;
    let accepted = CommandAccepted {
        operation: operation.to_owned(),
        request_digest: sha256_hex(&canonical(&json!({ "operation": operation, "request": request }))),
    };
    if let Some(kept) = context.step(Step::OnceAccept, reserve(context, command, company, &accepted)).await? {
        return T::recall(context, &kept).await;
    }
    let outcome = run.await?;
    let kept = outcome.keep();
    match context.step(Step::OnceComplete, complete(context, command, company, kept.clone())).await {
        Ok(first) if first == kept => Ok(outcome),
        Ok(first) => T::recall(context, &first).await,
        Err(CommandError::Append(cause)) if T::IS_ON_RECORD => {
            tracing::warn!(command = %command.id, %cause, "the outcome of a command could not be kept");
            Ok(outcome)
        }
        // The effect and its events are durable; a repetition finds them on the lease's stream.
        Err(CommandError::Append(cause)) => Err(CommandError::NotKept { cause }),
        Err(error) => Err(error),
    }
}

/// Keeps the outcome; answers the one that is kept, which is another process's where that was first.
async fn complete(
    context: &Context,
    command: &Command,
    company: CompanyId,
    kept: Value,
) -> Result<Value, CommandError> {
    let append = append(command, company, 1, CommandCompleted { outcome: kept.clone() }.into());
    let appended = append_until(context.store.as_ref(), append, Instant::now() + OUTCOME_TRIED_FOR).await?;
    match appended.events.first().map(decode::<CommandEvent>).transpose().map_err(FoldError::from)? {
        Some(CommandEvent::Completed(first)) => Ok(first.outcome),
        _ => Ok(kept),
    }
}

/// Takes the command id; answers what was kept where the command was completed before.
async fn reserve(
    context: &Context,
    command: &Command,
    company: CompanyId,
    accepted: &CommandAccepted,
) -> Result<Option<Value>, CommandError> {
    let stream = StreamId::command(command.id);
    let mut events = context.store.read_stream(&stream, 0, Direction::Forwards, 2).await?;
    if events.is_empty() {
        match append_surely(context.store.as_ref(), append(command, company, 0, accepted.clone().into())).await {
            Ok(appended) if !appended.repeated => return Ok(None),
            // The reply was lost, or another process was first: with this request, or with another under the same key.
            Ok(_) | Err(AppendError::WrongExpectedRevision { .. }) => {
                events = context.store.read_stream(&stream, 0, Direction::Forwards, 2).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut kept = None;
    for recorded in &events {
        match decode::<CommandEvent>(recorded).map_err(FoldError::from)? {
            CommandEvent::Accepted(before) if before != *accepted => {
                return Err(CommandError::IdempotencyKeyReused { operation: before.operation });
            }
            CommandEvent::Accepted(_) => {}
            CommandEvent::Completed(completed) => kept = Some(completed.outcome),
        }
    }
    Ok(kept)
}

fn append(command: &Command, company: CompanyId, index: usize, event: CommandEvent) -> Append {
    let stream = StreamId::command(command.id);
    let expected = if index == 0 { Expected::NoStream } else { Expected::Exact(index as u64 - 1) };
    let events = encode(&[event], &stream, company, command.id, index, &command.metadata());
    Append { stream, expected, events }
}

/// A stream at a revision: the same state, for ever.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseAt {
    lease_id: LeaseId,
    revision: u64,
}

impl LeaseAt {
    fn of(state: &LeaseState) -> Self {
        Self { lease_id: state.lease_id, revision: state.revision }
    }

    async fn fold(&self, context: &Context) -> Result<LeaseState, CommandError> {
        let until = |recorded: &RecordedEvent| recorded.stream_revision <= self.revision;
        state_until(context.store.as_ref(), &StreamId::lease(self.lease_id), until)
            .await?
            .ok_or(CommandError::UnknownLease { lease_id: self.lease_id, company_id: None })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvironmentAt {
    environment_id: EnvironmentId,
    revision: u64,
}

impl EnvironmentAt {
    fn of(state: &EnvironmentState) -> Self {
        Self { environment_id: state.environment_id, revision: state.revision }
    }

    async fn fold(&self, context: &Context) -> Result<EnvironmentState, CommandError> {
        let until = |recorded: &RecordedEvent| recorded.stream_revision <= self.revision;
        state_until(context.store.as_ref(), &StreamId::environment(self.environment_id), until)
            .await?
            .ok_or_else(|| malformed("its environment is not there"))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretAt {
    secret_id: SecretId,
    revision: u64,
}

fn parse<T: DeserializeOwned>(kept: &Value) -> Result<T, CommandError> {
    serde_json::from_value(kept.clone()).map_err(|error| malformed(&error.to_string()))
}

fn malformed(cause: &str) -> CommandError {
    CommandError::BrokenOff { cause: format!("the kept outcome of the command makes no sense: {cause}") }
}

#[async_trait]
impl Outcome for LeaseState {
    fn keep(&self) -> Value {
        json!(LeaseAt::of(self))
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        parse::<LeaseAt>(kept)?.fold(context).await
    }
}

#[async_trait]
impl Outcome for EnvironmentState {
    fn keep(&self) -> Value {
        json!(EnvironmentAt::of(self))
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        parse::<EnvironmentAt>(kept)?.fold(context).await
    }
}

#[async_trait]
impl Outcome for SecretState {
    fn keep(&self) -> Value {
        json!(SecretAt { secret_id: self.secret_id, revision: self.revision })
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        let SecretAt { secret_id, revision } = parse(kept)?;
        let until = |recorded: &RecordedEvent| recorded.stream_revision <= revision;
        state_until(context.store.as_ref(), &StreamId::secret(secret_id), until)
            .await?
            .ok_or_else(|| malformed("its secret is not there"))
    }
}

#[async_trait]
impl Outcome for (EnvironmentState, ProbeReport) {
    fn keep(&self) -> Value {
        json!((EnvironmentAt::of(&self.0), &self.1))
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        let (environment, report): (EnvironmentAt, ProbeReport) = parse(kept)?;
        Ok((environment.fold(context).await?, report))
    }
}

#[async_trait]
impl Outcome for AcquireAnswer {
    fn keep(&self) -> Value {
        json!((EnvironmentAt::of(&self.environment), LeaseAt::of(&self.lease), self.how))
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        let (environment, lease, how): (EnvironmentAt, LeaseAt, AcquiredHow) = parse(kept)?;
        Ok(Self { environment: environment.fold(context).await?, lease: lease.fold(context).await?, how })
    }
}

/// A command's output is not kept: a repetition is told how it ended, not what it said.
#[async_trait]
impl Outcome for ExecuteAnswer {
    const IS_ON_RECORD: bool = true;

    fn keep(&self) -> Value {
        json!((LeaseAt::of(&self.lease), &self.execution, self.duration_ms))
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        let (lease, execution, duration_ms): (LeaseAt, Execution, u64) = parse(kept)?;
        Ok(Self { lease: lease.fold(context).await?, execution, duration_ms })
    }
}

/// What failed is not kept as such: such a report is not kept at all, and a repetition tries the rest again.
#[async_trait]
impl Outcome for RunReleaseReport {
    fn keep(&self) -> Value {
        json!(self.released.iter().map(LeaseAt::of).collect::<Vec<_>>())
    }

    async fn recall(context: &Context, kept: &Value) -> Result<Self, CommandError> {
        let mut released = Vec::new();
        for lease in parse::<Vec<LeaseAt>>(kept)? {
            released.push(lease.fold(context).await?);
        }
        Ok(Self { released, failed: Vec::new() })
    }
}
