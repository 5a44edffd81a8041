//! Duties: where several processes keep one ledger, each sweep is the duty of one of them at a time, so that what is due
//! is seen to once.
//!
//! **Invariant:** a sweep looks only while it holds a [`Turn`], and its duty goes to no other process in that time, but
//! where this one is provably dead. Even then the guards of the commands stand: two who look at one row are two commands
//! on one stream.

use std::any::Any;

/// Tells which sweeps are this process's.
pub trait Duties: Send + Sync {
    /// Begins a look of the sweep of this name, where it is this process's duty; asked before each look.
    fn begin(&self, sweep: &'static str) -> Option<Turn>;
}

/// A look that may be taken; it ends when this is dropped.
pub struct Turn(#[expect(dead_code, reason = "it is held for what its drop does")] Option<Box<dyn Any + Send>>);

impl Turn {
    /// One that ends with what `held` does when it is dropped.
    pub fn holding(held: impl Any + Send) -> Self {
        Self(Some(Box::new(held)))
    }
}

/// Every sweep is this process's: it is alone.
#[derive(Debug, Clone, Copy)]
pub struct AllMine;

impl Duties for AllMine {
    fn begin(&self, _: &'static str) -> Option<Turn> {
        Some(Turn(None))
    }
}
