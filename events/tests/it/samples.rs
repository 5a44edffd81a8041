//! Ready-made events with plain values. Tests name only what matters to them, with struct update.
//!
//! **Invariant:** everything here is deterministic: fixed ids, and a clock that is a number of minutes.

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::codec::{DomainEvent, encode};
use lease_events::failure::Fault;
use lease_events::id::{CommandId, CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use lease_events::lease::LeaseEvent;
use lease_events::lease::event::{
    Candidate, LeaseAcquireFailed, LeaseCleanupEscalated, LeaseCleanupFailed, LeaseCleanupSucceeded,
    LeaseCleanupWaived, LeaseCommandExecuted, LeaseCommandStarted, LeaseDestroyed, LeaseEffectUnknown,
    LeaseProviderAcquired, LeaseRealized, LeaseReleaseRequested, LeaseReleased, LeaseRenewed, LeaseRequested,
    LeaseResumed, LeaseReuseClaimed, LeaseReuseDecided, Receipt,
};
use lease_events::lease::vocabulary::{
    CleanupStatus, Effect, ExecutionOutcome, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown,
    Verdict, WorkspaceKind,
};
use lease_events::record::{Actor, ActorKind, Metadata, Position, RecordedEvent, StreamId};
use lease_events::store;
use serde_json::{Map, json};

/// What every sample holds at the provider.
pub(crate) const PROVIDER_LEASE: &str = "sandbox://fake/7";

/// The moment `minutes` after the tests' day began.
pub(crate) fn at(minutes: u64) -> DateTime<Utc> {
    let day = DateTime::from_timestamp(1_800_000_000, 123_456_000).expect("a moment within chrono's range");
    day + TimeDelta::minutes(i64::try_from(minutes).expect("tests last minutes"))
}

pub(crate) fn company() -> CompanyId {
    CompanyId::derived(&["company"])
}

pub(crate) fn lease(name: &str) -> LeaseId {
    LeaseId::derived(&[name])
}

/// `event` as a store records it in `stream`: one command an event, one event a minute.
pub(crate) fn recorded<E: DomainEvent>(event: &E, stream: &StreamId, revision: u64, position: u64) -> RecordedEvent {
    let command = CommandId::derived(&[stream.as_str(), &revision.to_string()]);
    let metadata = Metadata {
        correlation_id: RunId::derived(&["run"]).to_string(),
        causation_id: command.to_string(),
        command_id: command,
        actor: Actor { kind: ActorKind::Service, id: "heartbeat".to_owned() },
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    let new = encode(std::slice::from_ref(event), stream, company(), command, 0, &metadata).remove(0);
    store::recorded(new, stream, revision, Position(position), at(position))
}

pub(crate) fn fault() -> Fault {
    Fault::new("provider-timeout", "The provider did not answer within 30 s.")
}

pub(crate) fn requested() -> LeaseRequested {
    LeaseRequested {
        lease_id: lease("lease"),
        company_id: company(),
        ledger_id: LedgerId::derived(&["ledger"]),
        environment_id: EnvironmentId::derived(&["environment"]),
        environment_name: "build".to_owned(),
        environment_revision: 0,
        driver: "sandbox".to_owned(),
        provider: "fake".to_owned(),
        policy: Policy::ReuseByEnvironment,
        run_id: Some(RunId::derived(&["run"])),
        issue_id: Some("issue-1".to_owned()),
        agent_id: Some("agent-1".to_owned()),
        execution_workspace_id: Some("workspace-1".to_owned()),
        execution_workspace_mode: Some("shared_workspace".to_owned()),
        adapter_type: Some("process".to_owned()),
        requested_expires_at: Some(at(600)),
        config: json!({"provider": "fake", "reuseLease": true, "tokenSecretRef": "secret://env/TOKEN"}),
        reuse_fingerprint: Some("9f86d081".to_owned()),
        generation: 0,
        workspace_kind: WorkspaceKind::Derived,
        owner: "ledger-1".to_owned(),
        requested_at: at(0),
        settle_at: at(5),
    }
}

pub(crate) fn acquired() -> LeaseProviderAcquired {
    let mut metadata = Map::new();
    metadata.insert("shellCommand".to_owned(), json!("bash"));
    LeaseProviderAcquired {
        provider_lease_id: Some(PROVIDER_LEASE.to_owned()),
        metadata,
        expires_at: Some(at(480)),
        fencing_token: 1,
    }
}

pub(crate) fn resumed(from: Option<LeaseId>, fencing_token: u64) -> LeaseResumed {
    LeaseResumed {
        provider_lease_id: PROVIDER_LEASE.to_owned(),
        metadata: Map::new(),
        expires_at: None,
        fencing_token,
        from_lease_id: from,
    }
}

pub(crate) fn claimed(by: &str) -> LeaseReuseClaimed {
    LeaseReuseClaimed {
        by_lease_id: lease(by),
        by_run_id: RunId::derived(&[by]),
        provider_lease_id: PROVIDER_LEASE.to_owned(),
        next_fencing_token: 2,
    }
}

pub(crate) fn decided(chosen: Option<LeaseId>) -> LeaseReuseDecided {
    let verdict = if chosen.is_some() { Verdict::Taken } else { Verdict::FingerprintDiffers };
    let candidate = Candidate {
        lease_id: chosen.unwrap_or_else(|| lease("candidate")),
        provider_lease_id: Some(PROVIDER_LEASE.to_owned()),
        verdict,
        detail: chosen.is_none().then(|| "memoryMb".to_owned()),
    };
    LeaseReuseDecided { candidates: vec![candidate], chosen }
}

pub(crate) fn acquire_failed(reason: Reason) -> LeaseAcquireFailed {
    LeaseAcquireFailed { reason, fault: Some(fault()) }
}

pub(crate) fn unknown(effect: Effect) -> LeaseEffectUnknown {
    LeaseEffectUnknown {
        effect,
        fault: fault(),
        settle_by: "listing by label".to_owned(),
        settle_at: at(20),
        owner: None,
    }
}

pub(crate) fn realized() -> LeaseRealized {
    LeaseRealized { cwd: "/workspace".to_owned(), realization: json!({"version": 1, "transport": "sandbox"}) }
}

pub(crate) fn renewed(until: DateTime<Utc>) -> LeaseRenewed {
    LeaseRenewed { expires_at: until }
}

/// The ledger's command of this name.
pub(crate) fn command(name: &str) -> CommandId {
    CommandId::derived(&[name])
}

pub(crate) fn started(name: &str) -> LeaseCommandStarted {
    LeaseCommandStarted {
        command_id: command(name),
        command: "cargo".to_owned(),
        argument_count: 2,
        owner: "ledger-1".to_owned(),
        settle_at: at(90),
    }
}

/// The end of a command that was started.
pub(crate) fn ended(name: &str, outcome: ExecutionOutcome) -> LeaseCommandExecuted {
    let is_done = outcome == ExecutionOutcome::Done;
    LeaseCommandExecuted {
        command_id: Some(command(name)),
        outcome,
        exit_code: is_done.then_some(0),
        fault: (!is_done).then(fault),
        ..executed()
    }
}

/// An end as it was recorded when no start was.
pub(crate) fn executed() -> LeaseCommandExecuted {
    LeaseCommandExecuted {
        command_id: None,
        command: "cargo".to_owned(),
        argument_count: 2,
        outcome: ExecutionOutcome::Done,
        exit_code: Some(0),
        signal: None,
        timed_out: false,
        limit: None,
        duration_ms: 1_234,
        fault: None,
    }
}

pub(crate) fn release_requested(status: ReleaseStatus, teardown: Teardown) -> LeaseReleaseRequested {
    LeaseReleaseRequested {
        status,
        teardown,
        reason: Reason::RunEnded,
        note: None,
        owner: "ledger-1".to_owned(),
        settle_at: at(30),
    }
}

pub(crate) fn released(status: LeaseStatus, cleanup_status: CleanupStatus) -> LeaseReleased {
    let state = match cleanup_status {
        CleanupStatus::Success => Some(ReceiptState::Destroyed),
        CleanupStatus::Pending => Some(ReceiptState::Kept),
        CleanupStatus::Failed => None,
    };
    LeaseReleased {
        status,
        reason: Reason::RunEnded,
        cleanup_status: Some(cleanup_status),
        failure_reason: None,
        receipt: state.map(receipt),
    }
}

pub(crate) fn receipt(state: ReceiptState) -> Receipt {
    Receipt { state, provider_lease_id: Some(PROVIDER_LEASE.to_owned()) }
}

pub(crate) fn cleanup_failed(attempt: u32, next_try_at: Option<DateTime<Utc>>) -> LeaseCleanupFailed {
    LeaseCleanupFailed { attempt, charged: true, fault: fault(), next_try_at }
}

pub(crate) fn cleanup_succeeded() -> LeaseCleanupSucceeded {
    LeaseCleanupSucceeded { receipt: receipt(ReceiptState::Gone) }
}

pub(crate) fn escalated(next_try_at: Option<DateTime<Utc>>) -> LeaseCleanupEscalated {
    LeaseCleanupEscalated { attempts: 5, fault: fault(), next_try_at }
}

pub(crate) fn waived() -> LeaseCleanupWaived {
    LeaseCleanupWaived { note: "The account is closed.".to_owned() }
}

pub(crate) fn destroyed(status: LeaseStatus) -> LeaseDestroyed {
    LeaseDestroyed { status, reason: Reason::OperatorReleased, receipt: receipt(ReceiptState::Destroyed) }
}

/// One event of every type, each as plain as it gets.
pub(crate) fn one_of_each() -> Vec<LeaseEvent> {
    vec![
        requested().into(),
        claimed("claimant").into(),
        decided(None).into(),
        acquired().into(),
        resumed(None, 2).into(),
        acquire_failed(Reason::ProviderRefused).into(),
        unknown(Effect::Acquire).into(),
        realized().into(),
        renewed(at(120)).into(),
        started("command").into(),
        executed().into(),
        release_requested(ReleaseStatus::Released, Teardown::ByPolicy).into(),
        released(LeaseStatus::Released, CleanupStatus::Pending).into(),
        cleanup_failed(1, Some(at(60))).into(),
        cleanup_succeeded().into(),
        escalated(Some(at(90))).into(),
        waived().into(),
        destroyed(LeaseStatus::Released).into(),
    ]
}
