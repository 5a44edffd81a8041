//! The environment's fold.

use lease_events::environment::{
    EnvironmentArchived, EnvironmentCreated, EnvironmentEvent, EnvironmentProbed, EnvironmentState, EnvironmentStatus,
    EnvironmentUpdated,
};
use lease_events::fold::StreamState;
use lease_events::id::EnvironmentId;
use lease_events::record::{RecordedEvent, StreamId};
use serde_json::json;

use crate::samples::{at, company, recorded};

pub(crate) fn created() -> EnvironmentCreated {
    EnvironmentCreated {
        environment_id: EnvironmentId::derived(&["environment"]),
        company_id: company(),
        name: "build".to_owned(),
        driver: "sandbox".to_owned(),
        config: json!({"provider": "fake"}),
        generation: 0,
    }
}

pub(crate) fn life() -> Vec<EnvironmentEvent> {
    vec![
        created().into(),
        EnvironmentUpdated { config: json!({"provider": "fake", "reuseLease": true}) }.into(),
        EnvironmentProbed { ok: true, summary: "The provider answers.".to_owned() }.into(),
        EnvironmentArchived { note: Some("moved to build-2".to_owned()) }.into(),
    ]
}

fn history(events: &[EnvironmentEvent]) -> Vec<RecordedEvent> {
    let stream = StreamId::environment(EnvironmentId::derived(&["environment"]));
    (0..).zip(events).map(|(revision, event)| recorded(event, &stream, revision, revision + 1)).collect()
}

#[test]
fn an_environment_is_created_updated_probed_and_archived() {
    let state = EnvironmentState::fold(&history(&life())).expect("a legal history").expect("it is there");
    assert_eq!((state.status, state.archived_at), (EnvironmentStatus::Archived, Some(at(4))));
    assert_eq!(state.config, json!({"provider": "fake", "reuseLease": true}));
    assert_eq!(state.last_probe.map(|probe| (probe.ok, probe.at)), Some((true, at(3))));
    assert_eq!((state.revision, state.created_position.0, state.position.0), (3, 1, 4));
}

#[test]
fn what_may_not_follow_is_named_together_with_where_the_environment_stands() {
    let sentence = |events: &[EnvironmentEvent]| {
        EnvironmentState::fold(&history(events)).expect_err("the last may not follow").to_string()
    };
    let updated = life()[1].clone();
    assert!(
        sentence(std::slice::from_ref(&updated))
            .ends_with("an environment-updated may not follow in an environment that is not there")
    );
    assert!(
        sentence(&[life(), vec![updated]].concat())
            .ends_with("revision 4: an environment-updated may not follow in an environment that is archived")
    );
    assert!(sentence(&[created().into(), created().into()]).ends_with("that is active"));
}
