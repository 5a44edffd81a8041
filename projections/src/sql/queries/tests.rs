//! The query plans: no list reads a whole table, and none sorts what history makes longer.

use std::sync::Arc;

use lease_events::id::{CompanyId, EnvironmentId, RunId};
use lease_events::lease::vocabulary::{LeaseStatus, NextActionKind};
use lease_events::record::Position;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::sql::SqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::*;
use crate::sql::batch::SqlFold;
use crate::sql::dialect::Database;
use crate::sql::tables;

fn folds(database: Database) -> Vec<SqlFold> {
    crate::standard().iter().map(|projection| SqlFold::new(database, projection, "")).collect()
}

fn leases(filter: &LeaseFilter) -> String {
    lists::leases(Database::Sqlite, filter).text
}

/// What `EXPLAIN QUERY PLAN` says of `sql`, in a line.
async fn plan(sql: &str) -> String {
    let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.expect("memory is there");
    let mut lent = SqlConnection::Sqlite(&mut connection);
    tables::ensure(&mut lent, &folds(Database::Sqlite)).await.expect("the tables can be made");
    let explain: Arc<str> = format!("EXPLAIN QUERY PLAN {sql}").into();
    let rows: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(AssertSqlSafe(explain)).fetch_all(&mut connection).await.expect("it is a statement");
    rows.into_iter().map(|(.., detail)| detail).collect::<Vec<_>>().join("; ")
}

async fn expect(sql: &str, index: &str) {
    let plan = plan(sql).await;
    assert!(plan.contains(&format!("_{index}_1")), "{index} is not used: {plan}\n{sql}");
}

#[tokio::test]
async fn lists_of_leases_go_through_the_index_that_is_meant_for_them() {
    let page = LeaseFilter { before: Some(Position(9)), limit: 10, ..Default::default() };
    let (company_id, environment_id) =
        (Some(CompanyId::derived(&["company"])), Some(EnvironmentId::derived(&["environment"])));
    let run_id = Some(RunId::derived(&["run"]));
    let cases = [
        (LeaseFilter { company_id, ..page.clone() }, "company"),
        (LeaseFilter { environment_id, ..page.clone() }, "environment"),
        (LeaseFilter { company_id, run_id, ..page.clone() }, "run"),
        (LeaseFilter { environment_id, run_id, ..page.clone() }, "run"),
        (LeaseFilter { environment_id, open_only: true, ..page.clone() }, "unsettled"),
        (LeaseFilter { environment_id, unsettled: true, limit: 1, ..Default::default() }, "unsettled"),
        (LeaseFilter { open_only: true, ..page.clone() }, "open"),
        (LeaseFilter { company_id, open_only: true, ..page.clone() }, "open"),
        (LeaseFilter { statuses: vec![LeaseStatus::Active], ..page.clone() }, "open"),
        (LeaseFilter { needs_attention: true, ..page.clone() }, "attention"),
        (LeaseFilter { needs_attention: true, company_id, ..page.clone() }, "attention"),
        (LeaseFilter { running_commands: true, ..page.clone() }, "running"),
        (LeaseFilter { due_by: Some(chrono::DateTime::UNIX_EPOCH), limit: 10, ..Default::default() }, "due"),
    ];
    for (filter, index) in cases {
        expect(&leases(&filter), index).await;
    }
}

