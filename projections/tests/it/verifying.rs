//! Verify finds what is not as the log says, and names it.

use lease_events::record::StreamId;
use lease_projections::read_model::{DIFFERENCES_MAX, Difference, DifferenceKind, ReadModel as _};
use lease_projections::sql::Database;

use crate::history::{acquired, append, lease, requested};
use crate::world::{World, both};

async fn a_tampered_a_missing_and_a_surplus_row_are_found(on: Database) {
    let world = World::new(on).await;
    for number in 0..40 {
        append(&*world.store, &StreamId::lease(lease(number)), &[requested(number, number), acquired(1)]).await;
    }
    let mut vandal = world.vandal().await;
    for (number, sql) in [
        (3, "UPDATE current_leases SET status = 'released', is_open = 0 WHERE lease_id = "),
        (4, "DELETE FROM current_leases WHERE lease_id = "),
        (5, "UPDATE current_leases SET lease_id = 'zzz' WHERE lease_id = "),
    ] {
        assert_eq!(vandal.run(&format!("{sql}'{}'", lease(number))).await, 1);
    }
    let report = world.model.verify("current_leases").await.expect("it can be verified");
    let found =
        |key: &str| report.differences.iter().find(|difference| difference.key == key).map(|it| it.kind.clone());
    assert_eq!(found(&lease(3).to_string()), Some(DifferenceKind::Columns(vec!["status", "is_open"])));
    assert_eq!(found(&lease(4).to_string()), Some(DifferenceKind::Missing));
    assert_eq!(found(&lease(5).to_string()), Some(DifferenceKind::Missing));
    assert_eq!(found("zzz"), Some(DifferenceKind::Surplus));
    assert_eq!((report.differences.len(), report.rows), (4, 39));

    vandal.run("UPDATE current_leases SET driver = 'ssh'").await;
    let report = world.model.verify("current_leases").await.expect("it can be verified");
    assert_eq!(report.differences.len(), DIFFERENCES_MAX);
    assert!(
        matches!(&report.differences[0], Difference { kind: DifferenceKind::Columns(columns), .. } if columns[0] == "driver")
    );
}

async fn rows_beyond_one_range_are_compared_too(on: Database) {
    let world = World::new(on).await;
    let mut vandal = world.vandal().await;
    // More live rows than one job compares, and all of them surplus but the last of the log's own.
    append(&*world.store, &StreamId::lease(lease(1)), &[requested(1, 1)]).await;
    let rows: Vec<String> = (0..=4_500)
        .map(|number| {
            format!("('{number:08}', 'c', 'e', 'p', 'd', 'o', NULL, NULL, NULL, NULL, 'x', 1, 't', '{{}}', 1)")
        })
        .collect();
    vandal.run(&format!("INSERT INTO reusable_leases VALUES {}", rows.join(", "))).await;
    vandal.run("DELETE FROM reusable_leases WHERE lease_id < '00004495'").await;
    let report = world.model.verify("reusable_leases").await.expect("it can be verified");
    assert_eq!((report.differences.len(), report.rows), (6, 6));
}

both!(a_tampered_a_missing_and_a_surplus_row_are_found, rows_beyond_one_range_are_compared_too,);
