//! Recovery: whatever died, whenever, nothing leaks, nothing is lost, nothing is held twice.

mod expiry;
mod reconcile;
mod runs;
