//! A run with a lease on each driver: what one provider fails stops none of the others (B17, B18, W5).

use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, ReleaseStatus};
use lease_ledger::commands::release_run::ReleaseRunRequest;
use lease_ledger::commands::secret::Source;
use lease_ledger::commands::secret::set::SetSecret;
use serde_json::{Value, json};

use super::{Broken, World};
use crate::sshd::Sshd;
use crate::support::{caller, company, run};

/// The config of the ssh driver for this server, its key kept as a secret.
pub(super) async fn ssh_config(world: &World, sshd: &Sshd) -> Value {
    let source = Source::Value(sshd.key().to_owned().into());
    let set = SetSecret { company_id: company(), name: "ssh-key".to_owned(), source };
    let secret = world.ledger.set_secret(caller(), set).await.expect("set");
    let mut config = sshd.config();
    config["privateKeySecretRef"] = json!({ "type": "secret_ref", "secretId": secret.secret_id, "version": "latest" });
    config
}

async fn release_run(world: &World, status: ReleaseStatus) -> Vec<LeaseState> {
    let request = ReleaseRunRequest { company_id: company(), run_id: run(1), status };
    let report = world.ledger.release_run(caller(), request).await.expect("released");
    assert_eq!(report.failed, [], "each is recorded as released");
    report.released
}

#[tokio::test]
async fn a_run_on_ssh_bubblewrap_a_plugin_process_and_more_is_released_though_one_provider_fails() {
    let (world, sshd) = (World::with_example(|_| {}).await, Sshd::start());
    let ssh = ssh_config(&world, &sshd).await;
    let environments = [
        ("local", "local", json!({})),
        ("ssh", "ssh", ssh),
        ("bubblewrap", "sandbox", json!({ "provider": "bubblewrap" })),
        ("plugin", "plugin", world.folders()),
        ("plugin-backed", "sandbox", world.boxes(&json!({}))),
    ];
    let mut broken = None;
    for (name, driver, config) in environments {
        let environment = world.environment(name, driver, config).await;
        let answer =
            world.acquire(environment.environment_id, 1).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.lease.status, LeaseStatus::Active, "{name}");
        if name == "plugin" {
            broken = Some((answer.lease.lease_id, Broken::new(&world.held()[0])));
        }
    }
    let (failing, broken) = broken.expect("it was acquired");

    let released = release_run(&world, ReleaseStatus::Released).await;
    assert_eq!(released.len(), 5);
    for lease in &released {
        let name = &lease.environment_name;
        assert_eq!(lease.status, LeaseStatus::Released, "{name}");
        let expected = if lease.lease_id == failing { CleanupStatus::Failed } else { CleanupStatus::Success };
        assert_eq!(lease.cleanup_status, Some(expected), "{name}: {:?}", lease.last_fault);
    }
    let fifth = released.iter().find(|lease| lease.lease_id == failing).expect("it is told");
    let fault = fifth.last_fault.as_ref().expect("and why");
    assert_eq!((fifth.environment_name.as_str(), fault.code.as_str()), ("plugin", "provider-error"));
    assert!(fifth.next_action.as_ref().is_some_and(|next| next.at.is_some()), "it is tried again: {fifth:?}");

    // It is still owed, and can be paid once the provider is well again.
    assert_eq!(world.held().len(), 1);
    broken.mend();
    let settled = world.destroy(failing).await.expect("destroyed");
    assert_eq!((settled.cleanup_status, world.held().len()), (Some(CleanupStatus::Success), 0));
    world.close().await;
}

#[tokio::test]
async fn a_lost_run_keeps_for_inspection_what_its_worker_process_made_and_was_asked_to_keep() {
    let world = World::with_example(|_| {}).await;
    let kept = world.boxes(&json!({ "reuseLease": true, "leasePolicy": "retain_on_failure" }));
    for (name, config) in [("kept", kept), ("not-kept", world.boxes(&json!({})))] {
        let environment = world.environment(name, "sandbox", config).await;
        world.acquire(environment.environment_id, 1).await.expect("acquired");
    }
    for lease in release_run(&world, ReleaseStatus::Failed).await {
        let expected = match lease.environment_name.as_str() {
            "kept" => (LeaseStatus::Retained, Some(CleanupStatus::Pending), Some("adapter_or_run_failure")),
            _ => (LeaseStatus::Failed, Some(CleanupStatus::Success), Some("adapter_or_run_failure")),
        };
        assert_eq!((lease.status, lease.cleanup_status, lease.failure_reason.as_deref()), expected);
    }
    assert_eq!(world.held().len(), 1);
    world.close().await;
}
