//! What the documented roles may do, tried by logins that have nothing else.

use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::{EventStore, Expected};
use lease_stores::contract::append;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::postgres::{OpenError, PostgresOptions, PostgresStore, migrate};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const ROLES: &str = include_str!("../../../../../migrations/postgres/roles.sql");

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// A login that is a member of one of the roles, and its URL.
async fn login(place: &PostgresPlace, role: &str) -> String {
    // Logins are the server's, and other tests run on it: the name is this database's.
    let name = place.database().replace("test", role);
    let sql = format!(
        "CREATE ROLE {name} LOGIN IN ROLE lease_ledger_{role}; ALTER ROLE {name} SET role = lease_ledger_{role}"
    );
    run(&mut place.connection().await, &sql).await.unwrap();
    let url = place.url();
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{name}@{}", rest.split_once('@').unwrap().1)
}

async fn denied(connection: &mut PgConnection, sql: &str) {
    let code = run(connection, sql)
        .await
        .err()
        .and_then(|error| error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned)));
    assert_eq!(code.as_deref(), Some("42501"), "{sql}");
}

/// Removes the logins, which would outlive the database.
async fn remove(place: &PostgresPlace, roles: &[&str]) {
    let mut connection = place.connection().await;
    for role in roles {
        let name = place.database().replace("test", role);
        run(&mut connection, &format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
    }
}

#[tokio::test]
async fn each_role_can_do_its_work_and_no_more() {
    let place = PostgresPlace::new();
    migrate(&place.url(), &SystemClock, &SystemIds).await.unwrap();
    let mut owner = place.connection().await;
    // Twice: it changes nothing the second time.
    run(&mut owner, ROLES).await.unwrap();
    run(&mut owner, ROLES).await.unwrap();

    let url = login(&place, "writer").await;
    let store = PostgresStore::open(PostgresOptions { url: url.clone(), ..place.options() }).await.unwrap();
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    let mut writer = PgConnection::connect(&url).await.unwrap();
    for sql in [
        "UPDATE events SET data = '{}'",
        "DELETE FROM events",
        "TRUNCATE events",
        "DROP TABLE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DELETE FROM owners",
        "DELETE FROM head",
        "UPDATE ledger SET id = 'x'",
    ] {
        denied(&mut writer, sql).await;
    }
    // Projections are the writer's own tables.
    run(&mut writer, "CREATE TABLE current_leases (lease_id text); DROP TABLE current_leases").await.unwrap();

    let mut auditor = PgConnection::connect(&login(&place, "auditor").await).await.unwrap();
    run(&mut auditor, "SELECT * FROM events, ledger").await.unwrap();
    for sql in ["INSERT INTO head VALUES (true, 1, 1)", "SELECT * FROM secret_versions", "CREATE TABLE x ()"] {
        denied(&mut auditor, sql).await;
    }

    let mut analyst = PgConnection::connect(&login(&place, "analyst").await).await.unwrap();
    for sql in ["SELECT * FROM events", "SELECT * FROM secret_versions", "SELECT * FROM owners", "CREATE TABLE x ()"] {
        denied(&mut analyst, sql).await;
    }
    store.close().await;
    drop((writer, auditor, analyst));
    remove(&place, &["writer", "auditor", "analyst"]).await;
}

#[tokio::test]
async fn even_their_owner_changes_no_events_by_mistake() {
    let place = PostgresPlace::new();
    let store = place.store().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.unwrap();
    let mut owner = place.connection().await;
    for sql in ["UPDATE events SET data = '{}'", "DELETE FROM events", "TRUNCATE events"] {
        let error = run(&mut owner, sql).await.unwrap_err().to_string();
        assert!(error.contains("events are never changed or deleted"), "{error}");
    }
}

#[tokio::test]
async fn a_login_without_the_rights_is_told_where_they_stand() {
    let place = PostgresPlace::new();
    migrate(&place.url(), &SystemClock, &SystemIds).await.unwrap();
    let mut owner = place.connection().await;
    run(&mut owner, ROLES).await.unwrap();
    let url = login(&place, "analyst").await;
    let refused = PostgresStore::open(PostgresOptions { url, ..place.options() }).await.err().unwrap();
    assert!(matches!(refused, OpenError::NotPermitted { .. }), "{refused}");
    assert!(refused.to_string().contains("see docs/postgres.md"), "{refused}");
    remove(&place, &["analyst"]).await;
}
