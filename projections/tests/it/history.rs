//! Random legal histories: steps are drawn freely, and those that the fold refuses are left out.

use chrono::{DateTime, Duration, Utc};
use lease_events::codec::{DomainEvent, encode};
use lease_events::environment::{EnvironmentArchived, EnvironmentCreated, EnvironmentEvent, EnvironmentProbed};
use lease_events::failure::Fault;
use lease_events::fold::StreamState;
use lease_events::id::{CommandId, CompanyId, EnvironmentId, LeaseId, LedgerId, RunId, SecretId};
use lease_events::lease::event::{
    LeaseAcquireFailed, LeaseCleanupFailed, LeaseCleanupSucceeded, LeaseEffectUnknown, LeaseEvent,
    LeaseProviderAcquired, LeaseReleaseRequested, LeaseReleased, LeaseRenewed, LeaseRequested, LeaseReuseClaimed,
    Receipt,
};
use lease_events::lease::state::LeaseState;
use lease_events::lease::vocabulary::{
    CleanupStatus, Effect, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown, WorkspaceKind,
};
use lease_events::record::{Actor, ActorKind, Metadata, NewEvent, StreamId};
use lease_events::run::{RunEvent, RunKeptAlive, RunReleased, RunState, RunStatus};
use lease_events::secret::{
    SecretCreated, SecretEvent, SecretProviderKind, SecretRead, SecretRemoved, SecretVersionAdded,
};
use lease_events::store::{Append, EventStore, Expected};
use proptest::prelude::*;
use serde_json::json;

/// One drawn step: which lease, which kind of event, and a number that varies it.
pub(crate) type Step = (u8, u8, u8);

/// Histories of up to `steps` steps over a few leases.
pub(crate) fn steps(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..6u8, 0..14u8, any::<u8>()), 1..steps)
}

pub(crate) fn company() -> CompanyId {
    CompanyId::derived(&["company"])
}

pub(crate) fn environment() -> EnvironmentId {
    EnvironmentId::derived(&["environment"])
}

pub(crate) fn run(number: u8) -> RunId {
    RunId::derived(&["run", &number.to_string()])
}

pub(crate) fn lease(number: u8) -> LeaseId {
    LeaseId::derived(&["lease", &number.to_string()])
}

pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::days(20_000)
}

/// The request of lease `number`, of a policy that `variant` draws.
pub(crate) fn requested(number: u8, variant: u8) -> LeaseEvent {
    let policy = Policy::ALL[usize::from(variant) % Policy::ALL.len()];
    LeaseRequested {
        lease_id: lease(number),
        company_id: company(),
        ledger_id: LedgerId::derived(&["ledger"]),
        environment_id: environment(),
        environment_name: "fast".to_owned(),
        environment_revision: 0,
        driver: "sandbox".to_owned(),
        provider: "fake".to_owned(),
        policy,
        run_id: (variant < 200).then(|| run(number / 2)),
        issue_id: None,
        agent_id: Some("agent".to_owned()),
        execution_workspace_id: None,
        execution_workspace_mode: None,
        adapter_type: None,
        requested_expires_at: (variant.is_multiple_of(3)).then(|| noon() + Duration::hours(i64::from(variant))),
        config: json!({"provider": "fake", "image": "base:1", "size": variant}),
        reuse_fingerprint: policy.allows_reuse().then(|| format!("print-{}", variant % 2)),
        generation: u32::from(number % 2),
        workspace_kind: WorkspaceKind::Derived,
        owner: "process-1".to_owned(),
        requested_at: noon(),
        settle_at: noon() + Duration::seconds(60),
    }
    .into()
}

pub(crate) fn acquired(token: u64) -> LeaseEvent {
    LeaseProviderAcquired {
        provider_lease_id: Some(format!("sandbox://fake/{token}")),
        metadata: json!({"driver": "sandbox", "cwd": "/w"}).as_object().cloned().unwrap_or_default(),
        expires_at: None,
        fencing_token: token,
    }
    .into()
}

pub(crate) fn renewed(minutes: u8) -> LeaseEvent {
    LeaseRenewed { expires_at: noon() + Duration::minutes(minutes.into()) }.into()
}

pub(crate) fn release_requested() -> LeaseEvent {
    LeaseReleaseRequested {
        status: ReleaseStatus::Released,
        teardown: Teardown::ByPolicy,
        reason: Reason::HolderReleased,
        note: None,
        owner: "process-1".to_owned(),
        settle_at: noon() + Duration::seconds(90),
    }
    .into()
}

pub(crate) fn released(cleanup_status: Option<CleanupStatus>) -> LeaseEvent {
    LeaseReleased {
        status: LeaseStatus::Released,
        reason: Reason::HolderReleased,
        cleanup_status,
        failure_reason: None,
        receipt: None,
    }
    .into()
}

pub(crate) fn claimed() -> LeaseEvent {
    LeaseReuseClaimed {
        by_lease_id: LeaseId::derived(&["claimant"]),
        by_run_id: run(99),
        provider_lease_id: "sandbox://fake/1".to_owned(),
        next_fencing_token: 2,
    }
    .into()
}

