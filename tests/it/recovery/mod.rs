//! Recovery: whatever died, whenever, nothing leaks, nothing is lost, nothing is held twice.

mod audit;
mod cleaning;
mod duties;
mod dying;
mod expiry;
mod field_ends;
mod field_holders;
mod listing;
mod reconcile;
mod repeating;
mod runs;
mod script;
mod settling;
