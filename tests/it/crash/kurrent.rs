//! Ledgers on a server of `KurrentDB`'s protocol: the crash matrix, and many rivals for one reusable lease.

use super::keeping::Keeping;
use super::matrix::{matrix, on_all_or_one};
use super::scenes::Group;
use super::shared::one_of_many_gets_the_reusable_lease;
use super::sites::Site;

#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_an_acquire() {
    matrix(Group::Acquires, &on_all_or_one(), &Keeping::Kurrent);
}

#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_a_release() {
    matrix(Group::Ends, &on_all_or_one(), &Keeping::Kurrent);
}

#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_work_on_a_lease() {
    matrix(Group::Work, &on_all_or_one(), &Keeping::Kurrent);
}

#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_a_command_that_needs_no_provider() {
    matrix(Group::Care, &[Site::Fake], &Keeping::Kurrent);
}

#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_recovery() {
    matrix(Group::Recovery, &on_all_or_one(), &Keeping::Kurrent);
}

#[test]
fn a_server_on_kurrentdb_may_die_at_any_point_of_a_question_to_a_provider() {
    matrix(Group::Questions, &on_all_or_one(), &Keeping::Kurrent);
}

/// Decided by the server's expected revisions (W2; field: paperclip#5954).
#[test]
fn one_of_many_rivals_on_kurrentdb_gets_the_reusable_lease() {
    one_of_many_gets_the_reusable_lease(Keeping::Kurrent, 1, 5);
}
