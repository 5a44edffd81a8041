//! The bounds that docs/reliability.md promises: how late an expiry is, how late a live reader is, and how soon a ledger
//! with many leases takes commands after a start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::StreamExt;
use lease_events::record::{Position, RecordedEvent};
use lease_events::seam::{Clock, SystemClock};
use lease_events::store::EventStore;
use lease_ledger::commands::caller::Caller;
use serde_json::json;

use crate::history::fill;
use crate::parts::{Parts, fresh_run, open, percentile};
use crate::store::live;

/// Leases that expire, all within [`EXPIRE_WITHIN_MS`].
const EXPIRING: usize = 1_000;
/// How far their ends are apart, from first to last, in milliseconds.
const EXPIRE_WITHIN_MS: i64 = 10_000;
/// How long before the first end they are all acquired, at the least.
const ACQUIRED_WITHIN: TimeDelta = TimeDelta::seconds(20);
/// Who append beside the live reader, and how many leases each takes through their lives.
const APPENDERS: usize = 32;
const LIVES: usize = 50;
/// Longest wait for what is measured: beyond it the bound is missed anyhow.
const PATIENCE: Duration = Duration::from_mins(2);

/// Prints the figures.
pub(crate) async fn measure() {
    println!("bounds");
    println!("{:<52}{:>12}{:>12}{:>12}", "what", "p50", "p99", "worst");
    let folder = tempfile::tempdir().expect("a folder");
    let parts = open(folder.path()).await;
    // Before recovery begins: it would see to the leases of nobody that are written here.
    live_reader(&parts).await;
    expiry(&parts).await;
    parts.ledger.stop().await;
    start().await;
    println!();
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let show = |time: Duration| format!("{time:.2?}");
    let worst = times.last().copied().unwrap_or_default();
    println!(
        "{what:<52}{:>12}{:>12}{:>12}",
        show(percentile(&times, 0.50)),
        show(percentile(&times, 0.99)),
        show(worst)
    );
}

/// From a lease's end to the event that says so.
async fn expiry(parts: &Parts) {
    let environment = parts.environment("expiry", json!({ "provider": "fake" })).await;
    parts.ledger.start_recovery();
    let first = SystemClock.now() + ACQUIRED_WITHIN;
    let mut ends = std::collections::HashMap::new();
    for number in 0..EXPIRING {
        let number = i64::try_from(number).expect("small");
        let end = first + TimeDelta::milliseconds(number * EXPIRE_WITHIN_MS / i64::try_from(EXPIRING).expect("small"));
        let mut request = parts.acquire(environment, fresh_run());
        request.requested_expires_at = Some(end);
        let lease = parts.ledger.acquire(Caller::service("bench"), request).await.expect("acquired").lease;
        ends.insert(lease.lease_id.to_string(), lease.expires_at.expect("it has an end"));
    }
    let mut events = parts.ledger.subscribe(Position::START).await.expect("a subscription");
    let mut late = Vec::new();
    let seen = async {
        while late.len() < EXPIRING {
            let event = events.next().await.expect("it goes on").expect("an event");
            let lease = event.stream_id.as_str().strip_prefix("lease-").and_then(|id| ends.get(id));
            if let Some(end) = lease.filter(|_| &*event.event_type == "lease-release-requested") {
                late.push((event.recorded_at - *end).to_std().expect("never early"));
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("all of them expire");
    print(&format!("expiry after its deadline, {EXPIRING} in {} s", EXPIRE_WITHIN_MS / 1_000), late);
}

/// From the moment that the writer took an event to the moment that a live reader has it.
async fn live_reader(parts: &Parts) {
    let head = parts.ledger.head().await.expect("a head");
    let mut events = parts.ledger.subscribe(head).await.expect("a subscription");
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let store: Arc<dyn EventStore> = parts.store.clone();
            tokio::spawn(async move {
                for number in 0..LIVES {
                    live(store.as_ref(), &format!("live {appender} {number}")).await;
                }
            })
        })
        .collect();
    let wanted = APPENDERS * LIVES * 6;
    let mut late = Vec::with_capacity(wanted);
    let age = |event: &RecordedEvent| (SystemClock.now() - event.recorded_at).to_std().unwrap_or_default();
    let seen = async {
        while late.len() < wanted {
            let event = events.next().await.expect("it goes on").expect("an event");
            late.push(age(&event));
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("all of them are seen");
    for appender in appenders {
        appender.await.expect("an appender");
    }
    print(&format!("event at a live reader, {APPENDERS} appenders"), late);
}

/// From opening a ledger with many leases, recovery begun, to the answer to its first acquire.
async fn start() {
    let leases = crate::leases_wanted();
    let folder = tempfile::tempdir().expect("a folder");
    let parts = open(folder.path()).await;
    fill(&parts, 0, leases).await;
    let environment = parts.environment("start", json!({ "provider": "fake" })).await;
    parts.ledger.stop().await;
    drop(parts);
    let began = Instant::now();
    let parts = open(folder.path()).await;
    parts.ledger.start_recovery();
    let request = parts.acquire(environment, fresh_run());
    parts.ledger.acquire(Caller::service("bench"), request).await.expect("acquired");
    print(&format!("first command after a start, {leases} leases"), vec![began.elapsed()]);
    parts.ledger.stop().await;
}
