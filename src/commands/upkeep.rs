//! What the ledger does of its own accord: the actor, and the words for what came of it. The commands that it runs are
//! chosen by `recovery`, and stand beside all others: [`super::expire`], [`super::settle`], [`super::cleanup`].

use lease_events::id::CommandId;
use lease_events::record::ActorKind;

use super::Context;
use super::caller::{Caller, Command};

macro_rules! words {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What was done to a lease.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Did { $($(#[$doc])* $variant,)* }

        impl Did {
            /// As reports spell it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// Its time had come, and it was released.
    Expired = "expired",
    /// What its acquire made, or took over, was found: its run has it.
    Adopted = "adopted",
    /// Its release was run to its end; what was found for an acquire that nobody wants any more was released.
    Finished = "finished",
    /// Its acquire came to nothing, for certain.
    GivenUp = "given-up",
    /// What it had claimed went back to the lease that held it before, and its acquire came to nothing.
    GivenBack = "given-back",
    /// What became of its effect is not known yet; it is looked at again.
    StillUnknown = "still-unknown",
    /// Nobody will ever know how a command in its workspace ended.
    CommandLost = "command-lost",
    /// A claim by a lease that is over went back: what it kept is kept still, or gone.
    ClaimReturned = "claim-returned",
    /// What it left was destroyed, or is gone.
    CleanedUp = "cleaned-up",
    /// The provider failed to destroy what it left; it is tried again.
    CleanupFailed = "cleanup-failed",
    /// The provider was not reached, which does not count as a try.
    NotReached = "not-reached",
    /// An operator must look; it is still tried daily.
    Escalated = "escalated",
    /// What it left is kept, and an operator must say what shall become of it.
    Kept = "kept",
    /// Its run was kept alive, was not heard of in time, and is over: it was released.
    RunLost = "run-lost",
    /// Its run had been released before; it was released too.
    RunEnded = "run-ended",
    /// Nothing accounted for it at its provider: it was destroyed.
    Reclaimed = "reclaimed",
    /// Nothing accounted for it at its provider, which did not destroy it.
    ReclaimFailed = "reclaim-failed",
    /// What it holds is gone at its provider, and that was recorded.
    RecordedGone = "recorded-gone",
}

/// One thing that was done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upkeep {
    /// What.
    pub did: Did,
    /// Because of what, in words.
    pub because: String,
}

impl Upkeep {
    /// What was done because of `because`.
    pub fn new(did: Did, because: impl Into<String>) -> Self {
        Self { did, because: because.into() }
    }
}

/// A command of the ledger's own, in the name of a part of it such as `expiry`.
#[must_use]
pub fn command_of(context: &Context, part: &str) -> Command {
    Command {
        id: CommandId(context.ids.fresh()),
        repeatable: false,
        caller: Caller::of(ActorKind::Ledger, part),
        correlation_id: None,
        caused_by: None,
    }
}
