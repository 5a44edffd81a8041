//! Several real ledgers on one database: what they share is given to one of them, and a database that crashes under them
//! loses nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use lease_stores::contract::postgres_server::{Durability, PostgresServer};
use serde_json::Value;

use super::keeping::Keeping;
use super::program::{Answer, say};
use super::sites::{Site, Trouble};
use super::stage::{Stage, text};
use super::storm::storm;

/// Servers on the database.
const LEDGERS: usize = 3;
/// How many want one reusable lease at once, and how often.
const RIVALS: usize = 64;
const ROUNDS: usize = 50;
/// How often the database crashes.
const CRASHES: u32 = 20;
/// How long it lives between two crashes, and how long it is away, in milliseconds.
const UP_MS: std::ops::Range<u64> = 300..1_500;
const DOWN_MS: std::ops::Range<u64> = 1..300;

/// 64 acquires over three processes for one reusable lease: exactly one gets it, 50 times (W2; field: paperclip#5954,
/// agent-sandbox#418).
#[test]
fn one_of_many_rivals_over_three_processes_gets_the_reusable_lease() {
    one_of_many_gets_the_reusable_lease(Keeping::Postgres, LEDGERS, ROUNDS);
}

/// 64 acquires over so many servers want one reusable lease, so many times: exactly one gets it, and all others fresh ones.
pub(super) fn one_of_many_gets_the_reusable_lease(keeping: Keeping, ledgers: usize, rounds: usize) {
    let mut stage = Stage::new(Site::Fake, keeping);
    let first = stage.take_server();
    let others: Vec<_> = (1..ledgers).map(|_| stage.home.start(None).expect("it serves")).collect();
    let addresses: Vec<String> =
        [&first].into_iter().chain(&others).map(|server| server.address().to_owned()).collect();
    stage.put_server(first);
    for round in 0..rounds {
        let environment = stage.environment(true, Trouble::None);
        let lease = stage.lease_in(&environment);
        let release = stage.on_lease(&lease, "release", serde_json::json!({}));
        stage.done(release);
        let asks: Vec<_> = (0..RIVALS).map(|_| stage.acquire_in(&environment)).collect();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let asked: Vec<_> = asks
                .iter()
                .zip(addresses.iter().cycle())
                .map(|(ask, address)| scope.spawn(move || say(address, ask).expect("an answer")))
                .collect();
            asked.into_iter().map(|asked| asked.join().expect("it does not panic")).collect()
        });
        let odd = answers.iter().find(|answer| answer.status != 201);
        assert!(odd.is_none(), "round {round}: {odd:?}");
        let leases: Vec<&Value> = answers.iter().map(|answer| &answer.body["lease"]).collect();
        let reused = leases.iter().filter(|other| other["resumedFrom"] == lease["id"]).count();
        let held: BTreeSet<String> = leases.iter().map(|lease| text(&lease["providerLeaseId"])).collect();
        assert_eq!((reused, held.len()), (1, RIVALS), "round {round}");
    }
    drop(others);
    stage.audit().expect("all is well");
}

#[test]
fn a_database_that_crashes_twenty_times_under_load_loses_nothing_and_no_sandbox_leaks() {
    let mut database = PostgresServer::start(Durability::Durable).expect("a server");
    let keeping = Keeping::PostgresAt(database.url("postgres"));
    let stormy = storm(keeping, 2, 1, |fleet| {
        for _ in 0..CRASHES {
            std::thread::sleep(fleet.moment(&UP_MS));
            database.crash().expect("it runs");
            std::thread::sleep(fleet.moment(&DOWN_MS));
            database.run().expect("it starts again");
        }
        // The last commands are answered by a database that stays.
        std::thread::sleep(Duration::from_millis(UP_MS.end));
    });
    println!("{}", stormy.unwrap_or_else(|fault| panic!("{fault}")));
}
