//! Killed at any moment: the real program, killed by a signal that nothing can catch, at every crash point and at random
//! moments. Behind each death a new process recovers, and an audit looks at the log on disk and at the provider's folder.

mod audit;
mod audited;
#[cfg(feature = "kurrentdb")]
pub(crate) mod event_server;
mod keeping;
#[cfg(feature = "kurrentdb")]
mod kurrent;
mod matrix;
mod program;
mod scenes;
mod shared;
mod sites;
mod stage;
mod storm;
