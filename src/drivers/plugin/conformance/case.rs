//! The cases of a check, and the facts that they show. Pure.
//!
//! **Invariant:** [`Case::ALL`] holds every case, and running one is a `match` without a rest: none is forgotten.

use std::time::Duration;

use serde::Serialize;

use crate::workers::trust::Trust;

/// One question to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// `environmentValidateConfig` keeps to the declared schema.
    DeclaredSchema,
    /// An acquire that is repeated.
    DuplicateAcquire,
    /// An acquire that is repeated while the first is under way.
    LateSuccess,
    /// An acquire whose answer is lost with the worker.
    LostReply,
    /// What is made appears in the listing.
    Listing,
    /// A release that is repeated.
    DuplicateRelease,
    /// A release that is to keep.
    ReleaseKeeps,
    /// A destroy that is repeated.
    DuplicateDestroy,
    /// What was destroyed is not there any more.
    DestroyRemoves,
    /// *Gone* is said of what is gone.
    ConfirmsAbsence,
    /// *Gone* is not said to others of what is there.
    NotGoneForOthers,
    /// *Gone* is not said of what other credentials do not see.
    OtherCredentials,
    /// The calls of another ledger.
    OtherLedger,
    /// The calls of a holder that lost the sandbox.
    StaleToken,
    /// Errors that say how it went.
    ErrorCodes,
    /// A worker that is started again.
    Restart,
    /// The environment of a command.
    ExecuteEnv,
    /// The input of a command.
    ExecuteStdin,
    /// The exit code of a command, and its two outputs.
    ExecuteExitCode,
    /// The time limit of a command.
    ExecuteTimeout,
    /// U+2028 and U+2029 in a command.
    ExecuteSeparators,
    /// What is left behind.
    CleansUp,
}

