//! Commands in workspaces: whatever dies in one, it is run at most once, and answered the same for ever.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::{Effect, LeaseStatus, ReleaseStatus};
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::execute::{ExecuteAnswer, ExecuteRequest};
use lease_ledger::commands::upkeep::Did;
use lease_ledger::drivers::sandbox::fake::Trouble;
use lease_projections::read_model::LeaseFilter;
use serde_json::json;

use crate::support::world::{Doom, World};
use crate::support::{Bench, caller, fake, operator, run};

/// A world with a lease that is held.
async fn held(world: &World) -> LeaseId {
    let bench = world.start(&Arc::default());
    let environment = bench.environment("plain", fake(json!({}))).await;
    bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease.lease_id
}

async fn execute(bench: &Bench, lease_id: LeaseId, args: &[&str]) -> Result<ExecuteAnswer, CommandError> {
    let (command, args) = args.split_first().expect("a program");
    let request = ExecuteRequest {
        company_id: None,
        lease_id,
        authority: Some(operator()),
        command: (*command).to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: None,
        timeout_ms: None,
    };
    let (output, _kept) = tokio::sync::mpsc::channel(8);
    bench.ledger.execute(caller().with_key("one"), request, output).await
}

/// A process that dies in a command.
async fn dies_in(world: &World, lease_id: LeaseId, step: Step, side: Side) {
    let doom = Doom::at(CrashPoint { step, side }, 1);
    let bench = world.start(&doom);
    tokio::select! {
        _ = execute(&bench, lease_id, &["exit", "7"]) => panic!("it does not get to {step:?}"),
        () = doom.struck() => {}
    }
    world.bury(&doom);
}

async fn dids(bench: &Bench) -> Vec<&'static str> {
    let reports = bench.ledger.recover().await.expect("a pass");
    reports.iter().flat_map(|named| &named.report.rows).map(|row| row.did.map_or("failed", Did::as_str)).collect()
}

async fn running(bench: &Bench) -> usize {
    let filter = LeaseFilter { running_commands: true, limit: 10, ..LeaseFilter::default() };
    bench.ledger.read_model().leases(&filter).await.expect("leases").len()
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_broken_off_is_never_run_again_whoever_finds_it() {
    let deaths = [
        (Step::ExecuteIntent, Side::After, 0),
        (Step::ExecuteEffect, Side::Before, 0),
        (Step::ExecuteEffect, Side::After, 1),
        (Step::ExecuteOutcome, Side::Before, 1),
    ];
    for (recovers_first, (step, side, ran)) in [true, false].into_iter().flat_map(|first| deaths.map(|it| (first, it)))
    {
        let world = World::new();
        let lease_id = held(&world).await;
        dies_in(&world, lease_id, step, side).await;
        let bench = world.start(&Arc::default());
        assert_eq!((world.provider.calls(Effect::Execute), running(&bench).await), (ran, 1));
        if recovers_first {
            assert_eq!(dids(&bench).await, ["command-lost"]);
        }
        let mut said = Vec::new();
        for _ in 0..3 {
            let error = execute(&bench, lease_id, &["exit", "7"]).await.expect_err("nobody knows");
            assert_eq!(error.code(), "outcome-unknown");
            said.push(error.to_string());
            world.clock.skip(TimeDelta::hours(30));
        }
        said.dedup();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("process-1 ended before its end was on record"), "{said:?}");
        assert_eq!((world.provider.calls(Effect::Execute), running(&bench).await), (ran, 0));
        assert!(dids(&bench).await.is_empty());
        // The lease is as it was.
        assert_eq!(bench.lease(lease_id).await.status, LeaseStatus::Active);
        assert_eq!(
            bench.story(lease_id).await,
            ["requested", "provider-acquired", "command-started", "command-executed"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_died_before_its_start_is_run_when_it_is_told_again() {
    let world = World::new();
    let lease_id = held(&world).await;
    dies_in(&world, lease_id, Step::ExecuteIntent, Side::Before).await;
    let bench = world.start(&Arc::default());
    let answer = execute(&bench, lease_id, &["exit", "7"]).await.expect("it ended");
    assert_eq!((answer.execution.exit_code, world.provider.calls(Effect::Execute)), (Some(7), 1));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_process_lives_is_refused_as_running_and_its_lease_can_be_released() {
    let world = World::new();
    let lease_id = held(&world).await;
    let (slow, other) = (world.start(&Arc::default()), world.start(&Arc::default()));
    let first = tokio::spawn(async move { execute(&slow, lease_id, &["sleep", "60000"]).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = execute(&other, lease_id, &["sleep", "60000"]).await.expect_err("it runs");
    assert_eq!(error.code(), "command-running");
    assert!(dids(&other).await.is_empty());
    let lease = other.lease(lease_id).await;
    other.release(&lease, ReleaseStatus::Released).await.expect("a command holds no release up");
    // It is still a fact, and the same for both.
    let first = first.await.expect("no panic");
    let second = execute(&other, lease_id, &["sleep", "60000"]).await;
    assert_eq!(first.as_ref().map(|it| &it.execution), second.as_ref().map(|it| &it.execution));
    assert_eq!((world.provider.calls(Effect::Execute), running(&other).await), (1, 0));
}

/// Its time is over on the wall clock while it runs: what was put on record of it stands, for its own caller too.
#[tokio::test(start_paused = true)]
async fn a_command_that_was_taken_for_lost_is_lost_for_its_own_caller_too() {
    let world = World::new();
    let lease_id = held(&world).await;
    let (slow, other) = (world.start(&Arc::default()), world.start(&Arc::default()));
    let first = tokio::spawn(async move { execute(&slow, lease_id, &["sleep", "60000"]).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.clock.skip(TimeDelta::hours(25));
    assert_eq!(dids(&other).await, ["command-lost"]);
    let first = first.await.expect("no panic").expect_err("nobody knows");
    let second = execute(&other, lease_id, &["sleep", "60000"]).await.expect_err("nobody knows");
    assert_eq!((first.code(), first.to_string()), ("outcome-unknown", second.to_string()));
    assert_eq!(other.story(lease_id).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_not_done_is_no_crash() {
    for trouble in [Trouble::NotDone, Trouble::Refused] {
        let world = World::new();
        let lease_id = held(&world).await;
        let bench = world.start(&Arc::default());
        world.provider.inject(Effect::Execute, trouble);
        for _ in 0..2 {
            let error = execute(&bench, lease_id, &["exit", "7"]).await.expect_err("it is not done");
            assert_eq!(error.code(), "provider-failed");
        }
        assert_eq!((world.provider.calls(Effect::Execute), running(&bench).await), (1, 0));
    }
}
