//! The fake provider's own tests: the contract on both shelves, and that each knob does what it says.

use std::sync::Arc;
use std::time::Duration;

use lease_events::lease::vocabulary::{Effect, ReleaseStatus};
use lease_events::seam::SystemClock;
use serde_json::{Value, json};

use super::{FakeProvider, Trouble};
use crate::drivers::contract::{Subject, done, keeps_the_contract, refused};
use crate::drivers::sandbox::SandboxDriver;
use crate::drivers::{Outcome, Resumed, Workspace};

fn subject(provider: &FakeProvider, config: &Value) -> Subject {
    let mut config = config.clone();
    config["provider"] = "fake".into();
    Subject {
        driver: Arc::new(SandboxDriver::new([Arc::new(provider.clone()) as _])),
        config,
        shell: false,
        workspace: Workspace::default(),
        own_env: &[],
    }
}

fn in_memory() -> FakeProvider {
    FakeProvider::in_memory(Arc::new(SystemClock))
}

#[tokio::test]
async fn it_keeps_the_contract_in_memory() {
    keeps_the_contract(&subject(&in_memory(), &json!({}))).await;
}

#[tokio::test]
async fn it_keeps_the_contract_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let provider = FakeProvider::on_disk(folder.path(), Arc::new(SystemClock)).unwrap();
    keeps_the_contract(&subject(&provider, &json!({}))).await;
    assert_eq!(provider.held().unwrap(), []);
    let journal = std::fs::read_to_string(folder.path().join("journal.ndjson")).unwrap();
    let count = |what: &str| journal.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("\"create\""), count("\"remove\""));
}

#[tokio::test]
async fn each_trouble_leaves_what_it_says() {
    for (word, is_held) in [("not-done", 0), ("refused", 0), ("unknown", 0), ("unknown-after", 1)] {
        let provider = in_memory();
        let subject = subject(&provider, &json!({ "failAcquire": word }));
        let outcome = subject.driver.acquire(&subject.scope(), None).await;
        let code = match outcome {
            Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => fault.code,
            Outcome::Done(acquired) => panic!("{word} should have failed: {acquired:?}"),
        };
        assert_eq!(code, format!("fake-{word}"));
        assert_eq!(provider.held().unwrap().len(), is_held, "{word}");
        assert_eq!(provider.calls(Effect::Acquire), 1);
    }
}

#[tokio::test]
async fn injected_trouble_comes_once_and_a_thing_can_go_by_itself() {
    let provider = in_memory();
    let subject = subject(&provider, &json!({}));
    let scope = subject.scope();
    provider.inject(Effect::Acquire, Trouble::UnknownAfter);
    assert!(matches!(subject.driver.acquire(&scope, None).await, Outcome::Unknown(_)));
    let held = subject.acquire(&scope).await;
    assert_eq!(provider.held().unwrap().len(), 1, "the repeated acquire found what the first one made");

    provider.inject(Effect::Release, Trouble::Refused);
    assert_eq!(refused(subject.driver.release(&scope, &held, ReleaseStatus::Failed, true).await), "fake-refused");
    provider.inject(Effect::Resume, Trouble::Gone);
    assert_eq!(done(subject.driver.resume(&scope, &held).await), Resumed::Gone);
    assert_eq!(provider.held().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn delays_take_simulated_time() {
    let provider = in_memory();
    let subject = subject(&provider, &json!({ "acquireDelayMs": 60_000, "expiresInMs": 1_000 }));
    let started = tokio::time::Instant::now();
    let acquired = done(subject.driver.acquire(&subject.scope(), None).await);
    assert_eq!(started.elapsed(), Duration::from_mins(1));
    assert!(acquired.expires_at.is_some());
}

#[tokio::test]
async fn a_knob_that_makes_no_sense_is_refused_by_name() {
    let subject = subject(&in_memory(), &json!({ "failAcquire": "gone", "acquireDelayMs": -1 }));
    let invalid = subject.driver.validate(&subject.config).await.unwrap_err();
    assert_eq!(
        invalid.faults,
        [
            "\"acquireDelayMs\" is -1; it must be a whole number from 0 to 86400000.",
            "\"failAcquire\" is \"gone\"; it must be one of none, not-done, refused, unknown, unknown-after."
        ]
    );
}
