//! A worker process that misbehaves harms neither the host nor another company's call, and leaves nothing behind.

use lease_events::id::CompanyId;
use lease_events::lease::vocabulary::ReleaseStatus;

use super::*;
use crate::drivers::{Acquired, Command};

fn bad(farm: &Farm, behaviour: &str) -> Subject {
    farm.install_bad(behaviour, &json!({}));
    Subject {
        driver: Arc::new(PluginDriver::new(farm.bridge.clone())),
        config: json!({ "pluginKey": "bad", "driverKey": "bad", "driverConfig": {} }),
        shell: true,
        workspace: Workspace::default(),
        own_env: &[],
    }
}

/// The scope that the worker misbehaves for.
fn victim(subject: &Subject) -> LeaseScope {
    LeaseScope { agent_id: Some("victim".to_owned()), ..subject.scope() }
}

/// Another company's scope.
fn bystander(subject: &Subject) -> LeaseScope {
    LeaseScope { company_id: CompanyId::derived(&["bystander"]), ..subject.scope() }
}

/// The worker serves the other company, whole.
async fn serves(subject: &Subject) {
    let scope = bystander(subject);
    let held = subject.acquire(&scope).await;
    let ran = done(subject.run(&scope, &held, command(&["echo", "still", "there"])).await);
    assert_eq!(ran.stdout, "still there");
    done(subject.driver.release(&scope, &held, ReleaseStatus::Released, false).await);
}

fn unknown<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Unknown(fault) => fault.code,
        other => panic!("nobody can know: {other:?}"),
    }
}

#[tokio::test]
async fn a_worker_process_that_crashes_in_an_acquire_leaves_it_unknown_and_comes_back() {
    let farm = Farm::new();
    let subject = bad(&farm, "crash");
    serves(&subject).await;
    assert_eq!(unknown(subject.driver.acquire(&victim(&subject), None).await), "worker-unavailable");
    serves(&subject).await;
    farm.close().await;
}

#[tokio::test]
async fn a_worker_process_that_hangs_in_one_call_serves_the_others() {
    let farm = Farm::new();
    let subject = bad(&farm, "hang");
    let scope = victim(&subject);
    let hanging = subject.driver.acquire(&scope, None);
    tokio::select! {
        outcome = hanging => panic!("it should hang: {outcome:?}"),
        () = serves(&subject) => {}
    }
    farm.close().await;
}

#[tokio::test]
async fn what_a_worker_process_says_beside_its_answers_is_dropped() {
    for behaviour in ["twice", "garbage", "flood"] {
        let farm = Farm::new();
        let subject = bad(&farm, behaviour);
        let scope = victim(&subject);
        let (outcome, ()) = tokio::join!(subject.driver.acquire(&scope, None), serves(&subject));
        let acquired: Acquired = done(outcome);
        assert_eq!(acquired.provider_lease_id, Some(format!("bad-{}", scope.lease_id)), "{behaviour}");
        serves(&subject).await;
        farm.close().await;
    }
}

#[tokio::test]
async fn a_worker_process_that_does_not_listen_and_its_grandchildren_are_ended() {
    for behaviour in ["deaf", "grandchild"] {
        let farm = Farm::new();
        let subject = bad(&farm, behaviour);
        serves(&subject).await;
        // The worker's own command line bears the mark too: what counts is that something is there to be ended.
        assert!(!processes_with(&[&farm.mark()]).is_empty());
        farm.close().await;
    }
}

#[tokio::test]
async fn null_from_a_worker_process_is_the_providers_fault() {
    let farm = Farm::new();
    let subject = bad(&farm, "null");
    let scope = subject.scope();
    let outcome = subject.driver.acquire(&scope, None).await;
    assert!(format!("{outcome:?}").contains("answered environmentAcquireLease with null"), "{outcome:?}");
    assert_eq!(unknown(outcome), "provider-answer-invalid");
    let held = Held { provider_lease_id: Some("x".to_owned()), metadata: serde_json::Map::new() };
    assert_eq!(unknown(subject.run(&scope, &held, command(&["echo"])).await), "provider-answer-invalid");
    assert_eq!(refused(subject.driver.realize(&scope, &held, &Workspace::default()).await), "not-supported");
    farm.close().await;
}

