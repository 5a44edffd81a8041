//! Processes that stall beyond their deadline and wake: what they do then neither leaks nor strands anything.

use std::sync::Arc;

use chrono::TimeDelta;
use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::{Effect, LeaseStatus, ReleaseStatus};
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_ledger::commands::upkeep::Did;
use lease_ledger::drivers::sandbox::fake::Trouble;
use serde_json::json;

use super::audit::{audit, log};
use crate::support::world::{Doom, World};
use crate::support::{Bench, acquire_request, caller, fake, run};

async fn dids(bench: &Bench) -> Vec<&'static str> {
    let reports = bench.ledger.recover().await.expect("a pass");
    reports.iter().flat_map(|named| &named.report.rows).map(|row| row.did.map_or("failed", Did::as_str)).collect()
}

/// A kept sandbox that is claimed by a lease which was settled before, by a process that has died since; answers the lease
/// that keeps it.
pub(super) async fn stray_claim(world: &World) -> LeaseId {
    let doom = Doom::at(CrashPoint { step: Step::AcquireClaim, side: Side::After }, 1);
    let stalls = world.start(&doom);
    let environment = stalls.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let kept = stalls.acquire(environment, run(1)).await.expect("acquired").lease;
    stalls.release(&kept, ReleaseStatus::Released).await.expect("kept");
    doom.stall_at("lease-reuse-claimed");
    let acquire = tokio::spawn(async move { stalls.acquire(environment, run(2)).await });
    doom.stalled().await;
    let bench = world.start(&Arc::default());
    world.clock.skip(TimeDelta::hours(1));
    assert_eq!(dids(&bench).await, ["adopted"]);
    doom.go_on();
    doom.struck().await;
    acquire.abort();
    kept.lease_id
}

/// It stalls right before its claim, its acquire is settled without one, it claims, and dies before it notices: the claim
/// is by a lease that will never take over. What it claimed is there for the next run, under a higher token.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_too_late_goes_back_when_its_process_dies() {
    let world = World::new();
    let kept = stray_claim(&world).await;
    let bench = world.start(&Arc::default());
    let claimed = bench.lease(kept).await;
    assert!(claimed.is_claimed_away() && !claimed.is_reusable());
    // Whether the process that made it is dead does not matter: its lease is settled, and it holds something else.
    assert_eq!(dids(&bench).await, ["claim-returned"]);
    let returned = bench.lease(kept).await;
    assert!(returned.is_reusable());
    assert_eq!((returned.status, returned.claimed_by), (LeaseStatus::Released, None));
    assert!(dids(&bench).await.is_empty());

    let third = bench.acquire(returned.environment_id, run(3)).await.expect("acquired").lease;
    assert_eq!(third.resumed_from, Some(kept));
    assert_eq!(third.provider_lease_id(), returned.provider_lease_id());
    assert_eq!((returned.fencing_token(), third.fencing_token()), (Some(2), Some(3)));
    assert_eq!(bench.held(), 2);
    assert!(dids(&bench).await.is_empty());
    let log = log(&bench).await;
    audit(&bench, &log, "a late claim").await;
}

/// The same, but it lives: it gives back by itself what recovery may have given back before.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_too_late_is_given_back_once() {
    let world = World::new();
    let doom = Arc::<Doom>::default();
    let stalls = world.start(&doom);
    let environment = stalls.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let kept = stalls.acquire(environment, run(1)).await.expect("acquired").lease;
    stalls.release(&kept, ReleaseStatus::Released).await.expect("kept");
    doom.stall_at("lease-reuse-claimed");
    let acquire = tokio::spawn(async move { stalls.acquire(environment, run(2)).await });
    doom.stalled().await;
    let bench = world.start(&Arc::default());
    world.clock.skip(TimeDelta::hours(1));
    assert_eq!(dids(&bench).await, ["adopted"]);
    doom.stall_at("lease-released");
    doom.go_on();
    doom.stalled().await;
    assert_eq!(dids(&bench).await, ["claim-returned"]);
    doom.go_on();
    acquire.await.expect("no panic").expect_err("it took too long");
    assert!(bench.lease(kept.lease_id).await.is_reusable());
    let story = bench.story(kept.lease_id).await;
    assert_eq!(story.iter().filter(|event| *event == "released").count(), 2, "{story:?}");
    let log = log(&bench).await;
    audit(&bench, &log, "a late claim").await;
}

