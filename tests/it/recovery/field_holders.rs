//! What the field saw of holders: two of one sandbox, the wrong one, a stale one, one that was asked twice. Each test is
//! named after its report.

use chrono::TimeDelta;
use lease_events::id::CompanyId;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, Policy, ReleaseStatus};
use lease_events::seam::Clock;
use lease_ledger::commands::acquire::{AcquireAnswer, AcquireRequest, AcquiredHow};
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::environment::update::UpdateEnvironment;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::renew::RenewRequest;
use lease_ledger::commands::resume::ResumeRequest;
use lease_ledger::drivers::sandbox::fake::Trouble;
use serde_json::{Value, json};

use super::audit::leases;
use crate::support::world::World;
use crate::support::{Bench, acquire_request, caller, company, fake, operator, release_request, run};

/// What run 1 held and left, ready to be taken over.
async fn left(bench: &Bench, config: Value) -> LeaseState {
    let environment = bench.environment("one", fake(config)).await.environment_id;
    let lease = bench.acquire(environment, run(1)).await.expect("acquired").lease;
    bench.release(&lease, ReleaseStatus::Released).await.expect("released")
}

fn holder(fencing_token: u64) -> Authority {
    Authority::Holder { fencing_token }
}

fn destroy(lease: &LeaseState, authority: Option<Authority>) -> DestroyRequest {
    DestroyRequest { company_id: None, lease_id: lease.lease_id, authority, if_revision: None }
}

fn renew(bench: &Bench, lease: &LeaseState, authority: Option<Authority>) -> RenewRequest {
    let expires_at = bench.clock.now() + TimeDelta::hours(1);
    RenewRequest { company_id: None, lease_id: lease.lease_id, authority, if_revision: None, expires_at }
}

/// Gives the environment of a lease another config.
async fn reconfigure(bench: &Bench, lease: &LeaseState, config: Value) {
    let (company_id, environment_id) = (company(), lease.environment_id);
    let update = UpdateEnvironment { company_id, environment_id, config: fake(config), if_revision: None };
    bench.ledger.update_environment(caller(), update).await.expect("updated");
}

/// A lock without a revision check is no lock: processes that share nothing but the store claim one sandbox at once.
#[tokio::test(start_paused = true)]
async fn field_etcd_11456_a_claim_needs_the_revision_it_was_decided_on() {
    let world = World::new();
    let processes: Vec<Bench> = (0..8).map(|_| world.start(&std::sync::Arc::default())).collect();
    let config = json!({ "reuseLease": true, "resumeDelayMs": 3, "acquireDelayMs": 3 });
    let first = left(&processes[0], config).await;
    let acquires = (2..).zip(&processes).map(|(number, bench)| bench.acquire(first.environment_id, run(number)));
    let answers: Vec<AcquireAnswer> = futures_util::future::try_join_all(acquires).await.expect("acquired");
    let reused = answers.iter().filter(|answer| answer.how == AcquiredHow::Reused).count();
    let of_the_first = answers.iter().filter(|answer| answer.lease.provider_lease_id() == first.provider_lease_id());
    assert_eq!((reused, of_the_first.count(), processes[0].held()), (1, 1, 8));
}

/// Two runs in one checkout: what a run holds is no candidate for another, however well it matches.
#[tokio::test(start_paused = true)]
async fn field_paperclip_7852_what_a_run_holds_is_given_to_no_other() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true })).await;
    let second = bench.acquire(first.environment_id, run(2)).await.expect("acquired");
    let third = bench.acquire(first.environment_id, run(3)).await.expect("acquired");
    assert_eq!((second.how, third.how), (AcquiredHow::Reused, AcquiredHow::Fresh));
    assert_ne!(second.lease.provider_lease_id(), third.lease.provider_lease_id());
    bench.release(&second.lease, ReleaseStatus::Released).await.expect("released");
    let fourth = bench.acquire(first.environment_id, run(4)).await.expect("acquired");
    assert_eq!(fourth.lease.provider_lease_id(), first.provider_lease_id());
}

