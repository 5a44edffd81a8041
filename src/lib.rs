//! Placeholder.

pub mod drivers;
