//! The projections on real stores: what they show, what happens when one of them fails, and that a table made anew
//! from the log is the live one, row for row.

mod history;
mod world;

mod equal;
mod power_cut;
mod processes;
mod rebuilding;
mod repeating;
mod rights;
mod stalling;
mod verifying;
