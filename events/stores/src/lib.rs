//! Where events are kept: stores behind the port [`lease_events::store::EventStore`].

pub mod append_hook;