/// A claim without its tenant in the key got another tenant's warm pod.
#[tokio::test(start_paused = true)]
async fn field_decocms_studio_5846_another_tenants_sandbox_is_never_a_candidate() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true })).await;
    let stranger = CompanyId::derived(&["stranger"]);
    let config = fake(json!({ "reuseLease": true }));
    let request =
        CreateEnvironment { company_id: stranger, name: "one".to_owned(), driver: "sandbox".to_owned(), config };
    let theirs = bench.ledger.create_environment(caller(), request).await.expect("created").environment_id;
    // The same run, name, driver and config: only the tenant differs.
    let request = AcquireRequest { company_id: stranger, ..acquire_request(theirs, Some(run(2))) };
    let answer = bench.ledger.acquire(caller(), request).await.expect("acquired");
    assert_eq!(answer.how, AcquiredHow::Fresh);
    assert_ne!(answer.lease.provider_lease_id(), first.provider_lease_id());
    let why = bench.ledger.why(answer.lease.lease_id, None).await.expect("why");
    assert!(why.decisions.iter().all(|(_, decision)| decision.candidates.is_empty()), "{why:?}");
    let through_ours = AcquireRequest { company_id: stranger, ..acquire_request(first.environment_id, Some(run(3))) };
    let error = bench.ledger.acquire(caller(), through_ours).await.expect_err("not theirs");
    assert_eq!(error.code(), "unknown-environment");
    let ours = bench.acquire(first.environment_id, run(4)).await.expect("acquired");
    assert_eq!(ours.lease.provider_lease_id(), first.provider_lease_id(), "it was there to be had");
}

/// The reuse flag is flipped while a lease is held, both ways: the resource can be ended all the same.
#[tokio::test(start_paused = true)]
async fn field_paperclip_10264_a_flipped_reuse_flag_leaves_nothing_that_cannot_be_destroyed() {
    for (before, after) in [(true, false), (false, true)] {
        let bench = Bench::new();
        let environment = bench.environment("one", fake(json!({ "reuseLease": before }))).await.environment_id;
        let lease = bench.acquire(environment, run(1)).await.expect("acquired").lease;
        reconfigure(&bench, &lease, json!({ "reuseLease": after })).await;
        let released = bench.release(&lease, ReleaseStatus::Released).await.expect("released");
        assert_eq!((released.is_reusable(), bench.held()), (before, usize::from(before)));
        let destroyed = bench.ledger.destroy(caller(), destroy(&lease, Some(operator()))).await.expect("destroyed");
        assert_eq!((destroyed.cleanup_status, bench.held()), (Some(CleanupStatus::Success), 0));
    }
}

/// A new policy is for new leases: what was given under the old one ends by the old one.
#[tokio::test(start_paused = true)]
async fn field_rock_1263_a_new_policy_is_not_applied_to_old_leases() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "leasePolicy": "retain_on_failure" }))).await;
    let old = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    reconfigure(&bench, &old, json!({ "leasePolicy": "ephemeral", "expiresInMs": 1_000 })).await;
    let new = bench.acquire(environment.environment_id, run(2)).await.expect("acquired").lease;
    bench.ledger.start_recovery();
    bench.hours(1).await;
    let (old, new) = (bench.lease(old.lease_id).await, bench.lease(new.lease_id).await);
    assert_eq!((old.status, old.expires_at, old.policy), (LeaseStatus::Active, None, Policy::RetainOnFailure));
    assert_eq!((new.status, new.policy), (LeaseStatus::Expired, Policy::Ephemeral));
    let ended = bench.release(&old, ReleaseStatus::Failed).await.expect("released");
    assert_eq!((ended.status, bench.held()), (LeaseStatus::Retained, 1));
}

/// A worker that keeps its name stalls, and is replaced under the same name: the token tells the two apart.
#[tokio::test(start_paused = true)]
async fn field_aegra_547_a_stalled_worker_neither_extends_nor_strips_its_replacement() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "leasePolicy": "retain_on_failure" }))).await;
    let stalled = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    let retained = bench.release(&stalled, ReleaseStatus::Failed).await.expect("released");
    let resume =
        ResumeRequest { company_id: None, lease_id: retained.lease_id, authority: Some(operator()), if_revision: None };
    let replacement = bench.ledger.resume(caller(), resume).await.expect("resumed");
    assert_eq!((stalled.fencing_token(), replacement.fencing_token()), (Some(1), Some(2)));
    // The same lease and the same name, with the token of before.
    let extended = bench.ledger.renew(caller(), renew(&bench, &stalled, Some(holder(1)))).await.expect_err("stale");
    let stripped = bench.release(&stalled, ReleaseStatus::Released).await.expect_err("stale");
    assert_eq!((extended.code(), stripped.code()), ("stale-fencing-token", "stale-fencing-token"));
    let now = bench.lease(stalled.lease_id).await;
    assert_eq!((now.status, now.revision, bench.held()), (LeaseStatus::Active, replacement.revision, 1));
    bench.ledger.renew(caller(), renew(&bench, &replacement, Some(holder(2)))).await.expect("its own");
}

