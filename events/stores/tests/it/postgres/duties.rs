//! Duties: one holder each, shared out evenly, given up only while idle, and a dead one's taken over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lease_events::store::EventStore as _;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::postgres::{OwnerTimings, PostgresOptions, PostgresStore, Work};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Long enough for anything that shall happen, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn process(place: &PostgresPlace) -> Arc<PostgresStore> {
    let timings = OwnerTimings { renew_every: Duration::from_millis(50), time_to_live: Duration::from_secs(5) };
    PostgresStore::open(PostgresOptions { timings, ..place.options() }).await.expect("it opens")
}

fn begin_all(store: &PostgresStore) -> BTreeMap<&'static str, Work> {
    NAMES.into_iter().filter_map(|name| Some((name, store.duties().begin(name)?))).collect()
}

/// Waits until each of `stores` can begin so many; every name is begun by one at a time.
async fn settled(stores: &[&PostgresStore], shares: &[usize]) {
    let look = async {
        loop {
            let begun: Vec<_> = stores.iter().map(|store| begin_all(store)).collect();
            for name in NAMES {
                assert!(begun.iter().filter(|works| works.contains_key(name)).count() <= 1, "{name} has two holders");
            }
            if begun.iter().map(BTreeMap::len).eq(shares.iter().copied()) {
                return;
            }
            drop(begun);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the duties are shared out so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duties_are_shared_out_among_those_who_take_part() {
    let place = PostgresPlace::new();
    let first = process(&place).await;
    settled(&[&first], &[6]).await;
    // Whoever only asks a question lessens nobody's share.
    let _asks = process(&place).await;
    let second = process(&place).await;
    settled(&[&first, &second], &[3, 3]).await;
    let third = process(&place).await;
    settled(&[&first, &second, &third], &[2, 2, 2]).await;
    // One that ends leaves its own to the others, and takes nothing up again.
    second.close().await;
    settled(&[&first, &third], &[3, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duty_is_kept_while_it_is_worked_on() {
    let place = PostgresPlace::new();
    let first = process(&place).await;
    settled(&[&first], &[6]).await;
    let works = begin_all(&first);
    assert_eq!(works.len(), 6);
    assert!(begin_all(&first).is_empty(), "one work on a duty at a time");
    let second = process(&place).await;
    assert!(begin_all(&second).is_empty());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(begin_all(&second).is_empty(), "each of them is worked on");
    drop(works);
    settled(&[&first, &second], &[3, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_duties_of_a_dead_process_are_taken_over_and_it_begins_nothing_any_more() {
    let place = PostgresPlace::new();
    let first = process(&place).await;
    settled(&[&first], &[6]).await;
    let second = process(&place).await;
    // It is fenced as one that was silent for too long.
    let mut connection = place.connection().await;
    sqlx::query("UPDATE owners SET fenced_at = clock_timestamp() WHERE takes_duties")
        .execute(&mut connection)
        .await
        .expect("it is fenced");
    let mut fenced = first.fenced();
    tokio::time::timeout(PATIENCE, fenced.wait_for(|fenced| *fenced)).await.expect("it hears of it").expect("it lives");
    settled(&[&second], &[6]).await;
    assert!(begin_all(&first).is_empty());
}
