//! The PostgreSQL store with 128 appenders, alone and with all projections, against bare multi-row inserts of the same rows, 128
//! a transaction, through the same library, into the same server, in the same run. The server syncs, as in production.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, EventStore, READ_EVENTS_MAX};
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::append_hook::AppendHook;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::postgres_server::{Durability, PostgresServer};
use lease_stores::postgres::{PostgresOptions, PostgresStore};
use sqlx::{Connection, QueryBuilder};

use crate::parts::rate;
use crate::store::{APPENDERS, LEASES, ROUNDS, live};

/// Prints the rates and their ratios, of the store alone and with all projections.
pub(crate) async fn measure() {
    let server = match PostgresServer::start(Durability::Durable) {
        Ok(server) => server,
        Err(error) => return println!("PostgreSQL is not measured: {error}\n"),
    };
    for projecting in [false, true] {
        let what = if projecting { "and all projections" } else { "alone" };
        println!("PostgreSQL store {what}, {APPENDERS} appenders, against bare inserts of the same rows");
        println!("{:>8}{:>16}{:>16}{:>8}{:>18}", "round", "store events/s", "bare events/s", "ratio", "events/commit");
        let mut ratios = Vec::new();
        for round in 1..=ROUNDS {
            ratios.push(measure_round(&server, projecting, round).await);
        }
        ratios.sort_unstable_by(f64::total_cmp);
        println!("median of the ratios: {:.2}\n", ratios[ROUNDS / 2]);
    }
}

/// Prints a round, and answers its ratio.
async fn measure_round(server: &PostgresServer, projecting: bool, round: usize) -> f64 {
    let place = PostgresPlace::on(server.url("postgres"));
    let projections = SqlProjections::new_standard(Database::Postgres);
    let hook = projecting.then(|| projections.clone() as Arc<dyn AppendHook>);
    let options = PostgresOptions { hook, ..place.options() };
    let store = PostgresStore::open(options).await.expect("the database opens");
    if projecting {
        SqlReadModel::attach(projections, store.clone()).await.expect("the projections are made");
    }
    let (elapsed, commits) = through_the_store(&store).await;
    let events = whole_log(&*store).await;
    store.close().await;
    let count = events.len() as u64;
    let bare = bare_inserts(&place, &events).await;
    let ratio = bare.as_secs_f64() / elapsed.as_secs_f64();
    println!(
        "{round:>8}{:>16.0}{:>16.0}{:>8.2}{:>18.1}",
        rate(count, elapsed),
        rate(count, bare),
        ratio,
        rate(count, Duration::from_secs(commits)),
    );
    ratio
}

async fn through_the_store(store: &Arc<PostgresStore>) -> (Duration, u64) {
    let began = Instant::now();
    let appenders = (0..APPENDERS).map(|appender| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for number in 0..LEASES / APPENDERS {
                live(&*store, &format!("{appender} {number}")).await;
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.expect("an appender");
    }
    (began.elapsed(), store.commits())
}

async fn whole_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(Position::START, |last| last.position);
        let page = store.read_all(after, Direction::Forwards, READ_EVENTS_MAX).await.expect("a page");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// The same rows into a table of the same shape, with the same keys and checks, and nothing else.
async fn bare_inserts(place: &PostgresPlace, events: &[RecordedEvent]) -> Duration {
    let mut connection = place.connection().await;
    let like = "CREATE TABLE bare (LIKE events INCLUDING ALL)";
    sqlx::query(like).execute(&mut connection).await.expect("the same table");
    let began = Instant::now();
    for rows in events.chunks(APPENDERS) {
        let mut transaction = connection.begin().await.expect("begun");
        let mut insert = QueryBuilder::new(
            "INSERT INTO bare (position, event_id, stream_id, stream_revision, type, schema_version, company_id, \
             recorded_at, data, metadata) ",
        );
        insert.push_values(rows, |mut values, event| {
            values
                .push_bind(i64::try_from(event.position.0).expect("small"))
                .push_bind(event.event_id.to_string())
                .push_bind(event.stream_id.as_str().to_owned())
                .push_bind(i64::try_from(event.stream_revision).expect("small"))
                .push_bind(event.event_type.to_string())
                .push_bind(i32::from(event.schema_version))
                .push_bind(event.company_id.to_string())
                .push_bind(event.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
                .push_bind(event.data.to_string())
                .push_bind(event.metadata.to_string());
        });
        insert.build().execute(&mut *transaction).await.expect("inserted");
        transaction.commit().await.expect("committed");
    }
    began.elapsed()
}