/// The stale one of two provisions cleans up behind itself, and would delete what the new one uses.
#[tokio::test(start_paused = true)]
async fn field_agent_workspace_fabric_423_the_stale_provision_deletes_nothing_of_the_new_one() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true })).await;
    let second = bench.acquire(first.environment_id, run(2)).await.expect("acquired").lease;
    assert_eq!(second.provider_lease_id(), first.provider_lease_id());
    for authority in [Some(holder(1)), Some(operator())] {
        let error = bench.ledger.destroy(caller(), destroy(&first, authority)).await.expect_err("it was handed over");
        assert!(matches!(error, CommandError::HandedOver { .. }), "{error}");
    }
    let error = bench.ledger.destroy(caller(), destroy(&second, Some(holder(1)))).await.expect_err("stale");
    assert_eq!(error.code(), "stale-fencing-token");
    assert_eq!((bench.provider.calls(Effect::Destroy), bench.held()), (0, 1));
}

/// A pause that was queued hits what has been resumed since: a late release of the lease before does nothing.
#[tokio::test(start_paused = true)]
async fn field_cubesandbox_1683_a_queued_release_does_not_hit_what_was_resumed_since() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await.environment_id;
    let first = bench.acquire(environment, run(1)).await.expect("acquired").lease;
    let queued = release_request(first.lease_id, Some(holder(1)), ReleaseStatus::Released);
    bench.ledger.release(caller(), queued.clone()).await.expect("released");
    let second = bench.acquire(environment, run(2)).await.expect("acquired").lease;
    assert_eq!(second.provider_lease_id(), first.provider_lease_id());
    // It comes again, as it was queued, and under the name of the lease that holds the sandbox now.
    let _ = bench.ledger.release(caller(), queued).await;
    let misdirected = release_request(second.lease_id, Some(holder(1)), ReleaseStatus::Released);
    let error = bench.ledger.release(caller(), misdirected).await.expect_err("stale");
    assert_eq!((error.code(), bench.provider.calls(Effect::Release)), ("stale-fencing-token", 1));
    assert_eq!((bench.lease(second.lease_id).await.status, bench.held()), (LeaseStatus::Active, 1));
}

/// Acknowledged before its write, 5 % of resumes conflicted: here what was answered is what the next command meets.
#[tokio::test(start_paused = true)]
async fn field_superserve_384_a_resume_right_behind_a_release_never_conflicts() {
    let world = World::new();
    let processes = [world.start(&std::sync::Arc::default()), world.start(&std::sync::Arc::default())];
    let first = left(&processes[0], json!({ "reuseLease": true })).await;
    for number in 2..102 {
        // Released through one process, resumed through the other.
        let (one, other) = (&processes[number as usize % 2], &processes[(number as usize + 1) % 2]);
        let answer = one.acquire(first.environment_id, run(number)).await.expect("no conflict");
        assert_eq!(answer.how, AcquiredHow::Reused, "{number}");
        other.release(&answer.lease, ReleaseStatus::Released).await.expect("no conflict");
    }
    assert_eq!((processes[0].held(), leases(&processes[0]).await.len()), (1, 101));
}

/// The loser of a resume made a duplicate: one run that asks twice at once has one sandbox, by both answers.
#[tokio::test(start_paused = true)]
async fn field_cubeplex_156_the_loser_of_a_resume_creates_no_duplicate() {
    let bench = Bench::new();
    let first = left(&bench, json!({ "reuseLease": true, "resumeDelayMs": 1_000 })).await;
    let ask = || bench.acquire(first.environment_id, run(2));
    let (one, other) = tokio::join!(ask(), ask());
    let (one, other) = (one.expect("acquired").lease, other.expect("acquired").lease);
    assert_eq!((one.lease_id, one.provider_lease_id()), (other.lease_id, first.provider_lease_id()));
    assert_eq!((bench.held(), bench.provider.calls(Effect::Acquire)), (1, 1));
}

/// The key changed on the retry: what the ledger asks a provider again for is asked under the name of the first time.
#[tokio::test(start_paused = true)]
async fn field_prime_678_what_is_asked_again_is_asked_under_the_same_key() {
    let bench = Bench::new();
    let environment = bench.environment("one", fake(json!({}))).await.environment_id;
    bench.provider.inject(Effect::Acquire, Trouble::UnknownAfter);
    let error = bench.acquire(environment, run(1)).await.expect_err("nobody knows");
    assert_eq!((error.code(), bench.held()), ("outcome-unknown", 1));
    let made = bench.provider.held().expect("memory reads").remove(0).provider_lease_id();
    bench.ledger.start_recovery();
    bench.hours(2).await;
    assert_eq!((bench.provider.calls(Effect::Acquire), bench.held()), (2, 1));
    let lease = leases(&bench).await.remove(0);
    assert_eq!((lease.status, lease.provider_lease_id()), (LeaseStatus::Active, Some(made.as_str())));
}
