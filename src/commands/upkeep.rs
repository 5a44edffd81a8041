//! What the ledger does of its own accord: the actor, and the words for what came of it. The commands that it runs are
//! chosen by `recovery`, and stand beside all others: [`super::expire`], and those that settle and clean up.

use lease_events::id::CommandId;
use lease_events::record::ActorKind;
use serde::{Deserialize, Serialize};

use super::Context;
use super::caller::{Caller, Command};

/// What was done to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// Its time had come, and it was released.
    Expired,
    /// Its run was kept alive, was not heard of in time, and is over: it was released.
    RunLost,
    /// Its run had been released before; it was released too.
    RunEnded,
    /// Nothing accounted for it at its provider: it was destroyed.
    Reclaimed,
    /// Nothing accounted for it at its provider, which did not destroy it.
    ReclaimFailed,
    /// What it holds is gone at its provider, and that was recorded.
    RecordedGone,
}

impl Did {
    /// As reports spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::RunLost => "run-lost",
            Self::RunEnded => "run-ended",
            Self::Reclaimed => "reclaimed",
            Self::ReclaimFailed => "reclaim-failed",
            Self::RecordedGone => "recorded-gone",
        }
    }
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
