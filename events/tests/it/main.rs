//! The tests of the events crate as one binary: the lease's state machine first, then what is stored for ever.

mod catalogue;
mod codec;
mod compatibility;
mod environment;
mod generated;
mod given;
mod golden;
mod histories;
mod properties;
mod samples;
mod schemas;
mod secret;
mod stories;
