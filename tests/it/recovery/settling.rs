//! Settling: what an intent began and no outcome ended, by the recipe that the driver declares.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::StreamExt;
use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, NextActionKind, Reason, ReleaseStatus};
use lease_events::seam::Clock;
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_ledger::commands::release_run::ReleaseRunRequest;
use lease_ledger::commands::upkeep::Did;
use lease_ledger::drivers::sandbox::SandboxDriver;
use lease_ledger::drivers::sandbox::fake::Trouble;
use lease_ledger::drivers::{Drivers, EnvironmentDriver};
use serde_json::{Value, json};

use super::audit::leases;
use super::listing::{Declared, Listing};
use crate::support::world::{Doom, World};
use crate::support::{Bench, acquire_request, caller, company, fake, run};

fn drivers_of(world: &World, declared: Declared) -> Drivers {
    let provider = Listing { inner: world.provider.clone(), declared };
    Drivers::new([Arc::new(SandboxDriver::new([Arc::new(provider) as _])) as Arc<dyn EnvironmentDriver>])
}

/// A process that dies in an acquire of a run, at this step.
async fn dies(world: &World, declared: Declared, config: Value, step: Step, side: Side) -> LeaseId {
    let doom = Doom::at(CrashPoint { step, side }, 1);
    let bench = world.start_with(&doom, drivers_of(world, declared));
    let environment = bench.environment("one", fake(config)).await.environment_id;
    let acquire = tokio::spawn({
        let ledger = bench.ledger.clone();
        async move { ledger.acquire(caller().with_key("first"), acquire_request(environment, Some(run(1)))).await }
    });
    doom.struck().await;
    acquire.abort();
    world.bury(&doom);
    let survivor = world.start(&Arc::default());
    leases(&survivor).await.first().expect("its intent is there").lease_id
}

async fn dids(bench: &Bench) -> Vec<&'static str> {
    let reports = bench.ledger.recover().await.expect("a pass");
    reports.iter().flat_map(|named| &named.report.rows).map(|row| row.did.map_or("failed", Did::as_str)).collect()
}

fn survivor(world: &World, declared: Declared) -> Bench {
    world.start_with(&Arc::default(), drivers_of(world, declared))
}

