//! Stored bytes of every type and version, in `events/golden/<type>.v<n>/<story>.<revision>.json`: whatever was
//! written once can be read for ever.
//!
//! **Invariant:** the corpus only grows. `cargo xtask generate` adds what is missing and rewrites nothing; a file
//! that changes is a fault in the change.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, Utc};
use lease_events::codec::{DomainEvent, decode, decode_metadata};
use lease_events::command::{CommandAccepted, CommandCompleted, CommandEvent};
use lease_events::environment::{EnvironmentEvent, EnvironmentState};
use lease_events::fold::StreamState;
use lease_events::id::{CommandId, CompanyId, EnvironmentId, EventId, LedgerId, OrphanId, RunId, SecretId};
use lease_events::lease::event::{LeaseReleased, LeaseRequested, Receipt};
use lease_events::lease::vocabulary::{
    CleanupStatus, Effect, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown,
};
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::orphan::{OrphanEvent, OrphanFound, OrphanReclaimFailed, OrphanReclaimed};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::run::{RunEvent, RunKeptAlive, RunReleased, RunState};
use lease_events::secret::{SecretEvent, SecretState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::generated::{event_schemas, in_crate, names_in, updating};
use crate::samples::{
    PROVIDER_LEASE, acquire_failed, acquired, at, claimed, cleanup_failed, cleanup_succeeded, decided, destroyed,
    escalated, executed, fault, lease, realized, recorded, release_requested, released, renewed, requested, resumed,
    unknown, waived,
};

/// A golden file: the envelope, and data and metadata byte for byte.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Golden {
    event_id: EventId,
    stream_id: String,
    stream_revision: u64,
    position: Position,
    r#type: String,
    schema_version: u16,
    company_id: CompanyId,
    recorded_at: DateTime<Utc>,
    data: Box<RawValue>,
    metadata: Box<RawValue>,
}

impl Golden {
    fn of(event: &RecordedEvent) -> Self {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("stored text is JSON");
        Self {
            event_id: event.event_id,
            stream_id: event.stream_id.to_string(),
            stream_revision: event.stream_revision,
            position: event.position,
            r#type: event.event_type.to_string(),
            schema_version: event.schema_version,
            company_id: event.company_id,
            recorded_at: event.recorded_at,
            data: raw(&event.data),
            metadata: raw(&event.metadata),
        }
    }

    fn recorded(&self) -> RecordedEvent {
        RecordedEvent {
            event_id: self.event_id,
            stream_id: StreamId::parse(&self.stream_id).expect("a golden stream has a name"),
            stream_revision: self.stream_revision,
            position: self.position,
            event_type: self.r#type.as_str().into(),
            schema_version: self.schema_version,
            company_id: self.company_id,
            recorded_at: self.recorded_at,
            data: self.data.get().into(),
            metadata: self.metadata.get().into(),
        }
    }
}

