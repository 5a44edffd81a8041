//! Which databases are opened as a ledger, and which are refused as they were found.

use lease_events::record::Position;
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::{EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::postgres::{OpenError, PostgresOptions, PostgresStore, migrate};
use sqlx::PgConnection;

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn refused(options: PostgresOptions) -> OpenError {
    PostgresStore::open(options).await.err().expect("it is refused")
}

#[tokio::test]
async fn many_that_make_one_ledger_at_once_make_one_ledger() {
    let place = PostgresPlace::new();
    let opening = (0..8).map(|_| place.store());
    let stores = futures_util::future::join_all(opening).await;
    assert!(stores.iter().all(|store| store.ledger_id() == stores[0].ledger_id()));
    for (number, store) in stores.iter().enumerate() {
        let appended =
            store.append(append("a", Expected::after((number as u64).checked_sub(1)), &[&number.to_string()]));
        assert_eq!(appended.await.unwrap().position(), Position(number as u64 + 1));
    }
}

#[tokio::test]
async fn a_ledger_keeps_its_id_and_a_migration_alone_makes_it() {
    let place = PostgresPlace::new();
    let made = migrate(&place.url(), &SystemClock, &SystemIds).await.unwrap();
    assert_eq!(migrate(&place.url(), &SystemClock, &SystemIds).await, Ok(made));
    let store = place.store().await;
    assert_eq!(store.ledger_id(), made);
    store.close().await;
    assert_eq!(place.store().await.ledger_id(), made);
    let owners: i64 =
        sqlx::query_scalar("SELECT count(*) FROM owners").fetch_one(&mut place.connection().await).await.unwrap();
    assert_eq!(owners, 2);
}

#[tokio::test]
async fn a_ledger_of_a_newer_program_is_refused() {
    let place = PostgresPlace::new();
    place.store().await.close().await;
    let mut connection = place.connection().await;
    run(&mut connection, "UPDATE ledger SET format = 99").await;
    let error = refused(place.options()).await;
    assert!(matches!(error, OpenError::NewerFormat { found: 99, known: 3, .. }), "{error}");
    assert!(error.to_string().contains("use a newer lease-ledger"), "{error}");
}

#[tokio::test]
async fn a_ledger_of_the_first_format_is_brought_to_the_newest_and_keeps_what_it_has() {
    let place = PostgresPlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    store.close().await;
    run(&mut place.connection().await, "DROP TABLE mirror; DROP TABLE secret_versions; UPDATE ledger SET format = 1")
        .await;
    let again = place.store().await;
    assert_eq!((again.ledger_id(), again.head().await), (store.ledger_id(), Ok(Position(1))));
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM secret_versions").fetch_one(again.reader()).await.unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn the_tables_of_another_program_are_left_alone() {
    let place = PostgresPlace::new();
    let mut connection = place.connection().await;
    run(&mut connection, "CREATE TABLE events (id bigint)").await;
    let error = refused(place.options()).await;
    assert!(
        matches!(&error, OpenError::Foreign { schema, table, .. } if schema == "public" && table == "events"),
        "{error}"
    );
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_database_that_is_not_there_or_takes_no_writes_is_named() {
    let place = PostgresPlace::new();
    let url = place.url().replace(place.database(), "nowhere");
    let error = refused(PostgresOptions { url, ..place.options() }).await;
    assert!(matches!(error, OpenError::NoDatabase { .. }), "{error}");
    assert!(error.to_string().contains("there is no database nowhere at "), "{error}");
}

#[tokio::test]
async fn an_owner_is_never_used_twice() {
    let place = PostgresPlace::new();
    let owner = "once".to_owned();
    PostgresStore::open(PostgresOptions { owner: owner.clone(), ..place.options() }).await.unwrap().close().await;
    let error = refused(PostgresOptions { owner, ..place.options() }).await;
    assert!(matches!(&error, OpenError::OwnerTaken { owner, .. } if owner == "once"), "{error}");
}

#[tokio::test]
async fn a_ledger_lives_in_the_schema_that_its_address_names() {
    let place = PostgresPlace::new();
    run(&mut place.connection().await, "CREATE SCHEMA one; CREATE SCHEMA two").await;
    let at = |schema: &str| {
        let url = format!("{}?options=-c%20search_path%3D{schema}", place.url());
        PostgresStore::open(PostgresOptions { url, ..place.options() })
    };
    let (one, two) = (at("one").await.unwrap(), at("two").await.unwrap());
    assert_ne!(one.ledger_id(), two.ledger_id());
    one.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    assert_eq!((one.head().await, two.head().await), (Ok(Position(1)), Ok(Position::START)));
}
