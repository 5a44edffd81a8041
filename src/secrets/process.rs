//! The process that holds values: it leaves no core dump, and others of its user cannot look into its memory.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Forbids core dumps and debuggers for this process. What it starts is not touched by it: a program begins anew.
pub fn forbid_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps of this process could not be forbidden; they would hold secrets");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_process_that_holds_secrets_is_not_dumped() {
        forbid_dumps();
        assert_eq!(dumpable_behavior().expect("the system says"), DumpableBehavior::NotDumpable);
    }
}