impl Case {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 22] = [
        Self::DeclaredSchema,
        Self::DuplicateAcquire,
        Self::LateSuccess,
        Self::LostReply,
        Self::Listing,
        Self::DuplicateRelease,
        Self::ReleaseKeeps,
        Self::DuplicateDestroy,
        Self::DestroyRemoves,
        Self::ConfirmsAbsence,
        Self::NotGoneForOthers,
        Self::OtherCredentials,
        Self::OtherLedger,
        Self::StaleToken,
        Self::ErrorCodes,
        Self::Restart,
        Self::ExecuteEnv,
        Self::ExecuteStdin,
        Self::ExecuteExitCode,
        Self::ExecuteTimeout,
        Self::ExecuteSeparators,
        Self::CleansUp,
    ];

    /// Its name, as it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeclaredSchema => "declared-schema",
            Self::DuplicateAcquire => "duplicate-acquire",
            Self::LateSuccess => "late-success",
            Self::LostReply => "lost-reply",
            Self::Listing => "listing",
            Self::DuplicateRelease => "duplicate-release",
            Self::ReleaseKeeps => "release-keeps",
            Self::DuplicateDestroy => "duplicate-destroy",
            Self::DestroyRemoves => "destroy-removes",
            Self::ConfirmsAbsence => "confirms-absence",
            Self::NotGoneForOthers => "not-gone-for-others",
            Self::OtherCredentials => "other-credentials",
            Self::OtherLedger => "other-ledger",
            Self::StaleToken => "stale-token",
            Self::ErrorCodes => "error-codes",
            Self::Restart => "restart",
            Self::ExecuteEnv => "execute-env",
            Self::ExecuteStdin => "execute-stdin",
            Self::ExecuteExitCode => "execute-exit-code",
            Self::ExecuteTimeout => "execute-timeout",
            Self::ExecuteSeparators => "execute-separators",
            Self::CleansUp => "cleans-up",
        }
    }

    /// What must hold for it to pass; a row of docs/plugins.md.
    #[must_use]
    pub const fn asks(self) -> &'static str {
        match self {
            Self::DeclaredSchema => {
                "`environmentValidateConfig` takes the config, answers a normal form that is its own, and refuses a config that breaks `configSchema`"
            }
            Self::DuplicateAcquire => "an acquire that is repeated gives the same sandbox",
            Self::LateSuccess => {
                "an acquire that is repeated while the first is under way leads to one sandbox, which can be found"
            }
            Self::LostReply => {
                "an acquire whose answer was lost, with the worker killed after or during it, gives the same sandbox when it is repeated"
            }
            Self::Listing => {
                "what is made appears in `environmentListLeases` within a minute, with both labels, and goes when it is destroyed"
            }
            Self::DuplicateRelease => "a release that is repeated keeps what it kept",
            Self::ReleaseKeeps => {
                "a release with `reuseLease` keeps the sandbox, and another lease resumes it: same id, same `remoteCwd` and `identityFields`, same files"
            }
            Self::DuplicateDestroy => "a destroy that is repeated is done",
            Self::DestroyRemoves => "what was destroyed can neither be resumed nor used, and is listed no more",
            Self::ConfirmsAbsence => "resume and destroy of what was destroyed say *gone*",
            Self::NotGoneForOthers => {
                "*gone* is said neither to another company nor to another ledger of what is there"
            }
            Self::OtherCredentials => {
                "resume and destroy under the other config neither say *gone* of what is there, nor that it was done"
            }
            Self::OtherLedger => "every call of another ledger for what is there is refused (-31003)",
            Self::StaleToken => "every call under a lower fencing token than was seen is refused (-31002)",
            Self::ErrorCodes => "calls for an id that cannot be are refused: not *unknown*, and not *try again*",
            Self::Restart => "a worker that is started again resumes, uses and destroys what the one before made",
            Self::ExecuteEnv => "a command gets the environment that it is given",
            Self::ExecuteStdin => "a command gets its input, all of it",
            Self::ExecuteExitCode => "a command's exit code and both its outputs come back",
            Self::ExecuteTimeout => "a command is ended when its time is up, and `timedOut` says so",
            Self::ExecuteSeparators => "U+2028 and U+2029 in a command come through",
            Self::CleansUp => "the worker ends by itself when it is asked to, and leaves no process",
        }
    }
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// The worker lacks what it asks for, or was not given what it takes to ask.
    NotOffered,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotOffered => "not offered",
        }
    }
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseReport {
    /// The case.
    pub case: Case,
    /// How it ended.
    pub verdict: Verdict,
    /// What happened, and what would be right; absent where it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Something that a worker may be trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// [`Trust::idempotent_acquire`].
    IdempotentAcquire,
    /// [`Trust::can_list`], and with it the visibility delay.
    CanList,
    /// [`Trust::can_confirm_absence`].
    CanConfirmAbsence,
    /// [`Trust::supports_reuse`].
    SupportsReuse,
    /// [`Trust::fencing`].
    Fencing,
    /// [`Trust::ownership`].
    Ownership,
}

impl Fact {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::IdempotentAcquire,
        Self::CanList,
        Self::CanConfirmAbsence,
        Self::SupportsReuse,
        Self::Fencing,
        Self::Ownership,
    ];

    /// Its name, as it is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IdempotentAcquire => "idempotent-acquire",
            Self::CanList => "can-list",
            Self::CanConfirmAbsence => "can-confirm-absence",
            Self::SupportsReuse => "supports-reuse",
            Self::Fencing => "fencing",
            Self::Ownership => "ownership",
        }
    }

    /// The cases that show it: all must pass.
    #[must_use]
    pub const fn shown_by(self) -> &'static [Case] {
        match self {
            Self::IdempotentAcquire => &[Case::DuplicateAcquire, Case::LateSuccess, Case::LostReply],
            Self::CanList => &[Case::Listing, Case::DestroyRemoves],
            Self::CanConfirmAbsence => &[Case::ConfirmsAbsence, Case::NotGoneForOthers, Case::OtherCredentials],
            Self::SupportsReuse => &[Case::DuplicateRelease, Case::ReleaseKeeps, Case::Restart],
            Self::Fencing => &[Case::StaleToken],
            Self::Ownership => &[Case::OtherLedger],
        }
    }

    /// What the ledger does with it; a row of docs/plugins.md.
    #[must_use]
    pub const fn used_for(self) -> &'static str {
        match self {
            Self::IdempotentAcquire => "an acquire whose outcome is unknown is settled by asking again",
            Self::CanList => {
                "an acquire whose outcome is unknown is settled by the listing, after the delay that was measured"
            }
            Self::CanConfirmAbsence => "*gone* settles that nothing is left",
            Self::SupportsReuse => "what one lease leaves is resumed for another",
            Self::Fencing => "told only: the ledger refuses stale holders itself, and counts on nobody else to",
            Self::Ownership => "told only: where it lacks, two ledgers must not share an account",
        }
    }

    /// Whether `trust` has it.
    #[must_use]
    pub const fn is_in(self, trust: &Trust) -> bool {
        match self {
            Self::IdempotentAcquire => trust.idempotent_acquire,
            Self::CanList => trust.can_list,
            Self::CanConfirmAbsence => trust.can_confirm_absence,
            Self::SupportsReuse => trust.supports_reuse,
            Self::Fencing => trust.fencing,
            Self::Ownership => trust.ownership,
        }
    }
}