/// It stalls between its claim and its decision; recovery finds the claim and resumes the sandbox, so it is the lease's. What
/// wakes gives nothing back: the lease that kept the sandbox may not destroy it under its holder.
#[tokio::test(start_paused = true)]
async fn a_claim_that_recovery_has_taken_over_is_not_given_back() {
    let world = World::new();
    let doom = Arc::<Doom>::default();
    let stalls = world.start(&doom);
    let environment = stalls.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let kept = stalls.acquire(environment, run(1)).await.expect("acquired").lease;
    stalls.release(&kept, ReleaseStatus::Released).await.expect("kept");
    doom.stall_at("lease-reuse-decided");
    let acquire = tokio::spawn(async move { stalls.acquire(environment, run(2)).await });
    doom.stalled().await;
    let bench = world.start(&Arc::default());
    world.clock.skip(TimeDelta::hours(1));
    assert_eq!(dids(&bench).await, ["adopted"]);
    doom.go_on();
    acquire.await.expect("no panic").expect_err("it took too long");
    let claimed = bench.lease(kept.lease_id).await;
    assert!(claimed.is_claimed_away());
    let holder = bench.lease(claimed.claimed_by.expect("claimed")).await;
    assert_eq!((holder.status, holder.resumed_from), (LeaseStatus::Active, Some(kept.lease_id)));
    assert!(dids(&bench).await.is_empty());
    let log = log(&bench).await;
    audit(&bench, &log, "a claim that was taken over").await;
}

/// Its resume failed, and it stalls before it says so; recovery resumes the same sandbox, which is the lease's then.
#[tokio::test(start_paused = true)]
async fn a_failed_resume_of_a_stalled_take_over_takes_nothing_back() {
    let world = World::new();
    let doom = Arc::<Doom>::default();
    let stalls = world.start(&doom);
    let environment = stalls.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let kept = stalls.acquire(environment, run(1)).await.expect("acquired").lease;
    stalls.release(&kept, ReleaseStatus::Released).await.expect("kept");
    world.provider.inject(Effect::Resume, Trouble::NotDone);
    doom.stall_at("lease-reuse-decided");
    let acquire = tokio::spawn(async move { stalls.acquire(environment, run(2)).await });
    doom.stalled().await;
    // It goes on to its resume, and stalls before its second decision.
    doom.stall_at("lease-reuse-decided");
    doom.go_on();
    doom.stalled().await;
    let bench = world.start(&Arc::default());
    world.clock.skip(TimeDelta::hours(1));
    assert_eq!(dids(&bench).await, ["adopted"]);
    doom.go_on();
    acquire.await.expect("no panic").expect_err("it took too long");
    let claimed = bench.lease(kept.lease_id).await;
    let holder = bench.lease(claimed.claimed_by.expect("claimed")).await;
    assert_eq!((holder.status, holder.resumed_from), (LeaseStatus::Active, Some(kept.lease_id)));
    let log = log(&bench).await;
    audit(&bench, &log, "a failed resume that came late").await;
}

/// A key whose lease was adopted and is over, while its run has acquired again since: it is answered by what it made, and
/// makes nothing more.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_told_again_after_later_acquires_of_its_run_makes_nothing_more() {
    for still_held in [true, false] {
        let world = World::new();
        let doom = Doom::at(CrashPoint { step: Step::AcquireEffect, side: Side::After }, 1);
        let dying = world.start(&doom);
        let environment = dying.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
        let request = acquire_request(environment, Some(run(1)));
        tokio::select! {
            _ = dying.ledger.acquire(caller().with_key("first"), request.clone()) => panic!("it dies"),
            () = doom.struck() => {}
        }
        world.bury(&doom);
        let bench = world.start(&Arc::default());
        assert_eq!(dids(&bench).await, ["adopted"]);
        let later = async |key: &str| bench.ledger.acquire(caller().with_key(key), request.clone()).await;
        let adopted = later("second").await.expect("it is held").lease;
        bench.release(&adopted, ReleaseStatus::Released).await.expect("kept");
        let next = later("third").await.expect("acquired").lease;
        assert_eq!((adopted.generation, next.generation), (0, 1));
        if !still_held {
            bench.release(&next, ReleaseStatus::Released).await.expect("kept");
        }
        let before = (log(&bench).await.len(), bench.held());
        let told = later("first").await.expect("what it made").lease;
        assert_eq!(told.lease_id, adopted.lease_id, "{still_held}");
        // Nothing but that it was answered.
        assert_eq!((log(&bench).await.len(), bench.held()), (before.0 + 1, before.1));
    }
}
