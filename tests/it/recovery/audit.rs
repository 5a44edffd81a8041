//! The four questions that every recovery is asked: does the provider hold exactly what the ledger says; is every
//! acknowledged event there; has any sandbox two holders; does an idempotency key still answer the same.

use std::collections::{BTreeMap, BTreeSet};

use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::READ_EVENTS_MAX;
use lease_ledger::drivers::sandbox::fake::Thing;
use lease_projections::read_model::LeaseFilter;

use crate::support::Bench;

/// Every lease, newest first.
pub(super) async fn leases(bench: &Bench) -> Vec<LeaseState> {
    let filter = LeaseFilter { limit: 1_000, ..LeaseFilter::default() };
    bench.ledger.read_model().leases(&filter).await.expect("leases")
}

/// The whole log.
pub(super) async fn log(bench: &Bench) -> Vec<RecordedEvent> {
    let mut log: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |last| last.position);
        let page = bench.ledger.events(after, READ_EVENTS_MAX).await.expect("the log");
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

/// Whether the lease says that something of it is at the provider.
fn holds(lease: &LeaseState) -> bool {
    lease.provider_lease_id().is_some() && (lease.status.is_open() || lease.keeps_something())
}

/// Asks the first three questions of a world at rest; `acknowledged` is the log as it was when the last answer came.
pub(super) async fn audit(bench: &Bench, acknowledged: &[RecordedEvent], told: &str) {
    let leases = leases(bench).await;
    let mut holders: BTreeMap<String, LeaseId> = BTreeMap::new();
    for lease in &leases {
        let is_settled = matches!(lease.status, LeaseStatus::Active) || !lease.status.is_open();
        assert!(is_settled, "{told}: lease {} is {} still", lease.lease_id, lease.status);
        if holds(lease)
            && let Some(other) =
                holders.insert(lease.provider_lease_id().unwrap_or_default().to_owned(), lease.lease_id)
        {
            panic!("{told}: {other} and {} both hold {:?}", lease.lease_id, lease.provider_lease_id());
        }
    }
    let things = bench.provider.held().expect("memory");
    let held: BTreeSet<String> = things.iter().map(Thing::provider_lease_id).collect();
    let said: BTreeSet<String> = holders.keys().cloned().collect();
    assert_eq!(held, said, "{told}: what the provider holds, and what the ledger says\n{leases:#?}");
    let log = log(bench).await;
    assert!(log.starts_with(acknowledged), "{told}: an acknowledged event is gone");
    assert!(log.iter().zip(1..).all(|(event, position)| event.position.0 == position), "{told}: a gap");
    for table in ["current_leases", "reusable_leases", "environments"] {
        let verified = bench.ledger.read_model().verify(table).await.expect("verified");
        assert!(verified.differences.is_empty(), "{told}: {verified:?}");
    }
}
