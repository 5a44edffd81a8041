//! The tests of the events crate as one binary: the lease's state machine first, then what is stored for ever.

mod codec;
mod environment;
mod given;
mod histories;
mod properties;
mod samples;
mod stories;