/// A delay that was seen once is no bound: it is trusted with so many times what was seen.
const VISIBILITY_MARGIN: u32 = 10;
/// The shortest visibility delay that is trusted: below it, what was seen is mostly the way there and back.
const VISIBILITY_MIN: Duration = Duration::from_secs(1);

/// What these cases have shown.
#[must_use]
pub fn trust(cases: &[CaseReport], visibility: Option<Duration>) -> Trust {
    let passed = |case: &Case| cases.iter().any(|one| one.case == *case && one.verdict == Verdict::Passed);
    let shown = |fact: Fact| fact.shown_by().iter().all(passed);
    let can_list = shown(Fact::CanList);
    let delay = visibility.filter(|_| can_list).map(|seen| (seen * VISIBILITY_MARGIN).max(VISIBILITY_MIN));
    Trust {
        idempotent_acquire: shown(Fact::IdempotentAcquire),
        can_list,
        can_confirm_absence: shown(Fact::CanConfirmAbsence),
        supports_reuse: shown(Fact::SupportsReuse),
        fencing: shown(Fact::Fencing),
        ownership: shown(Fact::Ownership),
        visibility_delay_ms: delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_listed_once_under_its_own_name() {
        for (at, case) in Case::ALL.iter().enumerate() {
            assert_eq!(*case as usize, at, "{case:?} is in its place");
            assert_eq!(serde_json::to_value(case).unwrap(), case.name());
        }
        assert_eq!(Case::ALL.len(), Case::CleansUp as usize + 1, "the last one is the last of the list");
        for fact in Fact::ALL {
            assert_eq!(serde_json::to_value(fact).unwrap(), fact.name());
        }
    }

    #[test]
    fn a_fact_takes_all_its_cases_and_no_delay_stands_without_a_listing() {
        let report = |case, verdict| CaseReport { case, verdict, told: None, took_ms: 0 };
        let mut cases: Vec<CaseReport> = Case::ALL.map(|case| report(case, Verdict::Passed)).into();
        let all = trust(&cases, Some(Duration::from_millis(700)));
        assert!(Fact::ALL.iter().all(|fact| fact.is_in(&all)));
        assert_eq!(all.visibility_delay_ms, Some(7_000));
        assert_eq!(trust(&cases, Some(Duration::ZERO)).visibility_delay_ms, Some(1_000));
        for fact in Fact::ALL {
            for case in fact.shown_by() {
                for verdict in [Verdict::Failed, Verdict::NotOffered] {
                    cases[*case as usize].verdict = verdict;
                    assert!(!fact.is_in(&trust(&cases, None)), "{fact:?} without {case:?}");
                    cases[*case as usize].verdict = Verdict::Passed;
                }
            }
        }
        cases[Case::Listing as usize].verdict = Verdict::Failed;
        assert_eq!(trust(&cases, Some(Duration::ZERO)).visibility_delay_ms, None);
        assert_eq!(trust(&[], None), Trust::default());
    }
}
