//! Appends to a server of `KurrentDB`'s protocol, one at a time, and 64 at once to as many streams, through the real client: to the
//! streams alone, and by the store of a ledger, into its mirror with all projections. The server is that of the tests, in this
//! process, so what is measured is the client and the stores, and no server's disk.
//!
//! The client waits for acknowledgements (docs/kurrentdb.md). A system puts them off, as it does behind a proxy here; the ledger's
//! own face sends them at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::EventStore;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::kurrentdb::{Identity, KurrentOptions, KurrentStore, MirroredOptions, MirroredStore};
use lease_stores::sqlite::{SqliteOptions, SqliteStore};

use crate::parts::rate;
use crate::protocol::{Server, url};
use crate::proxy::Proxy;
use crate::store::live;

/// How many streams are appended to at once.
const IN_FLIGHT: [usize; 2] = [1, 64];
/// How many leases each of them lives, one after the other.
const LIVES: usize = 16;
/// Appends of one event in such a life.
const APPENDS: u64 = 6;

/// Prints the rates.
pub(crate) async fn measure() {
    println!("KurrentDB: appends of one event, through the client crate on loopback");
    println!(
        "{:>24}{:>16}{:>12}{:>12}{:>12}{:>12}",
        "store", "acknowledged", "in flight", "appends/s", "life p50", "life p99"
    );
    for is_mirrored in [false, true] {
        for is_late in [true, false] {
            for streams in IN_FLIGHT {
                measure_one(is_mirrored, is_late, streams).await;
            }
        }
    }
}

async fn measure_one(is_mirrored: bool, is_late: bool, streams: usize) {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address).await;
    let url = if is_late { url(proxy.address) } else { server.url() };
    let folder = tempfile::tempdir().expect("a folder");
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let options = KurrentOptions { url, clock, ids, categories: Vec::new() };
    let streams_alone = KurrentStore::open(options).expect("a connection string");
    // The first call connects, and reads the machine's certificates.
    let identity = Identity::find(&streams_alone).await.expect("the server is there");
    let store: Arc<dyn EventStore> =
        if is_mirrored { mirrored(streams_alone, identity, folder.path()).await } else { streams_alone };
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for stream in 0..streams {
        tasks.spawn(lives(store.clone(), stream));
    }
    let mut times: Vec<Duration> = tasks.join_all().await.concat();
    let elapsed = began.elapsed();
    times.sort_unstable();
    println!(
        "{:>24}{:>16}{streams:>12}{:>12.0}{:>12}{:>12}",
        if is_mirrored { "ledger, mirrored" } else { "streams, read back" },
        if is_late { "late" } else { "at once" },
        rate(times.len() as u64 * APPENDS, elapsed),
        format!("{:.1} ms", times[times.len() / 2].as_secs_f64() * 1e3),
        format!("{:.1} ms", times[times.len() * 99 / 100].as_secs_f64() * 1e3),
    );
    store.close().await;
}

/// The store of a ledger, with every projection.
async fn mirrored(server: Arc<KurrentStore>, identity: Option<Identity>, folder: &Path) -> Arc<dyn EventStore> {
    let projections = SqlProjections::new_standard(Database::Sqlite);
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let options = SqliteOptions { path: folder.join("projections.db"), clock, ids, hook: Some(projections.clone()) };
    let mirror = SqliteStore::open_any(options).await.expect("a file");
    SqlReadModel::attach(projections, mirror.clone()).await.expect("the projections are made");
    let ledger_id = mirror.ledger_id();
    let options = MirroredOptions { server, identity, mirror, ledger_id, attach: false };
    MirroredStore::open(options).await.expect("it is followed")
}

/// Lives of leases, one after the other, and how long each took.
async fn lives(store: Arc<dyn EventStore>, stream: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for life in 0..LIVES {
        let began = Instant::now();
        live(&*store, &format!("{stream} {life}")).await;
        times.push(began.elapsed());
    }
    times
}
