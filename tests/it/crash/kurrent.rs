//! Ledgers on a server of `KurrentDB`'s protocol: many rivals for one reusable lease, and a network between
//! the two that fails.

use std::sync::Arc;
use std::time::Duration;

use super::event_server::EventServer;
use super::keeping::Keeping;
use super::shared::one_of_many_gets_the_reusable_lease;
use super::sites::{Site, Trouble};
use super::stage::Stage;
use super::storm::{Fleet, storm};
use crate::proxy::Mode;

/// How often the network is disturbed in the storm.
const DISTURBANCES: usize = 12;
/// How long it is well, and how long it is not, in milliseconds.
const WELL_MS: std::ops::Range<u64> = 100..600;
const DISTURBED_MS: std::ops::Range<u64> = 50..1_200;

/// Decided by the server's expected revisions (W2; field: paperclip#5954).
#[test]
fn one_of_many_rivals_on_kurrentdb_gets_the_reusable_lease() {
    one_of_many_gets_the_reusable_lease(Keeping::Kurrent, 1, 10);
}

#[test]
fn a_ledger_finds_a_kurrentdb_that_comes_later_than_itself() {
    let server = Arc::new(EventServer::start_behind_a_network());
    server.disturb(Mode::Cut);
    let mut stage = Stage::new(Site::Fake, Keeping::KurrentAt(Arc::clone(&server)));
    let coming = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        server.disturb(Mode::Pass);
    });
    let environment = stage.environment(false, Trouble::None);
    stage.lease_in(&environment);
    coming.join().expect("it does not panic");
    stage.audit().expect("all is well");
}

/// Delays, cuts, and answers that never arrive, one after the other, under clients that ask all the time.
#[test]
fn a_network_to_kurrentdb_that_fails_under_load_loses_nothing_and_no_sandbox_leaks() {
    let server = Arc::new(EventServer::start_behind_a_network());
    let stormy = storm(Keeping::KurrentAt(Arc::clone(&server)), 1, 1, |fleet: &mut Fleet<'_>| {
        let modes = [Mode::Cut, Mode::Mute, Mode::Delay(Duration::from_millis(30))];
        for mode in modes.into_iter().cycle().take(DISTURBANCES) {
            std::thread::sleep(fleet.moment(&WELL_MS));
            server.disturb(mode);
            std::thread::sleep(fleet.moment(&DISTURBED_MS));
            // A connection whose answers were swallowed is of no more use.
            server.disturb(Mode::Cut);
            std::thread::sleep(Duration::from_millis(50));
            server.disturb(Mode::Pass);
        }
        // The last commands are answered over a network that stays.
        std::thread::sleep(Duration::from_millis(WELL_MS.end));
    });
    println!("{}", stormy.unwrap_or_else(|fault| panic!("{fault}")));
}
