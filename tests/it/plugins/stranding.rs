//! Nothing is stranded: whatever becomes of an environment's config after an acquire, release and destroy reach the
//! provider by what the lease recorded (B11).

use lease_events::lease::vocabulary::{CleanupStatus, ReleaseStatus};
use lease_ledger::commands::environment::archive::ArchiveEnvironment;
use lease_ledger::commands::environment::update::UpdateEnvironment;
use serde_json::{Value, json};

use super::World;
use super::drivers::ssh_config;
use crate::sshd::Sshd;
use crate::support::{caller, company};

/// Two leases are given, the config is changed so that nothing can be given any more, the environment is archived; then
/// one is released and the other destroyed.
async fn strands_nothing(world: &World, driver: &str, config: Value, broken: Value) {
    let environment = world.environment(driver, driver, config).await;
    let environment_id = environment.environment_id;
    let first = world.acquire(environment_id, 1).await.expect("acquired").lease;
    let second = world.acquire(environment_id, 2).await.expect("acquired").lease;
    let update = UpdateEnvironment { company_id: company(), environment_id, config: broken, if_revision: None };
    world.ledger.update_environment(caller(), update).await.expect("updated");
    let error = world.acquire(environment_id, 3).await.expect_err("the config is broken");
    assert!(error.lease_id().is_some(), "it came as far as the provider: {error}");
    let archive = ArchiveEnvironment { company_id: company(), environment_id, note: None, if_revision: None };
    world.ledger.archive_environment(caller(), archive).await.expect("archived");

    let released = world.release(first.lease_id, ReleaseStatus::Released).await;
    assert_eq!(released.cleanup_status, Some(CleanupStatus::Success), "{driver}: {released:?}");
    let destroyed = world.destroy(second.lease_id).await.expect("destroyed");
    assert_eq!(destroyed.cleanup_status, Some(CleanupStatus::Success), "{driver}: {destroyed:?}");
}

#[tokio::test]
async fn a_changed_and_archived_environment_strands_nothing_of_a_worker_process() {
    let world = World::with_example(|_| {}).await;
    // A file: no folder can be made below it.
    let nowhere = world.folder.path().join("ledger.db");
    let mut broken = world.boxes(&json!({}));
    broken["root"] = json!(nowhere);
    strands_nothing(&world, "sandbox", world.boxes(&json!({})), broken).await;
    assert!(world.held().is_empty());
    let mut broken = world.folders();
    broken["driverConfig"]["root"] = json!(nowhere);
    strands_nothing(&world, "plugin", world.folders(), broken).await;
    assert!(world.held().is_empty());
    world.close().await;
}

#[tokio::test]
async fn an_environment_that_names_another_provider_strands_nothing_of_the_worker_process_before() {
    let world = World::with_example(|_| {}).await;
    let environment = world.environment("moved", "sandbox", world.boxes(&json!({}))).await;
    let lease = world.acquire(environment.environment_id, 1).await.expect("acquired").lease;
    let (company_id, environment_id) = (company(), environment.environment_id);
    let config = json!({ "provider": "fake" });
    let update = UpdateEnvironment { company_id, environment_id, config, if_revision: None };
    world.ledger.update_environment(caller(), update).await.expect("updated");
    let released = world.release(lease.lease_id, ReleaseStatus::Released).await;
    assert_eq!((released.cleanup_status, world.held().len()), (Some(CleanupStatus::Success), 0));
    world.close().await;
}

#[tokio::test]
async fn a_changed_and_archived_environment_strands_nothing_over_ssh() {
    let (world, sshd) = (World::open().await, Sshd::start());
    let config = ssh_config(&world, &sshd).await;
    let mut broken = config.clone();
    // Nobody listens there.
    broken["port"] = 1.into();
    broken["knownHosts"] = format!("[127.0.0.1]:1 {}", config["knownHosts"].as_str().expect("a text")).into();
    strands_nothing(&world, "ssh", config, broken).await;
    world.close().await;
}
