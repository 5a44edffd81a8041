//! What is true now: tables that follow the log.
pub mod projection;
pub mod environments;
pub mod current_leases;
pub mod reusable_leases;
