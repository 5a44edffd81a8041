//! Steps from old versions of lease events to the current ones.

use crate::codec::Upcaster;

/// One line a step. Every event is at version 1 so far.
pub const UPCASTERS: &[Upcaster] = &[];
