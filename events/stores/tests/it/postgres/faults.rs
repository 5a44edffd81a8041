//! Connections that break, servers that are full, statements that are ended: what was not written is tried again, what may
//! have been written is found out, and nothing is lost or doubled.

use std::sync::Arc;
use std::time::Duration;

use lease_events::record::Position;
use lease_events::store::{AppendError, Direction, EventStore, Expected};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::postgres_server::{Durability, PostgresServer};
use lease_stores::contract::{append, stream};
use lease_stores::postgres::{OpenError, PostgresOptions, PostgresStore};
use sqlx::{Connection, PgConnection};

use super::proxy::{Cut, Proxy};

async fn through(proxy: &Proxy, place: &PostgresPlace) -> Arc<PostgresStore> {
    PostgresStore::open(PostgresOptions { url: proxy.url(&place.url()), ..place.options() }).await.unwrap()
}

#[tokio::test]
async fn a_connection_that_breaks_around_commit_loses_and_doubles_nothing() {
    let place = PostgresPlace::new();
    let proxy = Proxy::to(&place.url()).await;
    let store = through(&proxy, &place).await;
    store.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
    for (revision, cut) in [Cut::Before, Cut::After, Cut::After, Cut::Before].iter().enumerate() {
        proxy.cut(*cut);
        let name = (revision + 1).to_string();
        let appended = store.append(append("a", Expected::Exact(revision as u64), &[&name])).await.unwrap();
        assert!(!appended.repeated, "{cut:?}: it is this append's own doing, whichever try did it");
        assert_eq!(appended.position(), Position(revision as u64 + 2));
        proxy.done().await;
    }
    let log = store.read_all(Position::START, Direction::Forwards, usize::MAX).await.unwrap();
    assert_eq!(log.iter().map(|event| event.stream_revision).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(*store.head_changes().borrow(), Position(5));
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_tells_it_from_one_that_came_first() {
    let place = PostgresPlace::new();
    let proxy = Proxy::to(&place.url()).await;
    let store = through(&proxy, &place).await;
    // Several in one transaction: each is found where it was put, a repetition stays one, and a refusal stays refused.
    store.append(append("there", Expected::NoStream, &["there"])).await.unwrap();
    proxy.cut(Cut::After);
    let (one, again, other, two) = tokio::join!(
        store.append(append("one", Expected::NoStream, &["one"])),
        store.append(append("there", Expected::NoStream, &["there"])),
        store.append(append("there", Expected::NoStream, &["other"])),
        store.append(append("two", Expected::NoStream, &["two", "three"])),
    );
    assert!(!one.unwrap().repeated && again.unwrap().repeated && !two.unwrap().repeated);
    assert!(matches!(other, Err(AppendError::WrongExpectedRevision { .. })), "{other:?}");
    assert_eq!(store.head().await, Ok(Position(4)));
}

#[tokio::test]
async fn backends_that_are_terminated_under_load_lose_and_double_nothing() {
    const STREAMS: usize = 8;
    const EVENTS: u64 = 60;
    let place = PostgresPlace::new();
    let store = place.store().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for event in 0..EVENTS {
                let sent = append(
                    &format!("s{number}"),
                    Expected::after(event.checked_sub(1)),
                    &[&format!("{number}-{event}")],
                );
                let appended = store.append(sent).await.unwrap();
                assert!(!appended.repeated);
            }
        });
    }
    let mut admin = place.connection().await;
    while !tasks.is_empty() {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sqlx::query(terminate).execute(&mut admin).await.unwrap();
        let pause = tokio::time::sleep(Duration::from_millis(40));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(ended) = tasks.join_next() => ended.unwrap(),
                else => break,
            }
        }
    }
    for number in 0..STREAMS {
        let stored =
            store.read_stream(&stream(&format!("s{number}")), 0, Direction::Forwards, usize::MAX).await.unwrap();
        assert_eq!(stored.len() as u64, EVENTS);
    }
    assert_eq!(store.head().await, Ok(Position(STREAMS as u64 * EVENTS)));
}

#[tokio::test]
async fn a_statement_that_is_ended_is_tried_again() {
    let place = PostgresPlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
    // Somebody holds the head; the writer's wait for it is cancelled, as its time limit would.
    let mut holder = place.connection().await;
    let mut held = holder.begin().await.unwrap();
    sqlx::query("SELECT FROM head FOR UPDATE").execute(&mut *held).await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.append(append("a", Expected::Exact(0), &["1"])).await }
    });
    let mut admin = place.connection().await;
    let cancel = "SELECT count(*) FROM (SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event_type = 'Lock') AS cancelled";
    let mut cancelled = 0;
    while cancelled < 2 {
        let now: i64 = sqlx::query_scalar(cancel).fetch_one(&mut admin).await.unwrap();
        cancelled += now;
        tokio::task::yield_now().await;
    }
    held.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().position(), Position(2));
}

#[tokio::test]
async fn too_many_connections_are_waited_for() {
    let server =
        PostgresServer::start_with(Durability::Fast, &["max_connections=8", "superuser_reserved_connections=0"]);
    let server = server.unwrap();
    let place = PostgresPlace::on(server.url("postgres"));
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
    let mut others: Vec<PgConnection> = Vec::new();
    let full = loop {
        match PgConnection::connect(&place.url()).await {
            Ok(connection) => others.push(connection),
            Err(error) => break error,
        }
    };
    assert!(full.to_string().contains("too many clients"), "{full}");
    // The writer loses its connection, and somebody else takes its place at once.
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lease-ledger'";
    sqlx::query(terminate).execute(&mut others[0]).await.unwrap();
    while let Ok(connection) = PgConnection::connect(&place.url()).await {
        others.push(connection);
    }
    let waiting = store.append(append("a", Expected::Exact(0), &["1"]));
    let freeing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        others.clear();
    };
    let (appended, ()) = tokio::join!(waiting, freeing);
    assert_eq!(appended.unwrap().position(), Position(2));
    // A second process finds no room at all, and says so within its bound.
    drop(store);
    let mut others: Vec<PgConnection> = Vec::new();
    while let Ok(connection) = PgConnection::connect(&place.url()).await {
        others.push(connection);
    }
    let refused = PostgresStore::open(place.options()).await.err().unwrap();
    assert!(
        matches!(&refused, OpenError::Unavailable { cause, .. } if cause.contains("too many clients")),
        "{refused}"
    );
    drop(others);
}

#[tokio::test]
async fn a_server_that_stays_away_is_unavailable_within_the_bound_and_soon_after_that() {
    let mut server = PostgresServer::start(Durability::Fast).unwrap();
    let place = PostgresPlace::on(server.url("postgres"));
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
    server.crash().unwrap();
    let began = std::time::Instant::now();
    let refused = store.append(append("a", Expected::Exact(0), &["1"])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    assert!((Duration::from_secs(5)..Duration::from_secs(20)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    store.append(append("a", Expected::Exact(0), &["1"])).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.run().unwrap();
    assert_eq!(store.append(append("a", Expected::Exact(0), &["1"])).await.unwrap().position(), Position(2));
}