fn event((number, kind, variant): Step) -> LeaseEvent {
    let fault = || Fault::new("provider-failed", "the provider failed");
    match kind {
        0 | 1 => requested(number, variant),
        2 | 3 => acquired(u64::from(variant)),
        4 => LeaseAcquireFailed { reason: Reason::ProviderFailed, fault: Some(fault()) }.into(),
        5 => LeaseEffectUnknown {
            effect: Effect::Acquire,
            fault: fault(),
            settle_by: "a listing".to_owned(),
            settle_at: noon() + Duration::seconds(i64::from(variant)),
            owner: None,
        }
        .into(),
        6 => renewed(variant),
        7 | 8 => release_requested(),
        9 | 10 => released((variant % 3 != 0).then_some(CleanupStatus::Pending)),
        11 => claimed(),
        12 => LeaseCleanupFailed {
            attempt: 1,
            charged: true,
            fault: fault(),
            next_try_at: (variant % 2 == 0).then(|| noon() + Duration::seconds(i64::from(variant))),
        }
        .into(),
        _ => LeaseCleanupSucceeded { receipt: Receipt { state: ReceiptState::Destroyed, provider_lease_id: None } }
            .into(),
    }
}

/// Events for one stream, encoded under a command of their own.
pub(crate) fn encoded<E: DomainEvent>(stream: &StreamId, events: &[E], command: CommandId) -> Vec<NewEvent> {
    let metadata = Metadata {
        correlation_id: command.to_string(),
        causation_id: command.to_string(),
        command_id: command,
        actor: Actor { kind: ActorKind::Service, id: "test".to_owned() },
        traceparent: None,
    };
    encode(events, stream, company(), command, 0, &metadata)
}

/// Appends `events` to `stream`, behind what is there.
pub(crate) async fn append<E: DomainEvent>(store: &dyn EventStore, stream: &StreamId, events: &[E]) -> u64 {
    let before = store.read_stream(stream, 0, lease_events::store::Direction::Forwards, 4_096).await.expect("it reads");
    let last = before.last().map(|event| event.stream_revision);
    let command = CommandId::derived(&[stream.as_str(), &before.len().to_string()]);
    let append =
        Append { stream: stream.clone(), expected: Expected::after(last), events: encoded(stream, events, command) };
    store.append(append).await.expect("nobody else appends to this stream").position().0
}

/// The one secret.
pub(crate) fn secret() -> SecretId {
    SecretId::derived(&["secret"])
}

/// Appends those of `steps` that are legal, each with something of a run; every third append also says something of an
/// environment and of a secret.
pub(crate) async fn play(store: &dyn EventStore, steps: &[Step]) {
    let mut made = false;
    for (number, step) in steps.iter().enumerate() {
        play_step(store, *step).await;
        let run_stream = StreamId::run(run(step.0));
        let said = store.read_stream(&run_stream, 0, lease_events::store::Direction::Forwards, 4_096).await;
        let state = RunState::fold(&said.expect("it reads")).expect("only legal events were appended");
        if state.is_none_or(|state| state.status == RunStatus::Alive) {
            append(store, &run_stream, &[run_event(*step)]).await;
        }
        if number % 3 == 0 {
            append(store, &StreamId::environment(environment()), &[environment_event(made, step.2)]).await;
            append(store, &StreamId::secret(secret()), &secret_events(made)).await;
            made = true;
        }
    }
    if made && steps.len().is_multiple_of(2) {
        let archived: EnvironmentEvent = EnvironmentArchived { note: None }.into();
        append(store, &StreamId::environment(environment()), &[archived]).await;
        let removed: SecretEvent = SecretRemoved { note: None }.into();
        append(store, &StreamId::secret(secret()), &[removed]).await;
    }
}

/// Appends the lease event of a step, where it is legal.
pub(crate) async fn play_step(store: &dyn EventStore, step: Step) {
    let stream = StreamId::lease(lease(step.0));
    let events =
        store.read_stream(&stream, 0, lease_events::store::Direction::Forwards, 4_096).await.expect("it reads");
    let state = LeaseState::fold(&events).expect("only legal events were appended");
    let event = event(step);
    if LeaseState::check(state.as_ref(), &event).is_ok() {
        append(store, &stream, &[event]).await;
    }
}

/// A secret with its first version, then reads of it.
fn secret_events(made: bool) -> Vec<SecretEvent> {
    if made {
        let purpose = "acquire".to_owned();
        return vec![SecretRead { version: 1, environment_id: None, lease_id: Some(lease(1)), purpose }.into()];
    }
    let created = SecretCreated { secret_id: secret(), company_id: company(), name: "key".to_owned(), generation: 0 };
    let provider = SecretProviderKind::File;
    vec![created.into(), SecretVersionAdded { version: 1, provider, locator: "key".to_owned() }.into()]
}

/// A heartbeat of a run, or now and then its release.
fn run_event((number, kind, variant): Step) -> RunEvent {
    let run_id = run(number);
    if kind == 0 {
        return RunReleased { run_id, status: ReleaseStatus::Failed, reason: Reason::RunLost }.into();
    }
    let alive_until = noon() + Duration::minutes(variant.into());
    RunKeptAlive { run_id, time_to_live_ms: 60_000, alive_until }.into()
}

fn environment_event(made: bool, variant: u8) -> EnvironmentEvent {
    if made {
        EnvironmentProbed { ok: variant.is_multiple_of(2), summary: format!("probe {variant}") }.into()
    } else {
        EnvironmentCreated {
            environment_id: environment(),
            company_id: company(),
            name: "fast".to_owned(),
            driver: "sandbox".to_owned(),
            config: json!({"provider": "fake"}),
            generation: 0,
        }
        .into()
    }
}
