//! One state of the model: the streams, what the provider has, and how far each process is with which command.

use chrono::{DateTime, Utc};

use super::streams::Stream;

/// Two leases that are over and keep a sandbox each (0 and 1), and three to be acquired, each for a run of its own.
pub(super) const LEASES: usize = 5;
/// The leases that keep a sandbox at the start.
pub(super) const KEPT: [u8; 2] = [0, 1];
/// The moment at which everything happens.
pub(super) const NOW: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).expect("a valid moment");

/// A state. Sandboxes are named by the lease that they were made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// The leases' streams.
    pub(super) streams: [Stream; LEASES],
    /// Whether the provider has a sandbox of this lease.
    pub(super) there: [bool; LEASES],
    /// The sandboxes that went away by themselves.
    pub(super) vanished: [bool; LEASES],
    /// The highest token that was given out for each sandbox, and to which lease.
    pub(super) tokens: [(u64, u8); LEASES],
    /// What the two processes are at, in a fixed order: which of them does what makes no difference.
    pub(super) processes: [Option<Program>; 2],
    /// Which of the case's commands were begun.
    pub(super) begun: u8,
    /// How many more crashes there may be.
    pub(super) crashes_left: u8,
    /// How often the provider may still fail.
    pub(super) faults_left: u8,
    /// What went wrong on the way here, where the state itself does not show it.
    pub(super) flaw: Option<&'static str>,
}

/// A command that is issued from outside, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Issued {
    Acquire(u8),
    Release(u8),
    Destroy(u8),
}

/// What a process is at: which command, on which lease, as loaded when, and the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) kind: Kind,
    pub(super) lease: u8,
    /// The lease's stream as this command has loaded it.
    pub(super) session: Stream,
    pub(super) next: Step,
    /// Its lease's deadline is over, and it is being settled beside it: it calls no provider any more.
    pub(super) is_late: bool,
}

/// The commands of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Acquire,
    Release,
    Destroy,
    Settle,
    Clean,
    /// Gives back what a lease claimed that will never take it over.
    Return,
}

/// A claim that was made: on which lease, and that lease's stream as it was decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) on: u8,
    pub(super) seen: Stream,
}

/// What a process does next. Between any two steps others go on, and the process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// Acquire: ask the projection for candidates.
    Look,
    /// Acquire, 1: append the intent.
    Intend { candidates: u8 },
    /// Acquire: load the next candidate's stream.
    Pick { candidates: u8 },
    /// Acquire, 2: append the claim on it.
    Claim { claim: Claim, others: u8 },
    /// Acquire, 3: append the decision.
    Decide { claimed: Option<Claim> },
    /// Acquire or settle: call the provider to resume what was claimed.
    Resume { claim: Claim },
    /// Acquire or settle, 4: append what came of it.
    Resumed { claim: Claim, answer: Answer },
    /// Acquire: append that what was claimed was not resumed.
    Decline { claim: Claim, answer: Answer },
    /// Acquire or settle: append on the lease that was claimed that it went back; then that step's.
    GiveBack { claim: Claim, answer: Answer },
    /// Acquire, overtaken by recovery before its decision: append on the lease that was claimed that it went back.
    Withdraw { claim: Claim },
    /// Acquire or settle: call the provider for a sandbox of this lease.
    Make,
    /// Acquire or settle, 4: append what came of it.
    Made { answer: Answer },
    /// All others: load the lease's stream.
    Load,
    /// Release, destroy, or the settling of one: append the intent.
    Ask,
    /// Whoever ends a lease: call the provider.
    End,
    /// Whoever ends a lease: append what came of it; the intent is that of the stream `began`.
    Ended { began: Stream, answer: Answer },
    /// Settle: append the decision that a claim without one stands for.
    FindClaim,
    /// Settle: append that the outcome is unknown.
    Mark,
    /// Settle: append that nothing is there.
    GiveUp,
    /// Return: append on the claimed lease that it went back from the lease `by`.
    Return { by: u8 },
    /// Clean: call the provider to destroy.
    Clean,
    /// Clean: append what came of it.
    Cleaned { answer: Answer },
    /// Nothing: what the command came for is on record.
    Over,
}

/// What the provider answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Answer {
    /// Done: made, or resumed.
    Done,
    /// Done: it is kept.
    Kept,
    /// Done: it is removed.
    Destroyed,
    /// It is not there.
    Gone,
    /// Nothing was done.
    NotDone,
    /// No answer came.
    Lost,
}

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Luck {
    /// It is done and answered.
    Done,
    /// It is not done, and that is answered.
    NotDone,
    /// It is done, and the answer is lost.
    DoneUnheard,
    /// It is not done, and nothing is answered.
    NotDoneUnheard,
}

impl Luck {
    pub(super) const ALL: [Self; 4] = [Self::Done, Self::NotDone, Self::DoneUnheard, Self::NotDoneUnheard];

    /// Whether the effect happens.
    pub(super) fn happens(self) -> bool {
        matches!(self, Self::Done | Self::DoneUnheard)
    }
}

impl Step {
    /// Whether it is one of a take-over, up to where a fresh sandbox is made.
    pub(super) fn is_of_take_over(self) -> bool {
        matches!(
            self,
            Self::Pick { .. }
                | Self::Claim { .. }
                | Self::Decide { .. }
                | Self::Resume { .. }
                | Self::Resumed { .. }
                | Self::Decline { .. }
                | Self::GiveBack { .. }
                | Self::Withdraw { .. }
        )
    }

    /// Whether it calls the provider.
    pub(super) fn is_call(self) -> bool {
        matches!(self, Self::Resume { .. } | Self::Make | Self::End | Self::Clean)
    }
}
