//! The query plans: no list reads a whole table, and none sorts what history makes longer.

use std::sync::Arc;

use lease_events::id::{CompanyId, EnvironmentId, RunId};
use lease_events::lease::vocabulary::{LeaseStatus, NextActionKind};
use lease_events::record::Position;
use sqlx::{AssertSqlSafe, Connection as _};

use super::*;
use crate::sql::batch::SqlFold;
use crate::sql::tables;

/// What `EXPLAIN QUERY PLAN` says of `sql`, in a line.
async fn plan(sql: &str) -> String {
    let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.expect("memory is there");
    let folds: Vec<SqlFold> = crate::standard().iter().map(|projection| SqlFold::new(projection, "")).collect();
    tables::ensure(&mut connection, &folds).await.expect("the tables can be made");
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
        expect(leases(&filter).sql().as_str(), index).await;
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
        let sql = due(&filter);
        expect(sql.sql().as_str(), "next").await;
        let plan = plan(sql.sql().as_str()).await;
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
    let claims = open_claims(Some((chrono::DateTime::UNIX_EPOCH, LeaseId::derived(&["x"]))), 10);
    let claims = plan(claims.sql().as_str()).await;
    assert!(claims.contains("reuse_claims_open_1") && !claims.contains("TEMP B-TREE"), "{claims}");
    expect(CLAIMED_BY, "claim").await;
    expect(NEEDING_ATTENTION, "attention").await;
}

#[tokio::test]
async fn silent_runs_are_read_in_the_order_of_their_index_and_released_ones_through_open_leases() {
    let cursor = Some((chrono::DateTime::UNIX_EPOCH, RunId::derived(&["x"])));
    for (until, after) in [(Some(chrono::DateTime::UNIX_EPOCH), cursor), (None, None)] {
        let sql = alive_runs(&AliveFilter { until, after, limit: 10 });
        expect(sql.sql().as_str(), "silent").await;
        let plan = plan(sql.sql().as_str()).await;
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
        let plan = plan(leases(&filter).sql().as_str()).await;
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
    expect(list_reusable(&of_environment).sql().as_str(), "environment").await;
    let company_id = Some(CompanyId::derived(&["company"]));
    let named = EnvironmentFilter { company_id, name: Some("x".to_owned()), limit: 1, ..Default::default() };
    expect(list_environments(&named).sql().as_str(), "name").await;
    expect(
        list_environments(&EnvironmentFilter { company_id, limit: 5, ..Default::default() }).sql().as_str(),
        "company",
    )
    .await;
    expect(list_environments(&EnvironmentFilter { limit: 5, ..Default::default() }).sql().as_str(), "newest").await;
    let named = SecretFilter { company_id, name: Some("x".to_owned()), limit: 1, ..Default::default() };
    expect(list_secrets(&named).sql().as_str(), "name").await;
    expect(list_secrets(&SecretFilter { company_id, limit: 5, ..Default::default() }).sql().as_str(), "company").await;
    expect(list_secrets(&SecretFilter { limit: 5, ..Default::default() }).sql().as_str(), "newest").await;
}
