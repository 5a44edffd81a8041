//! Copies of a whole ledger, SQLite to PostgreSQL and back: how long they take, and whether the projections that are made
//! anew from each copy are what its events make.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::seam::{SystemClock, SystemIds};
use lease_ledger::wiring::{Settings, StoreUrl, home_for, home_of};
use lease_projections::read_model::ReadModel;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::postgres_server::{Durability, PostgresServer};
use lease_stores::copy::copy;
use lease_stores::postgres::{PostgresOptions, PostgresStore};
use lease_stores::sql::SqlStore;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};

use crate::history::{EVENTS_A_LEASE, fill};
use crate::parts::{self, rate};

/// Events that are copied, where `EVENTS` sets no other number.
const EVENTS: u64 = 1_000_000;

/// Prints the times.
pub(crate) async fn measure() {
    let events = std::env::var("EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(EVENTS);
    let server = match PostgresServer::start(Durability::Durable) {
        Ok(server) => server,
        Err(error) => return println!("Copies are not measured: {error}\n"),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let parts = parts::open(folder.path()).await;
    fill(&parts, 0, events / EVENTS_A_LEASE).await;
    parts.ledger.stop().await;
    drop(parts);
    println!("copies of {events} events");
    let place = PostgresPlace::on(server.url("postgres"));
    let first = StoreUrl::Sqlite(folder.path().join("ledger.db"));
    let second: StoreUrl = place.url().parse().expect("an address");
    let third = StoreUrl::Sqlite(folder.path().join("back.db"));
    copied(&first, &second).await;
    copied(&second, &third).await;
    let (database, file) = (place.options(), folder.path().join("back.db"));
    verified("PostgreSQL", Database::Postgres, |projections| postgres(database, projections)).await;
    verified("SQLite", Database::Sqlite, |projections| sqlite(&file, projections)).await;
    println!();
}

/// Copies, and compares in the end.
async fn copied(from: &StoreUrl, to: &StoreUrl) {
    let began = Instant::now();
    let source = home_of(&Settings::new(from.clone(), "data".into())).await.expect("the source opens");
    let target = home_for(source.ledger_id, to).await.expect("the target opens");
    let copied = copy(&source, &target, |_| {}).await.expect("copied");
    for home in [source, target] {
        home.store.close().await;
    }
    print("copied and compared", copied.head.0, began.elapsed());
}

async fn postgres(options: PostgresOptions, projections: Arc<SqlProjections>) -> Arc<dyn SqlStore> {
    let options = PostgresOptions { hook: Some(projections), ..options };
    PostgresStore::open(options).await.expect("the database opens")
}

async fn sqlite(path: &Path, projections: Arc<SqlProjections>) -> Arc<dyn SqlStore> {
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let options = SqliteOptions { path: path.to_owned(), clock, ids, hook: Some(projections) };
    SqliteStore::open(options).await.expect("the file opens")
}

/// Makes the projections of a copy, and verifies each.
async fn verified<F: Future<Output = Arc<dyn SqlStore>>>(
    what: &str,
    database: Database,
    open: impl FnOnce(Arc<SqlProjections>) -> F,
) {
    let projections = SqlProjections::new_standard(database);
    let store = open(projections.clone()).await;
    let began = Instant::now();
    let model = SqlReadModel::attach(projections, store.clone()).await.expect("the projections are made");
    print(&format!("projections made on {what}"), store.head().await.expect("a head").0, began.elapsed());
    for status in model.statuses().await.expect("the projections") {
        let report = model.verify(&status.name).await.expect("it can be verified");
        let equal = if report.differences.is_empty() { "equal" } else { "DIFFERENT" };
        println!("  {:<24}{:>10} rows compared: {equal}", status.name, report.rows);
    }
    store.close().await;
}

fn print(what: &str, events: u64, elapsed: Duration) {
    println!("{what:<36}{:>10.1} s{:>12.0} events/s", elapsed.as_secs_f64(), rate(events, elapsed));
}
