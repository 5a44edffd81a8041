//! Who sees which rows on PostgreSQL.

use lease_events::record::StreamId;
use lease_projections::projection::Value;
use lease_projections::read_model::ReadModel as _;
use lease_projections::sql::Database;
use tokio::sync::mpsc;

use crate::history::{acquired, append, company, lease, requested};
use crate::world::World;

const ROLES: &str = include_str!("../../../migrations/postgres/roles.sql");
const COUNT: &str = "SELECT count(*) FROM current_leases";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analyst_sees_the_rows_of_one_company_before_and_after_a_rebuild() {
    let world = World::new(Database::Postgres).await;
    let mut vandal = world.vandal().await;
    vandal.run(ROLES).await;
    append(&*world.store, &StreamId::lease(lease(1)), &[requested(1, 1), acquired(1)]).await;
    for rebuilt in [false, true] {
        if rebuilt {
            let (progress, _unheard) = mpsc::channel(1);
            world.model.rebuild("current_leases", progress).await.expect("it can be rebuilt");
        }
        vandal.run("RESET ROLE; RESET ledger.company; SET ROLE lease_ledger_analyst").await;
        assert_eq!(vandal.rows(COUNT).await, [[Value::Integer(0)]], "rebuilt: {rebuilt}");
        vandal.run("SET ledger.company = 'another'").await;
        assert_eq!(vandal.rows(COUNT).await, [[Value::Integer(0)]], "rebuilt: {rebuilt}");
        vandal.run(&format!("SET ledger.company = '{}'", company())).await;
        assert_eq!(vandal.rows(COUNT).await, [[Value::Integer(1)]], "rebuilt: {rebuilt}");
        vandal.run("RESET ROLE").await;
    }
}
