//! The whole ledger under a simulated clock, seeded: many runs at once against a provider that fails at random.
//! Determinism first: the same seed gives the same log, byte for byte. Then the promises, for every seed.

use std::collections::BTreeSet;
use std::time::Duration;

use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, ReleaseStatus};
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::READ_EVENTS_MAX;
use lease_ledger::drivers::sandbox::fake::{Thing, Trouble};
use lease_projections::read_model::LeaseFilter;
use serde_json::json;

use crate::support::{Bench, caller, company, fake, run};

/// `SplitMix64`: a few lines that give the same numbers for ever, which is all that a simulation asks of them.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).expect("below a length")]
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One agent's run: waits, acquires, works, and ends by release of its lease, of itself, or not at all.
async fn live(bench: &Bench, environment: lease_events::id::EnvironmentId, number: u32, seed: u64) {
    let mut random = Seeded(seed ^ u64::from(number));
    for step in 0..4 {
        tokio::time::sleep(Duration::from_millis(random.below(200))).await;
        let trouble = [Trouble::None, Trouble::None, Trouble::NotDone, Trouble::UnknownAfter, Trouble::Gone];
        let effect = [Effect::Acquire, Effect::Resume, Effect::Release, Effect::Destroy];
        let (trouble, effect) = (random.pick(&trouble), random.pick(&effect));
        if trouble != Trouble::Gone || effect != Effect::Acquire {
            bench.provider.inject(effect, trouble);
        }
        let run_id = run(number * 10 + step);
        let patience = Duration::from_millis(20 + random.below(400));
        let acquired = tokio::time::timeout(patience, bench.acquire(environment, run_id)).await;
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
        match (acquired, random.below(4)) {
            (Ok(Ok(answer)), 0 | 1) => {
                let _ = bench.release(&answer.lease, ReleaseStatus::Released).await;
            }
            (_, 3) => {}
            _ => {
                let request = lease_ledger::commands::release_run::ReleaseRunRequest {
                    company_id: company(),
                    run_id,
                    status: if step == 0 { ReleaseStatus::Failed } else { ReleaseStatus::Released },
                };
                bench.ledger.release_run(caller(), request).await.expect("a run is always released");
            }
        }
    }
}

/// Runs the simulation to its end, and answers its log and its leases.
fn simulate(seed: u64) -> (Vec<RecordedEvent>, Vec<LeaseState>, BTreeSet<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let bench = Bench::new();
        let config = json!({ "reuseLease": true, "acquireDelayMs": 60, "resumeDelayMs": 25, "releaseDelayMs": 15 });
        let environment = bench.environment("shared", fake(config)).await.environment_id;
        let runs = (0..12).map(|number| live(&bench, environment, number, seed));
        futures_util::future::join_all(runs).await;
        tokio::time::sleep(Duration::from_mins(2)).await;
        let log = bench.ledger.events(Position::START, READ_EVENTS_MAX).await.expect("the log");
        let filter = LeaseFilter { limit: 1_000, ..LeaseFilter::default() };
        let leases = bench.ledger.read_model().leases(&filter).await.expect("leases");
        let held = bench.provider.held().expect("memory").iter().map(Thing::provider_lease_id).collect();
        (log, leases, held)
    })
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let (first, ..) = simulate(7);
    let (second, ..) = simulate(7);
    assert!(first.len() > 100, "{}", first.len());
    assert_eq!(first, second);
}

#[test]
fn nothing_leaks_and_nothing_has_two_holders_for_any_seed() {
    for seed in 0..40 {
        let (log, leases, held) = simulate(seed);
        // Whoever may still have something at the provider, by the ledger's own account.
        let mut accounted = BTreeSet::new();
        let mut holders = BTreeSet::new();
        for lease in &leases {
            let owes = lease.keeps_something() || lease.status.is_open();
            if let Some(id) = lease.provider_lease_id().filter(|_| owes) {
                accounted.insert(id.to_owned());
                assert!(lease.status != LeaseStatus::Active || holders.insert(id.to_owned()), "seed {seed}: {id}");
            }
            if lease.status == LeaseStatus::EffectUnknown {
                accounted.insert(format!("sandbox://fake/{}", lease.lease_id));
            }
            assert!(
                lease.cleanup_status != Some(CleanupStatus::Failed) || lease.next_action.is_some(),
                "seed {seed}: a cleanup that is owed is due: {lease:?}"
            );
        }
        let leaked: Vec<_> = held.difference(&accounted).collect();
        assert!(leaked.is_empty(), "seed {seed}: {leaked:?}");
        let gap_free = log.iter().enumerate().all(|(index, recorded)| recorded.position.0 == index as u64 + 1);
        assert!(gap_free, "seed {seed}");
    }
}
