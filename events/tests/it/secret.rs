//! The secret's fold.

use lease_events::fold::StreamState;
use lease_events::id::{EnvironmentId, SecretId};
use lease_events::record::{RecordedEvent, StreamId};
use lease_events::secret::{
    SecretCreated, SecretEvent, SecretProviderKind, SecretRead, SecretRemoved, SecretState, SecretStatus,
    SecretVersionAdded,
};

use crate::samples::{at, company, lease, recorded};

fn created() -> SecretEvent {
    SecretCreated {
        secret_id: SecretId::derived(&["secret"]),
        company_id: company(),
        name: "deploy-key".to_owned(),
        generation: 0,
    }
    .into()
}

fn version(version: u32, provider: SecretProviderKind, locator: &str) -> SecretEvent {
    SecretVersionAdded { version, provider, locator: locator.to_owned() }.into()
}

fn read(version: u32) -> SecretEvent {
    SecretRead {
        version,
        environment_id: Some(EnvironmentId::derived(&["environment"])),
        lease_id: Some(lease("lease")),
        purpose: "acquire".to_owned(),
    }
    .into()
}

fn removed() -> SecretEvent {
    SecretRemoved { note: Some("no longer used".to_owned()) }.into()
}

pub(crate) fn life() -> Vec<SecretEvent> {
    vec![
        created(),
        version(1, SecretProviderKind::Ledger, "0198c0de-0000-7000-8000-000000000001"),
        read(1),
        version(2, SecretProviderKind::File, "deploy/key"),
        version(3, SecretProviderKind::Environment, "DEPLOY_KEY"),
        removed(),
    ]
}

fn history(events: &[SecretEvent]) -> Vec<RecordedEvent> {
    let stream = StreamId::secret(SecretId::derived(&["secret"]));
    (0..).zip(events).map(|(revision, event)| recorded(event, &stream, revision, revision + 1)).collect()
}

#[test]
fn a_secret_is_created_read_given_versions_and_removed() {
    let state = SecretState::fold(&history(&life())).expect("a legal history").expect("it is there");
    assert_eq!((state.status, state.removed_at), (SecretStatus::Removed, Some(at(6))));
    assert_eq!((state.reads, state.last_read_at), (1, Some(at(3))));
    assert_eq!(state.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(state.version(None).map(|latest| latest.locator.as_str()), Some("DEPLOY_KEY"));
    assert_eq!(state.version(Some(2)).map(|second| second.locator.as_str()), Some("deploy/key"));
    assert_eq!(state.version(Some(4)), None);
}

#[test]
fn what_may_not_follow_is_named_together_with_where_the_secret_stands() {
    let sentence =
        |events: &[SecretEvent]| SecretState::fold(&history(events)).expect_err("the last may not follow").to_string();
    assert!(sentence(&[read(1)]).ends_with("this secret-read may not follow in a secret that is not there"));
    assert!(sentence(&[created(), created()]).ends_with("that is active"));
    assert!(sentence(&[created(), read(1)]).ends_with("this secret-read may not follow in a secret that is active"));
    let leap = version(2, SecretProviderKind::File, "x");
    assert!(sentence(&[created(), leap]).contains("this secret-version-added may not follow"));
    assert!(sentence(&[life(), vec![read(1)]].concat()).ends_with("that is removed"));
}
