//! What an acquire costs with 1,000 past leases and with a million, reuse look-up included; and whether memory stays
//! flat while the log grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::lease::vocabulary::ReleaseStatus;
use lease_events::store::EventStore;
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::caller::Caller;
use lease_ledger::commands::release::ReleaseRequest;
use serde_json::json;

use crate::parts::{Parts, fresh_run, open, percentile, resident_mib};
use crate::store::live_at_once;

/// Past leases of the small ledger.
const FEW: u64 = 1_000;
/// Acquires that are timed at each size.
const TIMED: usize = 1_000;
/// In how many steps each size is filled up to, memory printed after each.
const STEPS: u64 = 8;
/// Events of each lease that [`fill`] makes.
pub(crate) const EVENTS_A_LEASE: u64 = 6;
/// Who fill the log at once.
const FILLERS: u64 = 128;

/// Prints the times and their ratio.
pub(crate) async fn measure() {
    let many = crate::leases_wanted();
    println!("an acquire with reuse, after {FEW} and after {many} past leases of six events each");
    println!("{:>12}{:>14}{:>12}{:>12}{:>12}", "past leases", "events", "p50", "p99", "memory");
    let folder = tempfile::tempdir().expect("a folder");
    let parts = open(folder.path()).await;
    let mut medians = Vec::new();
    let mut past = 0;
    for size in [FEW, many] {
        // Along the way, so that what is seen is the course of the memory, and not its two ends.
        let from = past;
        for step in 1..STEPS {
            let filled = from + (size - from) * step / STEPS;
            fill(&parts, past, filled).await;
            past = filled;
            println!("{past:>12}{:>50}", format!("{} MiB", resident_mib()));
        }
        fill(&parts, past, size).await;
        past = size;
        let times = timed(&parts, size).await;
        medians.push(percentile(&times, 0.50));
        println!(
            "{size:>12}{:>14}{:>12}{:>12}{:>12}",
            parts.ledger.head().await.expect("a head"),
            format!("{:.2?}", percentile(&times, 0.50)),
            format!("{:.2?}", percentile(&times, 0.99)),
            format!("{} MiB", resident_mib()),
        );
    }
    println!("ratio of the medians: {:.2}\n", medians[1].as_secs_f64() / medians[0].as_secs_f64());
}

pub(crate) async fn fill(parts: &Parts, from: u64, to: u64) {
    let fillers = (0..FILLERS).map(|filler| {
        let store: Arc<dyn EventStore> = parts.store.clone();
        tokio::spawn(async move {
            for number in (from + filler..to).step_by(usize::try_from(FILLERS).expect("small")) {
                live_at_once(store.as_ref(), &number.to_string()).await;
            }
        })
    });
    for filler in fillers.collect::<Vec<_>>() {
        filler.await.expect("a filler");
    }
}

/// Times of acquires one after the other, each released again: most resume what the one before left.
async fn timed(parts: &Parts, size: u64) -> Vec<Duration> {
    let config = json!({ "provider": "fake", "reuseLease": true });
    let environment = parts.environment(&format!("history {size}"), config).await;
    let mut times = Vec::new();
    for _ in 0..TIMED {
        let request = parts.acquire(environment, fresh_run());
        let began = Instant::now();
        let lease = parts.ledger.acquire(Caller::service("bench"), request).await.expect("acquired").lease;
        times.push(began.elapsed());
        let release = ReleaseRequest {
            company_id: Some(parts.company),
            lease_id: lease.lease_id,
            authority: lease.fencing_token().map(|fencing_token| Authority::Holder { fencing_token }),
            if_revision: None,
            status: ReleaseStatus::Released,
        };
        parts.ledger.release(Caller::service("bench"), release).await.expect("released");
    }
    times.sort_unstable();
    times
}
