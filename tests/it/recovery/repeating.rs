//! A command whose process died after its event and before its outcome was kept: told again, it finds what it wrote.

use lease_events::lease::vocabulary::Effect;
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::environment::probe::ProbeEnvironment;
use lease_ledger::commands::execute::ExecuteRequest;
use serde_json::json;

use super::audit::log;
use crate::support::world::{Doom, World};
use crate::support::{Bench, caller, company, fake, operator, run};

/// Tells a command to a process that dies behind the step, and then to the next one.
async fn told_twice<T>(world: &World, step: Step, tell: impl AsyncFn(Bench) -> T) -> T {
    let doom = Doom::at(CrashPoint { step, side: Side::After }, 1);
    let bench = world.start(&doom);
    tokio::select! {
        _ = tell(bench) => panic!("it does not get to {step:?}"),
        () = doom.struck() => {}
    }
    world.bury(&doom);
    tell(world.start(&std::sync::Arc::default())).await
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_end_is_on_record_is_not_run_again() {
    let world = World::new();
    let bench = world.start(&std::sync::Arc::default());
    let environment = bench.environment("plain", fake(json!({}))).await;
    let lease_id = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease.lease_id;
    let before = world.provider.calls(Effect::Execute);
    let answer = told_twice(&world, Step::ExecuteOutcome, async |bench: Bench| {
        let request = ExecuteRequest {
            company_id: None,
            lease_id,
            authority: Some(operator()),
            command: "exit".to_owned(),
            args: vec!["7".to_owned()],
            cwd: None,
            env: Vec::new(),
            stdin: None,
            timeout_ms: None,
        };
        let (output, _kept) = tokio::sync::mpsc::channel(8);
        bench.ledger.execute(caller().with_key("one"), request, output).await
    });
    let answer = answer.await.expect("it ended");
    assert_eq!((answer.execution.exit_code, answer.lease.revision), (Some(7), 3));
    assert_eq!(world.provider.calls(Effect::Execute), before + 1);
    let story = bench.story(lease_id).await;
    assert_eq!(story, ["requested", "provider-acquired", "command-started", "command-executed"]);
}

#[tokio::test(start_paused = true)]
async fn a_destroy_that_failed_on_record_is_not_asked_for_again() {
    let world = World::new();
    let bench = world.start(&std::sync::Arc::default());
    let environment = bench.environment("stubborn", fake(json!({ "failDestroy": "refused" }))).await;
    let lease_id = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease.lease_id;
    let destroyed = told_twice(&world, Step::DestroyOutcome, async |bench: Bench| {
        let (company_id, authority, if_revision) = (None, Some(operator()), None);
        bench
            .ledger
            .destroy(caller().with_key("one"), DestroyRequest { company_id, lease_id, authority, if_revision })
            .await
    });
    assert_eq!(destroyed.await.expect_err("it failed").code(), "provider-failed");
    assert_eq!(world.provider.calls(Effect::Destroy), 1);
    let asked = bench.story(lease_id).await.iter().filter(|event| *event == "release-requested").count();
    assert_eq!(asked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_on_record_is_not_recorded_again() {
    let world = World::new();
    let bench = world.start(&std::sync::Arc::default());
    let environment_id = bench.environment("plain", fake(json!({}))).await.environment_id;
    let probe = told_twice(&world, Step::EnvironmentOutcome, async |bench: Bench| {
        let request = ProbeEnvironment { company_id: company(), environment_id };
        bench.ledger.probe_environment(caller().with_key("one"), request).await
    });
    let (environment, report) = probe.await.expect("probed");
    assert_eq!((environment.revision, report.ok), (1, true));
    let log = log(&bench).await;
    let ids: std::collections::BTreeSet<_> = log.iter().map(|recorded| recorded.event_id).collect();
    assert_eq!(ids.len(), log.len(), "an event's id stands for one event");
}

/// What recovery does follows from what is on record: a pass that is taken again, by the same process and by another one
/// that finds the same rows, does nothing more.
#[tokio::test(start_paused = true)]
async fn every_pass_taken_twice_changes_nothing() {
    let world = World::new();
    let doom = Doom::at(CrashPoint { step: Step::AcquireEffect, side: Side::After }, 2);
    let dying = world.start(&doom);
    let environment = dying.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let first = dying.acquire(environment, run(1)).await.expect("acquired").lease;
    tokio::select! {
        _ = dying.acquire(environment, run(2)) => panic!("it dies"),
        () = doom.struck() => {}
    }
    world.bury(&doom);
    world.provider.inject(Effect::Release, lease_ledger::drivers::sandbox::fake::Trouble::NotDone);
    let (one, other) = (world.start(&std::sync::Arc::default()), world.start(&std::sync::Arc::default()));
    one.release(&first, lease_events::lease::vocabulary::ReleaseStatus::Failed).await.expect("on record");
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let (at_once, beside) = tokio::join!(one.ledger.recover(), other.ledger.recover());
    at_once.and(beside).expect("a pass each");
    let before = (log(&one).await.len(), world.provider.calls(Effect::Destroy), one.held());
    assert_eq!(before.2, 1);
    for bench in [&one, &other, &one] {
        let told = bench.ledger.recover().await.expect("a pass");
        assert!(told.iter().all(|named| named.report.rows.is_empty()), "{told:?}");
    }
    assert_eq!((log(&one).await.len(), world.provider.calls(Effect::Destroy), one.held()), before);
}
