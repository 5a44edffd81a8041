//! Crash points: the places before and after every durable step and every effect, by name, so that tests can end the
//! process at each of them. Pure: what happens there is the business of whoever implements [`CrashSeam`].
//!
//! **Invariant:** a name is of no command that is not there, and every name is reached by one; a test holds it.

use std::fmt;
use std::str::FromStr;

/// What becomes of a command at a crash point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    GoOn,
    /// It never returns: its process is dead, as far as a simulation goes.
    Park,
}

/// Asked at each crash point.
pub trait CrashSeam: Send + Sync {
    /// A command has come to this point. An implementation may end the process here.
    fn reached(&self, point: CrashPoint) -> Fate;
}

/// Nothing ever happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCrash;

impl CrashSeam for NoCrash {
    fn reached(&self, _: CrashPoint) -> Fate {
        Fate::GoOn
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// A step of a command: an append, an effect at a provider, or the answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Step { $($(#[$doc])* $variant,)* }

        impl Step {
            /// Every step.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, `COMMAND.STEP`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

steps! {
    /// A command id is taken, before anything of the command happens.
    OnceAccept = "once.accept",
    /// The outcome of a command id is kept.
    OnceComplete = "once.complete",
    /// The answer goes to the caller.
    CommandReply = "command.reply",
    /// `lease-requested`: the intent.
    AcquireIntent = "acquire.1",
    /// `lease-reuse-claimed` on the other lease's stream.
    AcquireClaim = "acquire.2",
    /// `lease-reuse-decided`.
    AcquireDecision = "acquire.3",
    /// The driver acquires.
    AcquireEffect = "acquire.effect",
    /// The driver resumes what was claimed.
    AcquireResume = "acquire.resume",
    /// What was claimed and could not be resumed goes back.
    AcquireGiveBack = "acquire.give-back",
    /// The outcome of acquire or resume.
    AcquireOutcome = "acquire.4",
    /// The driver realizes.
    RealizeEffect = "realize.effect",
    /// `lease-realized`.
    RealizeOutcome = "realize.outcome",
    /// `lease-command-started`.
    ExecuteIntent = "execute.intent",
    /// The driver runs a command.
    ExecuteEffect = "execute.effect",
    /// `lease-command-executed`.
    ExecuteOutcome = "execute.outcome",
    /// `lease-renewed`.
    RenewOutcome = "renew.outcome",
    /// The driver resumes a lease's own.
    ResumeEffect = "resume.effect",
    /// `lease-resumed`.
    ResumeOutcome = "resume.outcome",
    /// `lease-release-requested`, by policy.
    ReleaseIntent = "release.intent",
    /// The driver releases.
    ReleaseEffect = "release.effect",
    /// `lease-released`.
    ReleaseOutcome = "release.outcome",
    /// `lease-release-requested`, whatever the policy.
    DestroyIntent = "destroy.intent",
    /// The driver destroys.
    DestroyEffect = "destroy.effect",
    /// `lease-destroyed`.
    DestroyOutcome = "destroy.outcome",
    /// `run-kept-alive` on the run's stream.
    HeartbeatOutcome = "heartbeat.outcome",
    /// `run-released` on the run's stream.
    ReleaseRunIntent = "release-run.intent",
    /// Recovery: the decision that a claim without one stands for.
    SettleDecision = "settle.decision",
    /// Recovery: `lease-effect-unknown`.
    SettleUnknown = "settle.unknown",
    /// Recovery: a release that is under way without its owner, or that nobody asked for yet, is made its own.
    SettleIntent = "settle.intent",
    /// Recovery: the driver acquires again, resumes, or lists.
    SettleEffect = "settle.effect",
    /// Recovery: what was claimed goes back.
    SettleGiveBack = "settle.give-back",
    /// Recovery: what came of it.
    SettleOutcome = "settle.outcome",
    /// Recovery: that nobody knows the end of a command in a workspace.
    SettleCommand = "settle.command",
    /// Recovery: a claim by a lease that is over goes back.
    SettleStrayClaim = "settle.stray-claim",
    /// Recovery: `lease-cleanup-succeeded` of what a listing showed to be gone.
    GoneOutcome = "gone.outcome",
    /// Recovery: `orphan-found`.
    ReclaimIntent = "reclaim.intent",
    /// Recovery: the driver destroys what no lease accounts for.
    ReclaimEffect = "reclaim.effect",
    /// Recovery: what came of it.
    ReclaimOutcome = "reclaim.outcome",
    /// Recovery: the driver destroys what is owed.
    CleanupEffect = "cleanup.effect",
    /// Recovery: what came of it.
    CleanupOutcome = "cleanup.outcome",
    /// `lease-cleanup-waived`.
    WaiveOutcome = "waive.outcome",
    /// An event of an environment.
    EnvironmentOutcome = "environment.outcome",
    /// The driver probes.
    ProbeEffect = "probe.effect",
    /// A secret's value is sealed and kept, or deleted.
    SecretKeep = "secret.keep",
    /// An event of a secret.
    SecretOutcome = "secret.outcome",
}

/// On which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// It has not begun.
    Before,
    /// It is done, and durable where it is an append.
    After,
}

/// A place where a process may die: before or after a step. Its name is `STEP.before` or `STEP.after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrashPoint {
    /// The step.
    pub step: Step,
    /// The side of it.
    pub side: Side,
}

impl CrashPoint {
    /// Every crash point, in the order of the steps.
    pub fn all() -> impl Iterator<Item = Self> {
        Step::ALL.iter().flat_map(|step| [Side::Before, Side::After].map(|side| Self { step: *step, side }))
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::After => "after",
        };
        write!(formatter, "{}.{side}", self.step.as_str())
    }
}

/// A name that no crash point has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no crash point; one is acquire.1.before")]
pub struct UnknownCrashPoint(String);

impl FromStr for CrashPoint {
    type Err = UnknownCrashPoint;

    fn from_str(name: &str) -> Result<Self, UnknownCrashPoint> {
        Self::all().find(|point| point.to_string() == name).ok_or_else(|| UnknownCrashPoint(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_found_by_its_name() {
        for point in CrashPoint::all() {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        assert_eq!(CrashPoint::all().count(), Step::ALL.len() * 2);
        assert!("acquire.9.before".parse::<CrashPoint>().is_err());
    }
}