/// Every golden event, by story and revision.
fn corpus() -> BTreeMap<String, Vec<RecordedEvent>> {
    let mut stories: BTreeMap<String, Vec<RecordedEvent>> = BTreeMap::new();
    for folder in names_in(&in_crate("golden")) {
        for file in names_in(&in_crate(&format!("golden/{folder}"))) {
            let path = in_crate(&format!("golden/{folder}/{file}"));
            let text = fs::read_to_string(&path).expect("a golden file can be read");
            let golden: Golden = serde_json::from_str(&text).expect("a golden file has its shape");
            assert_eq!(folder, format!("{}.v{}", golden.r#type, golden.schema_version), "{file} stands in {folder}");
            let (story, _) = file.split_once('.').expect("a golden file is named STORY.REVISION.json");
            stories.entry(story.to_owned()).or_default().push(golden.recorded());
        }
    }
    for events in stories.values_mut() {
        events.sort_by_key(|event| event.stream_revision);
    }
    stories
}

/// Writes what the corpus lacks, where that is asked for.
fn add_missing() {
    if !updating() {
        return;
    }
    for (story, events) in written() {
        for event in events {
            let folder = in_crate(&format!("golden/{}.v{}", event.event_type, event.schema_version));
            let path = folder.join(format!("{story}.{:02}.json", event.stream_revision));
            if !path.exists() {
                fs::create_dir_all(&folder).expect("the folder can be made");
                let text = serde_json::to_string_pretty(&Golden::of(&event)).expect("an envelope is JSON");
                fs::write(path, text + "\n").expect("the file can be written");
            }
        }
    }
}

/// The stories as the code writes them now. A new version of a type is a new story here.
fn written() -> Vec<(&'static str, Vec<RecordedEvent>)> {
    [lease_stories(), other_stories()].concat()
}

fn lease_stories() -> Vec<(&'static str, Vec<RecordedEvent>)> {
    let ask = |status| LeaseEvent::from(release_requested(status, Teardown::ByPolicy));
    let lease_story =
        |name: &'static str, events: Vec<LeaseEvent>| (name, story(&StreamId::lease(lease(name)), &events));
    let of = |name: &str, policy| LeaseRequested { lease_id: lease(name), policy, ..requested() };
    vec![
        lease_story(
            "kept-then-taken-over-in-vain",
            vec![
                of("kept-then-taken-over-in-vain", Policy::ReuseByEnvironment).into(),
                decided(None).into(),
                acquired().into(),
                realized().into(),
                renewed(at(240)).into(),
                executed().into(),
                ask(ReleaseStatus::Released),
                released(LeaseStatus::Released, CleanupStatus::Pending).into(),
                claimed("claimant").into(),
                LeaseReleased {
                    reason: Reason::TakeOverFailed,
                    ..released(LeaseStatus::Retained, CleanupStatus::Pending)
                }
                .into(),
                release_requested(ReleaseStatus::Released, Teardown::Destroy).into(),
                destroyed(LeaseStatus::Retained).into(),
            ],
        ),
        lease_story(
            "taken-over",
            vec![
                of("taken-over", Policy::ReuseByEnvironment).into(),
                decided(Some(lease("giver"))).into(),
                resumed(Some(lease("giver")), 2).into(),
                ask(ReleaseStatus::Expired),
                released(LeaseStatus::Expired, CleanupStatus::Failed).into(),
                cleanup_failed(1, Some(at(60))).into(),
                cleanup_succeeded().into(),
            ],
        ),
        lease_story(
            "never-came-about",
            vec![
                of("never-came-about", Policy::Ephemeral).into(),
                unknown(Effect::Acquire).into(),
                acquire_failed(Reason::RecoverySettled).into(),
            ],
        ),
        lease_story(
            "given-up",
            vec![
                of("given-up", Policy::RetainOnFailure).into(),
                acquired().into(),
                ask(ReleaseStatus::Failed),
                released(LeaseStatus::Failed, CleanupStatus::Failed).into(),
                escalated(Some(at(1_500))).into(),
                waived().into(),
            ],
        ),
    ]
}

fn other_stories() -> Vec<(&'static str, Vec<RecordedEvent>)> {
    let environment = StreamId::environment(EnvironmentId::derived(&["environment"]));
    let (run, silent) = (RunId::derived(&["run"]), RunId::derived(&["silent"]));
    let command = CommandId::derived(&["command"]);
    vec![
        ("environment", story(&environment, &crate::environment::life())),
        ("secret", story(&StreamId::secret(SecretId::derived(&["secret"])), &crate::secret::life())),
        (
            "run",
            story(
                &StreamId::run(run),
                &[RunEvent::from(RunReleased { run_id: run, status: ReleaseStatus::Failed, reason: Reason::RunLost })],
            ),
        ),
        ("orphan", story(&StreamId::orphan(OrphanId::derived(&["orphan"])), &orphan_life())),
        ("run-gone-silent", story(&StreamId::run(silent), &gone_silent(silent))),
        (
            "command",
            story(
                &StreamId::command(command),
                &[
                    CommandEvent::from(CommandAccepted {
                        operation: "acquire".to_owned(),
                        request_digest: "e3b0c442".to_owned(),
                    }),
                    CommandCompleted { outcome: json!({"leaseId": lease("lease")}) }.into(),
                ],
            ),
        ),
    ]
}

fn gone_silent(run_id: RunId) -> [RunEvent; 3] {
    let kept = |until| RunKeptAlive { run_id, time_to_live_ms: 240_000, alive_until: at(until) };
    let released = RunReleased { run_id, status: ReleaseStatus::Failed, reason: Reason::RunLost };
    [kept(6).into(), kept(7).into(), released.into()]
}

fn orphan_life() -> [OrphanEvent; 3] {
    let found = OrphanFound {
        orphan_id: OrphanId::derived(&["orphan"]),
        ledger_id: LedgerId::derived(&["ledger"]),
        lease_id: lease("lease"),
        environment_id: EnvironmentId::derived(&["environment"]),
        driver: "sandbox".to_owned(),
        provider: "fake".to_owned(),
        provider_lease_id: PROVIDER_LEASE.to_owned(),
        created_at: Some(at(0)),
        config: json!({"provider": "fake", "tokenSecretRef": "secret://env/TOKEN"}),
        fencing_token: 2,
        because: "its lease is over, and holds and owes nothing".to_owned(),
    };
    let failed = OrphanReclaimFailed { attempt: 1, fault: fault(), next_try_at: at(3) };
    let receipt = Receipt { state: ReceiptState::Destroyed, provider_lease_id: Some(PROVIDER_LEASE.to_owned()) };
    [found.into(), failed.into(), OrphanReclaimed { receipt }.into()]
}

fn story<E: DomainEvent>(stream: &StreamId, events: &[E]) -> Vec<RecordedEvent> {
    (0..).zip(events).map(|(revision, event)| recorded(event, stream, revision, revision + 1)).collect()
}

/// The event's data once more, read and written by the code of today.
fn rewritten(event: &RecordedEvent) -> String {
    let data = match event.stream_id.category() {
        "lease" => decode::<LeaseEvent>(event).map(|event| event.data()),
        "environment" => decode::<EnvironmentEvent>(event).map(|event| event.data()),
        "secret" => decode::<SecretEvent>(event).map(|event| event.data()),
        "run" => decode::<RunEvent>(event).map(|event| event.data()),
        "orphan" => decode::<OrphanEvent>(event).map(|event| event.data()),
        "command" => decode::<CommandEvent>(event).map(|event| event.data()),
        category => panic!("no events of category {category}"),
    };
    data.unwrap_or_else(|error| panic!("{error}")).to_string()
}

#[test]
fn every_golden_event_can_be_read() {
    add_missing();
    let versions: BTreeMap<&str, u16> = event_schemas().iter().map(|event| (event.event_type, event.version)).collect();
    for event in corpus().values().flatten() {
        let rewritten = rewritten(event);
        if versions[&*event.event_type] == event.schema_version {
            assert_eq!(rewritten, *event.data, "{} is written in other bytes now", event.event_type);
        }
        decode_metadata(event).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_type_and_version_has_a_golden_event() {
    add_missing();
    for event in event_schemas() {
        for version in 1..=event.version {
            let folder = format!("golden/{}.v{version}", event.event_type);
            assert!(!names_in(&in_crate(&folder)).is_empty(), "{folder} is empty");
        }
    }
}

#[test]
fn the_golden_stories_still_fold_into_what_they_did() {
    add_missing();
    for (story, events) in corpus() {
        let folded = match events[0].stream_id.category() {
            "lease" => LeaseState::fold(&events).map(|state| serde_json::to_value(state).expect("a state is JSON")),
            "environment" => {
                EnvironmentState::fold(&events).map(|state| serde_json::to_value(state).expect("a state is JSON"))
            }
            "secret" => SecretState::fold(&events).map(|state| serde_json::to_value(state).expect("a state is JSON")),
            "run" => RunState::fold(&events).map(|state| serde_json::to_value(state).expect("a state is JSON")),
            _ => continue,
        };
        let mut state = folded.unwrap_or_else(|error| panic!("{story}: {error}"));
        state.sort_all_objects();
        insta::assert_snapshot!(format!("golden-{story}"), serde_json::to_string_pretty(&state).expect("JSON"));
    }
}
