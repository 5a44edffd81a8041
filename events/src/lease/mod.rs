//! The lease: its events, which may follow which, and the state they fold into. Pure.
//!
//! **Invariant:** nobody else interprets lease events. The command handler, the projections, replay and time
//! travel all fold through [`StreamState::apply`](crate::fold::StreamState::apply).

pub mod event;
pub mod evolve;
pub mod state;
pub mod transition;
pub mod upcast;
pub mod vocabulary;

pub use event::LeaseEvent;
pub use state::LeaseState;
