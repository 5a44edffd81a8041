//! Who is dead, and that the dead write nothing: also one that was already waiting, and one that was paused with the lock.

use std::sync::Arc;
use std::time::Duration;

use lease_events::record::Position;
use lease_events::store::{AppendError, EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::postgres_server::{Durability, PostgresServer};
use lease_stores::postgres::{OwnerTimings, PostgresOptions, PostgresStore};
use sqlx::Connection;

use super::proxy::{Cut, Proxy};

/// An owner that says once that it lives, and not again while a test lasts.
const SILENT: OwnerTimings =
    OwnerTimings { renew_every: Duration::from_hours(1), time_to_live: Duration::from_millis(700) };
/// One that looks often, and judges soon.
const WATCHFUL: OwnerTimings =
    OwnerTimings { renew_every: Duration::from_millis(50), time_to_live: Duration::from_secs(3) };

async fn owner(place: &PostgresPlace, name: &str, timings: OwnerTimings) -> Arc<PostgresStore> {
    PostgresStore::open(PostgresOptions { owner: name.to_owned(), timings, ..place.options() }).await.unwrap()
}

/// Waits until `store` knows that `owner` is dead; a test that hangs here is ended by its runner.
async fn known_dead(store: &PostgresStore, owner: &str) {
    while !store.is_dead(owner) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_silent_owner_is_fenced_and_its_appends_fail_for_ever() {
    let place = PostgresPlace::new();
    let silent = owner(&place, "silent", SILENT).await;
    silent.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
    let watchful = owner(&place, "watchful", WATCHFUL).await;
    known_dead(&watchful, "silent").await;
    assert!(!watchful.is_dead("watchful"));
    for _ in 0..2 {
        let refused = silent.append(append("a", Expected::Exact(0), &["1"])).await;
        assert_eq!(refused, Err(AppendError::Fenced { owner: "silent".to_owned() }));
    }
    assert!(*silent.fenced().borrow());
    assert!(!*watchful.fenced().borrow());
    assert_eq!(watchful.append(append("a", Expected::Exact(0), &["2"])).await.unwrap().position(), Position(2));
}

#[tokio::test]
async fn an_owner_that_was_fenced_hears_of_it_without_appending() {
    let place = PostgresPlace::new();
    let store = owner(&place, "it", WATCHFUL).await;
    let mut fenced = store.fenced();
    let fence = "UPDATE owners SET fenced_at = clock_timestamp() WHERE owner = 'it'";
    sqlx::query(fence).execute(&mut place.connection().await).await.unwrap();
    fenced.wait_for(|fenced| *fenced).await.unwrap();
}

#[tokio::test]
async fn an_append_that_already_waited_for_the_head_is_refused_once_its_owner_is_fenced() {
    let place = PostgresPlace::new();
    let store = owner(&place, "waiting", SILENT).await;
    let mut fencer = place.connection().await;
    let mut held = fencer.begin().await.unwrap();
    sqlx::query("SELECT FROM head FOR UPDATE").execute(&mut *held).await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.append(append("a", Expected::NoStream, &["0"])).await }
    });
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
    let mut admin = place.connection().await;
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut admin).await.unwrap() {}
    // What the keeper of another process does, under the lock.
    sqlx::query("UPDATE owners SET fenced_at = clock_timestamp()").execute(&mut *held).await.unwrap();
    held.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Err(AppendError::Fenced { owner: "waiting".to_owned() }));
    assert_eq!(store.head().await, Ok(Position::START));
}

#[tokio::test]
async fn a_process_that_is_paused_with_the_head_holds_nobody_up_for_long_and_is_fenced() {
    let place = PostgresPlace::new();
    let proxy = Proxy::to(&place.url()).await;
    let options = PostgresOptions {
        url: proxy.url(&place.url()),
        owner: "paused".to_owned(),
        timings: SILENT,
        ..place.options()
    };
    let paused = PostgresStore::open(options).await.unwrap();
    proxy.cut(Cut::Pause);
    let lost = tokio::spawn({
        let paused = Arc::clone(&paused);
        async move { paused.append(append("a", Expected::NoStream, &["of the paused"])).await }
    });
    proxy.done().await;
    let other = owner(&place, "other", WATCHFUL).await;
    // It waits until the server has ended the paused one's transaction.
    let taken = other.append(append("a", Expected::NoStream, &["of the other"])).await.unwrap();
    assert_eq!(taken.position(), Position(1));
    known_dead(&other, "paused").await;
    // The paused one comes back: it finds its connection silent, asks again, and is told.
    assert_eq!(lost.await.unwrap(), Err(AppendError::Fenced { owner: "paused".to_owned() }));
    assert_eq!(other.head().await, Ok(Position(1)));
}

#[tokio::test]
async fn an_owner_that_closes_is_dead_at_once_and_one_that_never_was_as_well() {
    let place = PostgresPlace::new();
    let watching = owner(&place, "watching", OwnerTimings::default()).await;
    let closing = owner(&place, "closing", OwnerTimings::default()).await;
    closing.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
    assert!(!watching.is_dead("closing"));
    closing.close().await;
    known_dead(&watching, "closing").await;
    known_dead(&watching, "of another store").await;
    assert!(!watching.is_dead("watching"));
}

#[tokio::test]
async fn an_owner_that_only_slept_and_that_nobody_fenced_goes_on() {
    let place = PostgresPlace::new();
    let sleeping = owner(&place, "sleeping", SILENT).await;
    tokio::time::sleep(SILENT.time_to_live * 2).await;
    sleeping.append(append("a", Expected::NoStream, &["0"])).await.unwrap();
}

#[tokio::test]
async fn after_the_server_was_away_nobody_is_fenced_who_comes_back_in_time() {
    let timings = OwnerTimings { renew_every: Duration::from_millis(100), time_to_live: Duration::from_secs(2) };
    let mut server = PostgresServer::start(Durability::Fast).unwrap();
    let place = PostgresPlace::on(server.url("postgres"));
    let stores = [owner(&place, "one", timings).await, owner(&place, "two", timings).await];
    // Long enough for both to judge.
    tokio::time::sleep(timings.time_to_live).await;
    server.crash().unwrap();
    tokio::time::sleep(timings.time_to_live * 2).await;
    server.run().unwrap();
    for (number, store) in stores.iter().enumerate() {
        store.append(append(&number.to_string(), Expected::NoStream, &[&number.to_string()])).await.unwrap();
    }
    tokio::time::sleep(timings.time_to_live * 2).await;
    assert!(stores.iter().all(|store| !*store.fenced().borrow()));
}
