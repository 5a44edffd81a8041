//! The HTTP face.

pub mod wire;
