//! Duties: a sweep looks only where it is this process's, and the look is over before another process may have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::seam::Clock;
use lease_ledger::recovery::duties::{Duties, Turn};
use serde_json::json;

use crate::support::{Bench, acquire_request, caller, fake, run};

/// Gives the duty of expiry, and no other, when it is told to; counts the looks under way.
#[derive(Default)]
struct Book {
    is_given: AtomicBool,
    looking: Arc<AtomicU32>,
}

struct Looking(Arc<AtomicU32>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Duties for Book {
    fn begin(&self, sweep: &'static str) -> Option<Turn> {
        (sweep == "expiry" && self.is_given.load(Ordering::SeqCst)).then(|| {
            self.looking.fetch_add(1, Ordering::SeqCst);
            Turn::holding(Looking(Arc::clone(&self.looking)))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_looks_only_where_it_is_this_process_s_duty() {
    let bench = Bench::new();
    let slow = fake(json!({ "releaseDelayMs": 800 }));
    let environment = bench.environment("one", slow).await.environment_id;
    let mut request = acquire_request(environment, Some(run(1)));
    request.requested_expires_at = Some(bench.clock.now() + TimeDelta::seconds(1));
    let lease = bench.ledger.acquire(caller(), request).await.expect("acquired").lease.lease_id;

    let book = Arc::new(Book::default());
    bench.ledger.clone().sharing(book.clone()).start_recovery();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.lease(lease).await.status, LeaseStatus::Active, "nobody's duty, nobody looks");

    book.is_given.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(book.looking.load(Ordering::SeqCst), 1, "the turn lasts as long as the provider is asked");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.lease(lease).await.status, LeaseStatus::Expired);
    book.is_given.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(book.looking.load(Ordering::SeqCst), 0);
}