/// field: verifiers#2406: the provider commits before the reply: found by asking again, and the run has it.
#[tokio::test(start_paused = true)]
async fn field_verifiers_2406_committed_before_the_reply() {
    for side in [Side::Before, Side::After] {
        let world = World::new();
        let declared = Declared::default();
        let lease_id = dies(&world, declared, json!({}), Step::AcquireEffect, side).await;
        let bench = survivor(&world, declared);
        assert_eq!(dids(&bench).await, ["adopted"]);
        let lease = bench.lease(lease_id).await;
        assert_eq!((lease.status, bench.held()), (LeaseStatus::Active, 1));
        assert_eq!(bench.story(lease_id).await, ["requested", "effect-unknown", "provider-acquired"]);
        // The caller comes back with its key, and has the same lease.
        let request = acquire_request(lease.environment_id, Some(run(1)));
        let answer = bench.ledger.acquire(caller().with_key("first"), request).await.expect("the same");
        assert_eq!((answer.lease.lease_id, bench.held()), (lease_id, 1));
        assert!(dids(&bench).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lives_is_not_robbed_before_its_time() {
    let world = World::new();
    let doom = Arc::<Doom>::default();
    let slow = world.start(&doom);
    let environment = slow.environment("slow", fake(json!({ "acquireDelayMs": 20_000 }))).await.environment_id;
    let acquire = tokio::spawn(async move { slow.acquire(environment, run(1)).await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    let other = world.start(&Arc::default());
    assert!(dids(&other).await.is_empty());
    assert_eq!(leases(&other).await[0].status, LeaseStatus::Requested);
    assert!(acquire.await.expect("no panic").is_ok());
}

/// A stalled owner is overtaken after its time, and its late answer is recorded lawfully: it finds the lease adopted.
#[tokio::test(start_paused = true)]
async fn a_late_append_of_a_stalled_owner_does_no_harm() {
    let world = World::new();
    let slow = world.start(&Arc::default());
    let config = fake(json!({ "acquireDelayMs": 20_000 }));
    let environment = slow.environment("slow", config).await.environment_id;
    let acquire = tokio::spawn(async move { slow.acquire(environment, run(1)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let other = world.start(&Arc::default());
    // The wall clock passes the deadline, while the owner's own timer does not.
    world.clock.skip(TimeDelta::hours(1));
    assert_eq!(dids(&other).await, ["adopted"]);
    let answer = acquire.await.expect("no panic").expect("what recovery found is its answer");
    assert_eq!((answer.lease.status, other.held()), (LeaseStatus::Active, 1));
    let told = ["requested", "effect-unknown", "provider-acquired"];
    assert_eq!(other.story(answer.lease.lease_id).await, told);
}

/// Two that find the same broken off acquire at once: one asks the provider, and the other leaves it alone.
#[tokio::test(start_paused = true)]
async fn one_process_at_a_time_asks_a_provider_again() {
    let world = World::new();
    let slow = json!({ "acquireDelayMs": 5_000 });
    let lease_id = dies(&world, Declared::default(), slow, Step::AcquireEffect, Side::After).await;
    let (one, other) = (survivor(&world, Declared::default()), survivor(&world, Declared::default()));
    let (one, other) = tokio::join!(dids(&one), dids(&other));
    assert_eq!([one, other].concat(), ["adopted"]);
    let survivor = survivor(&world, Declared::default());
    assert_eq!(survivor.story(lease_id).await, ["requested", "effect-unknown", "provider-acquired"]);
}

/// One that dies while it asks again leaves it to the next, which need not wait.
#[tokio::test(start_paused = true)]
async fn whoever_dies_while_it_asks_again_is_followed_at_once() {
    let world = World::new();
    let lease_id = dies(&world, Declared::default(), json!({}), Step::AcquireEffect, Side::After).await;
    let doom = Doom::at(CrashPoint { step: Step::SettleEffect, side: Side::After }, 1);
    let dying = world.start(&doom);
    let pass = tokio::spawn(async move { dying.ledger.recover().await });
    doom.struck().await;
    pass.abort();
    world.bury(&doom);
    let bench = world.start(&Arc::default());
    assert_eq!(dids(&bench).await, ["adopted"]);
    let told = ["requested", "effect-unknown", "effect-unknown", "provider-acquired"];
    assert_eq!(bench.story(lease_id).await, told);
}

/// field: proliferate#1280, verifiers#2406: the run ended while its acquire was broken off: what is found is released.
#[tokio::test(start_paused = true)]
async fn field_proliferate_1280_what_nobody_wants_any_more_is_released() {
    let world = World::new();
    let declared = Declared::default();
    let lease_id = dies(&world, declared, json!({}), Step::AcquireEffect, Side::After).await;
    let bench = survivor(&world, declared);
    let request = ReleaseRunRequest { company_id: company(), run_id: run(1), status: ReleaseStatus::Released };
    bench.ledger.release_run(caller(), request).await.expect("remembered");
    assert_eq!(dids(&bench).await, ["finished"]);
    let lease = bench.lease(lease_id).await;
    assert_eq!((lease.status, lease.cleanup_status), (LeaseStatus::Released, Some(CleanupStatus::Success)));
    assert_eq!(bench.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_ad_hoc_lease_that_nobody_can_end_is_not_adopted() {
    let world = World::new();
    let doom = Doom::at(CrashPoint { step: Step::AcquireEffect, side: Side::After }, 1);
    let bench = world.start(&doom);
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    let acquire = tokio::spawn(async move { bench.ledger.acquire(caller(), acquire_request(environment, None)).await });
    doom.struck().await;
    acquire.abort();
    world.bury(&doom);
    let bench = world.start(&Arc::default());
    assert_eq!(dids(&bench).await, ["finished"]);
    let lease = leases(&bench).await.remove(0);
    assert_eq!((lease.status, lease.end_reason), (LeaseStatus::Failed, Some(Reason::RecoverySettled)));
    assert_eq!(bench.held(), 0);
}

/// field: crabbox#215: the machine appears after the client gave up: found in the listing, by its label.
#[tokio::test(start_paused = true)]
async fn field_crabbox_215_the_late_create_is_found_by_its_label() {
    let declared = Declared { idempotent: false, ..Declared::default() };
    let world = World::new();
    let lease_id = dies(&world, declared, json!({}), Step::AcquireEffect, Side::After).await;
    let bench = survivor(&world, declared);
    assert_eq!(dids(&bench).await, ["adopted"]);
    assert_eq!((bench.lease(lease_id).await.status, bench.held()), (LeaseStatus::Active, 1));
    assert_eq!(bench.provider.calls(Effect::Acquire), 1, "it was not asked for again");
}

/// An empty listing proves nothing while a create may be under way; only the second one, after its delay, does.
#[tokio::test(start_paused = true)]
async fn absence_counts_only_after_the_visibility_delay_and_twice() {
    let declared = Declared { idempotent: false, visibility: Duration::from_secs(30), ..Declared::default() };
    let world = World::new();
    let lease_id = dies(&world, declared, json!({}), Step::AcquireEffect, Side::Before).await;
    let bench = survivor(&world, declared);
    assert_eq!(dids(&bench).await, ["still-unknown"]);
    let deadline = bench.lease(lease_id).await.next_action.and_then(|next| next.at).expect("it is due again");
    assert!(deadline - bench.clock.now() > TimeDelta::seconds(60), "not before the request's own time is over");
    bench.ledger.start_recovery();
    tokio::time::sleep((deadline - bench.clock.now()).to_std().expect("ahead") + Duration::from_secs(1)).await;
    let lease = bench.lease(lease_id).await;
    assert_eq!(
        (lease.status, lease.next_action.map(|next| next.action)),
        (LeaseStatus::EffectUnknown, Some(NextActionKind::SettleAcquire))
    );
    tokio::time::sleep(Duration::from_secs(31)).await;
    let lease = bench.lease(lease_id).await;
    assert_eq!((lease.status, lease.end_reason), (LeaseStatus::Failed, Some(Reason::RecoverySettled)));
    let told = ["requested", "effect-unknown", "effect-unknown", "acquire-failed"];
    assert_eq!(bench.story(lease_id).await, told);
}

#[tokio::test(start_paused = true)]
async fn where_the_provider_cannot_tell_an_operator_must_look() {
    let cannot_list = Declared { idempotent: false, lists: false, ..Declared::default() };
    let cannot_confirm = Declared { idempotent: false, confirms: false, ..Declared::default() };
    for declared in [cannot_list, cannot_confirm] {
        let world = World::new();
        let lease_id = dies(&world, declared, json!({}), Step::AcquireEffect, Side::Before).await;
        let bench = survivor(&world, declared);
        bench.ledger.start_recovery();
        tokio::time::sleep(Duration::from_mins(5)).await;
        let lease = bench.lease(lease_id).await;
        assert_eq!((lease.status, lease.needs_attention), (LeaseStatus::EffectUnknown, true), "{declared:?}");
        assert_eq!(bench.ledger.read_model().count_needing_attention().await, Ok(1));
        let wait = lease.next_action.and_then(|next| next.at).expect("still looked at daily") - bench.clock.now();
        assert!(wait > TimeDelta::hours(11), "{wait}");
    }
}

/// field: paperclip#11347: an unavailable provider burns no tries, and is asked less and less often.
#[tokio::test(start_paused = true)]
async fn a_driver_that_is_not_there_is_waited_for() {
    let world = World::new();
    let lease_id = dies(&world, Declared::default(), json!({}), Step::AcquireEffect, Side::After).await;
    let without = world.start_with(&Arc::default(), Drivers::new([]));
    without.ledger.start_recovery();
    without.hours(5).await;
    let lease = without.lease(lease_id).await;
    assert_eq!((lease.cleanup_attempts, lease.needs_attention), (0, false));
    let tries = without.story(lease_id).await.len();
    assert!((4..30).contains(&tries), "{tries}");
    without.ledger.stop().await;
    let bench = survivor(&world, Declared::default());
    bench.ledger.start_recovery();
    bench.hours(2).await;
    assert_eq!((bench.lease(lease_id).await.status, bench.held()), (LeaseStatus::Active, 1));
}

/// field: agent-sandbox#418, paperclip#5954: whatever dies between claim and decision, one lease has the sandbox.
#[tokio::test(start_paused = true)]
async fn field_agent_sandbox_418_a_claim_without_a_decision_is_decided() {
    for (step, side) in
        [(Step::AcquireClaim, Side::After), (Step::AcquireDecision, Side::After), (Step::AcquireResume, Side::After)]
    {
        let world = World::new();
        let doom = Doom::at(CrashPoint { step, side }, 1);
        let bench = world.start(&doom);
        let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
        let first = bench.acquire(environment, run(1)).await.expect("acquired").lease;
        bench.release(&first, ReleaseStatus::Released).await.expect("kept");
        let acquire = tokio::spawn(async move { bench.acquire(environment, run(2)).await });
        doom.struck().await;
        acquire.abort();
        world.bury(&doom);
        let bench = world.start(&Arc::default());
        assert_eq!(dids(&bench).await, ["adopted"], "{step:?}");
        let second = leases(&bench).await.remove(0);
        assert_eq!((second.status, second.resumed_from), (LeaseStatus::Active, Some(first.lease_id)));
        assert_eq!(second.provider_lease_id(), first.provider_lease_id());
        assert!(second.fencing_token() > first.fencing_token());
        assert_eq!(bench.held(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_resume_fails_goes_back_and_is_kept() {
    let world = World::new();
    let doom = Doom::at(CrashPoint { step: Step::AcquireResume, side: Side::Before }, 1);
    let bench = world.start(&doom);
    let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let first = bench.acquire(environment, run(1)).await.expect("acquired").lease;
    bench.release(&first, ReleaseStatus::Released).await.expect("kept");
    let acquire = tokio::spawn(async move { bench.acquire(environment, run(2)).await });
    doom.struck().await;
    acquire.abort();
    world.bury(&doom);
    let bench = world.start(&Arc::default());
    bench.provider.inject(Effect::Resume, Trouble::Refused);
    assert_eq!(dids(&bench).await, ["given-back"]);
    let kept = bench.lease(first.lease_id).await;
    assert_eq!((kept.status, kept.keeps_something()), (LeaseStatus::Retained, true));
    assert_eq!(leases(&bench).await[0].status, LeaseStatus::Failed);
    assert_eq!(bench.held(), 1);
}

/// field: proliferate#1264: a kill that was queued when the server stopped is done by the next one.
#[tokio::test(start_paused = true)]
async fn field_proliferate_1264_a_release_under_way_is_run_again() {
    for (step, side) in [(Step::ReleaseIntent, Side::After), (Step::ReleaseEffect, Side::After)] {
        let world = World::new();
        let doom = Doom::at(CrashPoint { step, side }, 1);
        let bench = world.start(&doom);
        let environment = bench.environment("one", fake(json!({}))).await.environment_id;
        let lease = bench.acquire(environment, run(1)).await.expect("acquired").lease;
        let lease_id = lease.lease_id;
        let release = tokio::spawn(async move { bench.release(&lease, ReleaseStatus::Released).await });
        doom.struck().await;
        release.abort();
        world.bury(&doom);
        let bench = world.start(&Arc::default());
        assert_eq!(dids(&bench).await, ["finished"]);
        let lease = bench.lease(lease_id).await;
        assert_eq!((lease.status, lease.cleanup_status), (LeaseStatus::Released, Some(CleanupStatus::Success)));
        assert_eq!((bench.held(), lease.end_reason), (0, Some(Reason::HolderReleased)));
    }
}

/// A provider that cannot tell is asked nothing; what it answers late settles the lease all the same.
#[tokio::test(start_paused = true)]
async fn a_late_answer_settles_what_nothing_else_could() {
    let nothing = Declared { idempotent: false, lists: false, confirms: false, ..Declared::default() };
    for is_released in [false, true] {
        let world = World::new();
        let bench = survivor(&world, nothing);
        let environment = bench.environment("late", fake(json!({}))).await.environment_id;
        bench.provider.inject(Effect::Acquire, Trouble::UnknownAfter);
        bench.acquire(environment, run(1)).await.expect_err("nobody knows");
        assert_eq!(dids(&bench).await, ["escalated"]);
        let lease = leases(&bench).await.pop().expect("its intent is there");
        assert_eq!((lease.status, lease.needs_attention), (LeaseStatus::EffectUnknown, true));
        if is_released {
            let request = ReleaseRunRequest { company_id: company(), run_id: run(1), status: ReleaseStatus::Released };
            bench.ledger.release_run(caller(), request).await.expect("remembered");
        }
        let made = format!("sandbox://fake/{}", lease.lease_id);
        let (status, held) = if is_released { (LeaseStatus::Released, 0) } else { (LeaseStatus::Active, 1) };
        // Twice: the second says nothing new.
        let mut before = None;
        for _ in 0..2 {
            tell_late(&bench, (lease.lease_id, made.clone())).await;
            let lease = bench.lease(lease.lease_id).await;
            assert_eq!((lease.status, lease.needs_attention, bench.held()), (status, false, held));
            let position = bench.ledger.head().await.expect("a position");
            assert_eq!(before.replace(position).unwrap_or(position), position);
        }
    }
}

/// Tells a late answer, and waits until it is settled.
async fn tell_late(bench: &Bench, answer: (LeaseId, String)) {
    let (settled, told) = tokio::sync::oneshot::channel();
    let next = futures_util::stream::once(async move {
        settled.send(()).expect("somebody waits");
        std::future::pending().await
    });
    bench.ledger.settle_late(futures_util::stream::iter([answer]).chain(next).boxed());
    told.await.expect("the next answer is asked for");
}
