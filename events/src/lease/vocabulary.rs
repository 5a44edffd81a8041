//! The closed vocabularies of a lease: statuses, policies, reasons. Stored as they are spelled; never renamed.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A word that is not in its vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{word}\" is no {what}; it is one of {}", .known.join(", "))]
pub struct UnknownWord {
    /// Which vocabulary.
    pub what: &'static str,
    /// The word as given.
    pub word: String,
    /// The words that there are.
    pub known: &'static [&'static str],
}

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$word_doc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// Every word, in the order of the vocabulary.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// Every word as it is spelled.
            pub const WORDS: &[&str] = &[$($word,)*];

            /// As it is spelled in events, tables and the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { what: $what, word: word.to_owned(), known: Self::WORDS }),
                }
            }
        }
    };
}

vocabulary! {
    /// What becomes of the provider lease when its lease ends.
    Policy ("policy") {
        /// It is removed.
        Ephemeral = "ephemeral",
        /// It is kept, for the next run of the same environment and config.
        ReuseByEnvironment = "reuse_by_environment",
        /// It is kept, for the next run of the same workspace, agent and adapter type as well.
        ReuseByExecutionWorkspace = "reuse_by_execution_workspace",
        /// It is removed, but kept for inspection where the lease ended as `failed`.
        RetainOnFailure = "retain_on_failure",
    }
}

impl Policy {
    /// Whether another run may take over what a lease of this policy leaves.
    #[must_use]
    pub fn allows_reuse(self) -> bool {
        matches!(self, Self::ReuseByEnvironment | Self::ReuseByExecutionWorkspace)
    }
}

vocabulary! {
    /// Where a lease stands.
    LeaseStatus ("lease status") {
        /// The intent is durable; the driver has not answered yet.
        Requested = "requested",
        /// The driver may or may not have done it; the ledger will find out.
        EffectUnknown = "effect_unknown",
        /// Its run holds it.
        Active = "active",
        /// The intent to release is durable; the driver has not answered yet.
        Releasing = "releasing",
        /// Over, in good order.
        Released = "released",
        /// Over, because its time had come.
        Expired = "expired",
        /// Over, because it or its run failed.
        Failed = "failed",
        /// Over; what it holds at the provider is kept for inspection.
        Retained = "retained",
        /// Over; what it holds at the provider is being torn down.
        PendingCleanup = "pending_cleanup",
    }
}

impl LeaseStatus {
    /// Whether the run has, or may get, the use of it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::EffectUnknown | Self::Active | Self::Releasing)
    }
}

vocabulary! {
    /// How the obligation stands to leave nothing at the provider. Absent while there is none.
    CleanupStatus ("cleanup status") {
        /// Something is still there, on purpose: kept for reuse or inspection, or about to be removed.
        Pending = "pending",
        /// The provider confirmed that nothing is left, or an operator waived it.
        Success = "success",
        /// The last attempt failed; there will be another.
        Failed = "failed",
    }
}

vocabulary! {
    /// How a release wants the lease to end.
    ReleaseStatus ("release status") {
        /// In good order.
        Released = "released",
        /// Its time had come.
        Expired = "expired",
        /// It or its run failed.
        Failed = "failed",
    }
}

vocabulary! {
    /// What a release does with the provider lease.
    Teardown ("teardown") {
        /// As the lease's policy says.
        ByPolicy = "by-policy",
        /// It is destroyed, whatever the policy.
        Destroy = "destroy",
    }
}

vocabulary! {
    /// Why a lease ended or an acquire did not come about.
    Reason ("reason") {
        /// Its holder gave it back.
        HolderReleased = "holder-released",
        /// Its run ended.
        RunEnded = "run-ended",
        /// Its run is lost: nothing is heard from it.
        RunLost = "run-lost",
        /// An operator ended it.
        OperatorReleased = "operator-released",
        /// Its time had come.
        DeadlineReached = "deadline-reached",
        /// It was released, or its run was, before its acquire was done.
        AcquireCancelled = "acquire-cancelled",
        /// The provider refused to give it.
        ProviderRefused = "provider-refused",
        /// The provider failed, and nothing of it is there.
        ProviderFailed = "provider-failed",
        /// Its sandbox could not be resumed, and its environment asks to fail then.
        ResumeFailed = "resume-failed",
        /// Another lease took over its sandbox but could not resume it; the sandbox is kept.
        TakeOverFailed = "take-over-failed",
        /// Recovery found its intent without an outcome and settled it.
        RecoverySettled = "recovery-settled",
    }
}

vocabulary! {
    /// What a lease's workspace is worth.
    WorkspaceKind ("workspace kind") {
        /// It can be made again from elsewhere.
        Derived = "derived",
        /// It may hold the only copy of somebody's work; automatic cleanup never destroys it.
        SoleCopy = "sole-copy",
        /// Nobody has said.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// A driver side effect that a command runs.
    Effect ("effect") {
        /// A new provider lease is made.
        Acquire = "acquire",
        /// An existing provider lease is resumed.
        Resume = "resume",
        /// The provider lease is released by policy.
        Release = "release",
        /// The provider lease is destroyed.
        Destroy = "destroy",
        /// The workspace is made ready.
        Realize = "realize",
        /// A command is run.
        Execute = "execute",
    }
}

vocabulary! {
    /// What a reuse decision says of one candidate.
    Verdict ("verdict") {
        /// It was claimed; it will be resumed.
        Taken = "taken",
        /// Another acquire claimed it first.
        LostClaim = "lost-claim",
        /// Its lease is not over, or not kept any more.
        NotAvailable = "not-available",
        /// Another config, workspace, agent or adapter type.
        FingerprintDiffers = "fingerprint-differs",
        /// It was claimed, and the provider says that it is gone.
        Gone = "gone",
        /// It was claimed, and what was resumed is not the same sandbox.
        IdentityChanged = "identity-changed",
        /// It was claimed, but could not be resumed; it is kept.
        ResumeFailed = "resume-failed",
    }
}

vocabulary! {
    /// What will happen to a lease next.
    NextActionKind ("next action") {
        /// The acquire under way is settled.
        SettleAcquire = "settle-acquire",
        /// The lease expires.
        Expire = "expire",
        /// The release under way is finished.
        FinishRelease = "finish-release",
        /// Cleanup is tried again.
        RetryCleanup = "retry-cleanup",
        /// What is kept waits for another run, or for its removal.
        AwaitReuse = "await-reuse",
        /// What is kept waits for an operator.
        AwaitOperator = "await-operator",
    }
}

vocabulary! {
    /// How a command in a lease's workspace came to its end, as far as the ledger knows.
    ExecutionOutcome ("execution outcome") {
        /// It ended, and how is known.
        Done = "done",
        /// It was never started.
        NotDone = "not-done",
        /// It may or may not have run; the reply was lost.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// What a provider says is there after a release or destroy.
    ReceiptState ("receipt state") {
        /// It is kept, and may be resumed.
        Kept = "kept",
        /// It is removed.
        Destroyed = "destroyed",
        /// It was not there any more, under the same account and namespace.
        Gone = "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_spelled_the_same_everywhere() {
        for status in LeaseStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
            assert_eq!(serde_json::to_string(status).unwrap_or_default(), format!("\"{status}\""));
        }
        let error = "gone".parse::<LeaseStatus>().unwrap_err().to_string();
        assert!(error.starts_with("\"gone\" is no lease status; it is one of requested, effect_unknown"), "{error}");
    }
}
