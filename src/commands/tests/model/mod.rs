//! The lease's state machine and the claim protocol, explored: every interleaving of two processes, with deaths between
//! any two steps and a provider that fails, for small cases.
//!
//! The states' leases are folded by the ledger's own fold, and the steps decide with the commands' own functions; the
//! model adds only the order of the steps, a provider that is a list of what is there, and a scheduler. Its limits: at
//! most one command at a time in a process, one moment in time, a provider that does under the same lease id what it did
//! before, and recovery of what nobody is at, or of a take-over that stalls beyond its deadline.

mod explore;
mod invariants;
mod machine;
mod settling;
mod steps;
mod streams;
mod world;

use explore::{Found, explore};
use invariants::{INVARIANTS, one_holder};
use machine::Case;
use world::Issued::{Acquire, Destroy, Release};

/// A case in which the ledger does as it should, and nothing happens yet.
const CHECKED: Case =
    Case { issued: &[], crashes: 0, faults: 0, claims_are_checked: true, takeovers_stall: false, settled_by_one: true };

/// Explores a case, and says how large it was.
#[track_caller]
fn holds(what: &str, case: Case) -> Found {
    let found = explore(case, &INVARIANTS);
    println!("{what}: {} states, {} ways between them, up to {} steps deep", found.states, found.ways, found.depth);
    if let Some(wrong) = &found.wrong {
        panic!("{what}: {wrong}");
    }
    found
}

#[test]
fn three_runs_want_two_kept_sandboxes() {
    let issued = &[Acquire(2), Acquire(3), Acquire(4)];
    holds("three acquires", Case { issued, crashes: 1, faults: 1, ..CHECKED });
}

#[test]
fn releases_and_destroys_meet_the_claim() {
    let issued = &[Acquire(2), Acquire(3), Release(2), Destroy(0)];
    holds("two acquires, a release, a destroy", Case { issued, crashes: 1, faults: 1, ..CHECKED });
}

#[test]
fn processes_die_again_and_again() {
    let issued = &[Acquire(2), Release(2), Destroy(1)];
    holds("an acquire, its release, a destroy", Case { issued, crashes: 2, faults: 1, ..CHECKED });
}

#[test]
fn a_take_over_stalls_beyond_its_deadline() {
    let issued = &[Acquire(2), Acquire(3)];
    holds(
        "two acquires, of which any may stall",
        Case { issued, crashes: 1, faults: 1, takeovers_stall: true, ..CHECKED },
    );
    let issued = &[Acquire(2), Release(2), Destroy(0)];
    holds(
        "one may stall, and what it claims ends",
        Case { issued, crashes: 1, faults: 1, takeovers_stall: true, ..CHECKED },
    );
}

#[test]
fn without_the_expected_revision_of_a_claim_two_runs_hold_one_sandbox() {
    let issued = &[Acquire(2), Acquire(3)];
    let case = Case { issued, claims_are_checked: false, ..CHECKED };
    let wrong = explore(case, &[one_holder]).wrong.expect("the model finds the double holder");
    assert!(wrong.starts_with("sandbox 0 has two holders: leases 2 and 3\n"), "{wrong}");
    let told: Vec<&str> = wrong.lines().filter(|line| line.contains("lease-reuse-claimed")).collect();
    assert_eq!(told, ["    lease 0: lease-reuse-claimed"; 2], "{wrong}");
    assert!(explore(Case { issued, ..CHECKED }, &[one_holder]).wrong.is_none());
}

#[test]
fn settled_by_two_at_once_a_sandbox_is_lost_sight_of() {
    let issued = &[Acquire(2), Release(2)];
    let case = Case { issued, crashes: 1, faults: 1, settled_by_one: false, ..CHECKED };
    let wrong = explore(case, &INVARIANTS).wrong.expect("the model finds what two do to each other");
    assert!(wrong.starts_with("sandbox 2 is at the provider, and no lease accounts for it\n"), "{wrong}");
    assert!(wrong.contains("Settle of lease 2"), "{wrong}");
    assert!(explore(Case { settled_by_one: true, ..case }, &INVARIANTS).wrong.is_none());
}
