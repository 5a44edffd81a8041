//! What is true now: tables that follow the log.

pub mod projection;
pub mod read_model;
