//! The commands, on the memory store with the fake provider, under tokio's paused time.

mod life;
mod reuse;
mod cancel;
mod once;
mod refusals;
mod failures;
mod simulation;