#[tokio::test]
async fn what_is_due_is_read_in_the_order_of_its_index() {
    let filter = DueFilter {
        action: NextActionKind::Expire,
        by: Some(chrono::DateTime::UNIX_EPOCH),
        after: Some((chrono::DateTime::UNIX_EPOCH, LeaseId::derived(&["x"]))),
        limit: 10,
    };
    let whenever = DueFilter { by: None, after: None, limit: 1, ..filter.clone() };
    for filter in [filter, whenever] {
        let sql = lists::due(&filter).text;
        expect(&sql, "next").await;
        let plan = plan(&sql).await;
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
    let claims = lists::open_claims(Some((chrono::DateTime::UNIX_EPOCH, LeaseId::derived(&["x"]))), 10);
    let claims = plan(&claims.text).await;
    assert!(claims.contains("reuse_claims_open_1") && !claims.contains("TEMP B-TREE"), "{claims}");
    expect(CLAIMED_BY, "claim").await;
    expect(NEEDING_ATTENTION, "attention").await;
}

#[tokio::test]
async fn silent_runs_are_read_in_the_order_of_their_index_and_released_ones_through_open_leases() {
    let cursor = Some((chrono::DateTime::UNIX_EPOCH, RunId::derived(&["x"])));
    for (until, after) in [(Some(chrono::DateTime::UNIX_EPOCH), cursor), (None, None)] {
        let sql = lists::alive_runs(&AliveFilter { until, after, limit: 10 }).text;
        expect(&sql, "silent").await;
        let plan = plan(&sql).await;
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
    expect(HALF_RELEASED, "open").await;
    let plan = plan(HALF_RELEASED).await;
    assert!(plan.contains("SEARCH runs USING INDEX sqlite_autoindex"), "{plan}");
}

#[tokio::test]
async fn pages_come_in_the_order_of_their_index() {
    for company_id in [None, Some(CompanyId::derived(&["company"]))] {
        let filter = LeaseFilter { company_id, limit: 10, ..Default::default() };
        let plan = plan(&leases(&filter)).await;
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
    let plan = plan(REUSABLE).await;
    assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{plan}");
}

#[tokio::test]
async fn look_ups_go_through_an_index() {
    expect(OPEN_OF_RUN, "run").await;
    expect(LATEST_GENERATION, "run").await;
    expect(REUSABLE, "fingerprint").await;
    for sql in [LEASE, ENVIRONMENT] {
        let plan = plan(sql).await;
        assert!(plan.contains("sqlite_autoindex"), "{plan}");
    }
    let of_environment =
        ReusableFilter { environment_id: Some(EnvironmentId::derived(&["e"])), limit: 5, ..Default::default() };
    expect(&lists::reusable(&of_environment).text, "environment").await;
    let company_id = Some(CompanyId::derived(&["company"]));
    let named = EnvironmentFilter { company_id, name: Some("x".to_owned()), limit: 1, ..Default::default() };
    expect(&lists::environments(&named).text, "name").await;
    expect(&lists::environments(&EnvironmentFilter { company_id, limit: 5, ..Default::default() }).text, "company")
        .await;
    expect(&lists::environments(&EnvironmentFilter { limit: 5, ..Default::default() }).text, "newest").await;
    let named = SecretFilter { company_id, name: Some("x".to_owned()), limit: 1, ..Default::default() };
    expect(&lists::secrets(&named).text, "name").await;
    expect(&lists::secrets(&SecretFilter { company_id, limit: 5, ..Default::default() }).text, "company").await;
    expect(&lists::secrets(&SecretFilter { limit: 5, ..Default::default() }).text, "newest").await;
}

/// A busy company's rows, some of them of each kind that an index is for.
const MANY: [&str; 4] = [
    "INSERT INTO current_leases SELECT md5(n::text), 'c' || n % 20, 'e' || n % 50, 'fast', 'sandbox', 'fake', 'ephemeral',
       'r' || n / 3, NULL, NULL, NULL, NULL, NULL, CASE WHEN n % 100 = 0 THEN 'active' ELSE 'released' END,
       (n % 100 = 0)::int, CASE WHEN n % 300 = 0 THEN 'pending' ELSE 'success' END, (n % 1000 = 0)::int, 'p', 1, NULL,
       't', 't', 't', 't', NULL, NULL, CASE WHEN n % 100 = 0 THEN 'expire' END,
       CASE WHEN n % 100 = 0 THEN to_char(n, 'FM00000000') END, NULL, CASE WHEN n % 5000 = 0 THEN 'o' END,
       (n % 900 = 0)::int,       CASE WHEN n % 700 = 0 THEN 'l' || n END, NULL, 'f' || n % 40, 0, 3, n, n + 3, 't', '{}'
     FROM generate_series(1, 20000) AS n",
    "INSERT INTO reusable_leases SELECT md5(n::text), 'c', 'e' || n % 50, 'p', 'd', 'o', NULL, NULL, NULL, 'f' || n % 400,
       'x', 1, to_char(n, 'FM00000000'), '{}', n FROM generate_series(1, 20000) AS n",
    "INSERT INTO environments (environment_id, company_id, name, driver, status, revision, created_position, position,
       generation, created_at, updated_at, config, state) SELECT md5(n::text), 'c' || n % 20, 'n' || n, 'sandbox', 'active',
       0, n, n, 0, 't', 't', '{}', '{}' FROM generate_series(1, 20000) AS n",
    "ANALYZE",
];

#[tokio::test]
async fn on_postgresql_every_list_goes_through_an_index_too() {
    let place = PostgresPlace::new();
    let mut connection = place.connection().await;
    let mut lent = SqlConnection::Postgres(&mut connection);
    tables::ensure(&mut lent, &folds(Database::Postgres)).await.expect("the tables can be made");
    for sql in MANY {
        sqlx::query(sql).execute(&mut connection).await.expect("rows can be made up");
    }
    let id = || Some("x");
    let page = LeaseFilter { before: Some(Position(9)), limit: 10, ..Default::default() };
    let company_id = Some(CompanyId::derived(&["company"]));
    let environment_id = Some(EnvironmentId::derived(&["environment"]));
    let after = Some((chrono::DateTime::UNIX_EPOCH, LeaseId::derived(&["x"])));
    let due = DueFilter { action: NextActionKind::Expire, by: Some(chrono::DateTime::UNIX_EPOCH), after, limit: 10 };
    let silent =
        AliveFilter { until: None, after: Some((chrono::DateTime::UNIX_EPOCH, RunId::derived(&["x"]))), limit: 9 };
    let mut lists: Vec<(String, Vec<Value>)> = [
        LeaseFilter { ..page.clone() },
        LeaseFilter { company_id, ..page.clone() },
        LeaseFilter { environment_id, ..page.clone() },
        LeaseFilter { company_id, run_id: Some(RunId::derived(&["run"])), ..page.clone() },
        LeaseFilter { environment_id, unsettled: true, limit: 1, ..Default::default() },
        LeaseFilter { company_id, open_only: true, ..page.clone() },
        LeaseFilter { statuses: vec![LeaseStatus::Active], ..page.clone() },
        LeaseFilter { needs_attention: true, company_id, ..page.clone() },
        LeaseFilter { due_by: Some(chrono::DateTime::UNIX_EPOCH), limit: 10, ..Default::default() },
    ]
    .iter()
    .map(|filter| lists::leases(Database::Postgres, filter))
    .chain([
        lists::due(&due),
        lists::alive_runs(&silent),
        lists::reusable(&ReusableFilter { environment_id, limit: 5, ..Default::default() }),
        lists::environments(&EnvironmentFilter { company_id, name: Some("x".into()), limit: 1, ..Default::default() }),
        lists::environments(&EnvironmentFilter { limit: 5, ..Default::default() }),
    ])
    .map(|list| (list.text, list.values))
    .collect();
    for sql in [LEASE, OPEN_OF_RUN, CLAIMED_BY, ENVIRONMENT] {
        lists.push((sql.to_owned(), vec![Value::text(id())]));
    }
    lists.push((LATEST_GENERATION.to_owned(), vec![Value::text(id()), Value::text(id())]));
    lists.push((REUSABLE.to_owned(), vec![Value::text(id()), Value::from(5u64)]));
    lists.push((NEEDING_ATTENTION.to_owned(), vec![]));
    // Small tables are read whole where that is quicker; these must not be, however small they are now.
    sqlx::query("SET enable_seqscan = off").execute(&mut connection).await.expect("it is a setting");
    for (sql, values) in lists {
        let explain = crate::sql::statements::sql(format!("EXPLAIN {sql}"));
        let plan = access::fetch(&mut SqlConnection::Postgres(&mut connection), explain, values).await;
        let plan = format!("{:?}", plan.expect("it is a statement"));
        assert!(!plan.contains("Seq Scan"), "{plan}\n{sql}");
    }
}