#[tokio::test]
async fn line_separators_reach_a_worker_process_as_they_are() {
    let farm = Farm::new();
    let subject = bad(&farm, "good");
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let words = "a\u{2028}b\u{2029}c\r\nd";
    let ran = done(subject.run(&scope, &held, command(&["echo", words])).await);
    assert_eq!(ran.stdout, words);
    let bytes = Command { stdin: Some(vec![0xff]), ..command(&["cat"]) };
    assert_eq!(refused(subject.run(&scope, &held, bytes).await), "invalid-command");
    farm.close().await;
}

#[tokio::test]
async fn a_secret_that_a_worker_process_echoes_gets_nowhere() {
    for behaviour in ["echo", "throw"] {
        let farm = Farm::new();
        let mut subject = bad(&farm, behaviour);
        subject.config["driverConfig"]["token"] = reference();
        let told = format!("{:?}", subject.driver.acquire(&subject.scope(), None).await);
        assert!(!told.contains(SECRET), "{told}");
        assert!(told.contains("[secret]"), "it did come, and was taken out: {told}");
        if behaviour == "echo" {
            let metadata = done(subject.driver.acquire(&subject.scope(), None).await).metadata;
            assert_eq!((&metadata["driver"], &metadata["pluginKey"]), (&json!("plugin"), &json!("bad")), "B25");
            let own = metadata["providerMetadata"].as_object().unwrap();
            assert!(!own.contains_key("token") && !own.contains_key("pluginKey"), "{own:?}");
        }
        farm.close().await;
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_stops_the_call_before_the_worker_process() {
    let farm = Farm::new();
    let mut subject = bad(&farm, "crash");
    let nil = "00000000-0000-0000-0000-000000000000";
    subject.config["driverConfig"]["token"] = json!({ "type": "secret_ref", "secretId": nil, "version": 1 });
    assert_eq!(refused(subject.driver.acquire(&victim(&subject), None).await), "secret-unknown");
    farm.close().await;
}

#[tokio::test]
async fn a_worker_process_that_can_list_is_asked_for_the_company() {
    let farm = Farm::new();
    let subject = bad(&farm, "list");
    let scope = subject.probe_scope();
    serves(&subject).await;
    assert!(!subject.driver.traits(&subject.config).can_list, "that it has the method proves nothing");
    assert_eq!(refused(subject.driver.list(&scope, &subject.config).await), "not-supported");
    farm.trust("bad", "bad", Trust { can_list: true, ..Trust::default() });
    assert!(subject.driver.traits(&subject.config).can_list);
    let listed = done(subject.driver.list(&scope, &subject.config).await);
    assert_eq!(listed[0].provider_lease_id, format!("of-{}", scope.company_id));
    assert!(listed[0].lease_id.is_some());
    let good = Farm::new();
    let other = bad(&good, "good");
    assert_eq!(refused(other.driver.list(&scope, &other.config).await), "not-supported");
    good.close().await;
    farm.close().await;
}

#[tokio::test]
async fn another_directory_under_the_same_id_is_told() {
    let farm = Farm::new();
    let subject = bad(&farm, "other-directory");
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let Resumed::Same(now) = done(subject.driver.resume(&scope, &held).await) else { panic!("it is there") };
    assert_eq!(now.provider_lease_id, held.provider_lease_id);
    // What commands judge the identity by (B16).
    assert_ne!(now.metadata["providerMetadata"]["remoteCwd"], held.metadata["providerMetadata"]["remoteCwd"]);
    farm.close().await;
}
