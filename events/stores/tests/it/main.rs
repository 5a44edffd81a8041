//! The stores held to their contract, to a model, and to what each promises beyond it.

mod memory;
mod model;
mod sqlite;
mod support;
