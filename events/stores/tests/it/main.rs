//! The stores held to their contract, to a model, and to what each promises beyond it.

#![expect(clippy::unwrap_used, reason = "a helper of a test panics where the test fails")]

mod copying;
mod memory;
mod model;
mod postgres;
mod sealed;
mod sqlite;
mod support;
