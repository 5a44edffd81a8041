//! The `KurrentDB` store: appends one at a time, and 64 at once to as many streams, through the real client to the protocol server
//! of the tests, in this process. What is measured is the client and the store, not a server's disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::id::{CompanyId, EventId};
use lease_events::record::{NewEvent, StreamId};
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::{Append, EventStore, Expected};
use lease_stores::kurrentdb::{KurrentOptions, KurrentStore};

use crate::parts::rate;
use crate::protocol::Server;

/// How many streams are appended to at once, with how many appends each.
const CASES: [(usize, u64); 2] = [(1, 100), (64, 100)];

/// Prints the rates.
pub(crate) async fn measure() {
    println!("KurrentDB store: appends of one event, read back, through the client crate on loopback");
    println!("{:>12}{:>14}{:>12}{:>12}", "in flight", "appends/s", "p50", "p99");
    for (streams, appends) in CASES {
        let server = Server::start().await;
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let options = KurrentOptions { url: server.url(), clock, ids, categories: Vec::new() };
        let store = KurrentStore::open(options).expect("a connection string");
        // The first call connects, and reads the machine's certificates.
        store.head().await.expect("the server is there");
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for stream in 0..streams {
            tasks.spawn(append_to(store.clone(), stream, appends));
        }
        let mut times: Vec<Duration> = tasks.join_all().await.concat();
        let elapsed = began.elapsed();
        times.sort_unstable();
        println!(
            "{streams:>12}{:>14.0}{:>12}{:>12}",
            rate(times.len() as u64, elapsed),
            format!("{:.1} ms", times[times.len() / 2].as_secs_f64() * 1e3),
            format!("{:.1} ms", times[times.len() * 99 / 100].as_secs_f64() * 1e3),
        );
    }
}

async fn append_to(store: Arc<dyn EventStore>, stream: usize, appends: u64) -> Vec<Duration> {
    let name = format!("lease-{stream}");
    let mut times = Vec::new();
    for number in 0..appends {
        let event = NewEvent {
            event_id: EventId::derived(&[&name, &number.to_string()]),
            event_type: "lease-renewed",
            schema_version: 1,
            company_id: CompanyId::derived(&["bench"]),
            data: r#"{"expiresAt":"2026-01-01T00:00:00Z"}"#.into(),
            metadata: r#"{"$correlationId":"bench"}"#.into(),
        };
        let stream = StreamId::parse(&name).expect("a name");
        let append = Append { stream, expected: Expected::after(number.checked_sub(1)), events: vec![event] };
        let began = Instant::now();
        store.append(append).await.expect("nobody else writes");
        times.push(began.elapsed());
    }
    times
}
