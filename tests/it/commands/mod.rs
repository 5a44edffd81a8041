//! The commands, on the memory store with the fake provider, under tokio's paused time.

mod cancel;
mod failures;
mod life;
mod once;
mod refusals;
mod reuse;
pub(crate) mod simulation;
