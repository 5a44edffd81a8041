//! How a command of the command line ends: its errors as sentences, and the one table of exit codes.

use lease_events::failure::FailureClass;
#[cfg(feature = "kurrentdb")]
use lease_stores::kurrentdb::MirrorError;
use serde_json::Value;

use crate::http::wire::problem::Problem;
use crate::wiring::OpenError;

/// The exit codes, as `--help` shows them. `run` and `lease exec` exit with the command's own code instead, with
/// [`Exit::TimedOut`], or with [`Exit::LedgerFailed`] where the ledger failed before the command could run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// An error that no other code names.
    Error = 1,
    /// The command line or the request is not valid.
    Invalid = 2,
    /// It cannot be done as things stand now.
    Conflict = 3,
    /// A verification found differences, or a plugin failed a case of its check.
    Differences = 4,
    /// What was named is not there.
    NotFound = 5,
    /// The ledger cannot do it now; try again.
    Unavailable = 6,
    /// The provider failed, or it is not known whether its effect happened.
    Provider = 7,
    /// `run`, `lease exec`: the command's time ran out.
    TimedOut = 124,
    /// `run`, `lease exec`: the ledger or the provider failed, not the command.
    LedgerFailed = 125,
}

/// What `run` and `lease exec` add to the number of the signal that ended the command, as shells do.
pub const SIGNAL_BASE: u8 = 128;

const SIGPIPE: u8 = 13;

/// The names of the signals from 1 on, as Linux numbers them.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The exit code that stands for how a command ended: its own, 128 and the signal's number, or that its time ran out.
#[must_use]
pub fn of_command(exit_code: Option<i32>, signal: Option<&str>, timed_out: bool) -> u8 {
    match (timed_out, signal, exit_code) {
        (true, _, _) => Exit::TimedOut as u8,
        (false, Some(name), _) => signal_number(name).map_or(Exit::LedgerFailed as u8, |number| SIGNAL_BASE + number),
        // What a program exits with is 8 bits wide.
        (false, None, Some(code)) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        (false, None, None) => Exit::LedgerFailed as u8,
    }
}

/// The number of a signal by its name, such as `SIGKILL`, or `SIG34` where it has none of its own.
fn signal_number(name: &str) -> Option<u8> {
    let bare = name.strip_prefix("SIG")?;
    let named = SIGNALS.iter().position(|known| *known == bare).and_then(|index| u8::try_from(index + 1).ok());
    named.or_else(|| bare.parse().ok().filter(|number| *number < SIGNAL_BASE))
}

/// The table that `--help` shows.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    an error that no other code names
  2    the command line or the request is not valid
  3    conflict: it cannot be done as things stand now
  4    a verification found differences, or a plugin failed a case of its check
  5    not found
  6    unavailable: try again later
  7    the provider failed, or it is not known whether its effect happened
`run` and `lease exec` exit with the command's own code, and with
  124  its time ran out
  125  the ledger or the provider failed, not the command
  128+N  signal N ended it; 130 and 143 also stand for an interrupted `run`, whose lease was released";

/// Why a command of the command line came to nothing. Each is a sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CliError {
    /// Something that was typed breaks a rule that only this program knows.
    #[error("{0}")]
    Usage(String),
    /// Nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// The ledger refused, or failed.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The ledger cannot be reached or opened now.
    #[error("{0}")]
    Unavailable(String),
    /// It cannot be done as things stand now.
    #[error("{0}")]
    Conflict(String),
    /// A verification found differences.
    #[error("{0}")]
    Differences(String),
    /// Whoever read standard output has gone away: nothing more to say, and no fault.
    #[error("Standard output was closed.")]
    ReaderGone,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What a ledger that was not opened means for whoever typed the command.
impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let said = error.to_string();
        match error {
            OpenError::NotKept
            | OpenError::NotBuilt
            | OpenError::NotCopiedTo
            | OpenError::NothingToAttach
            | OpenError::NoProjections => Self::Usage(said),
            #[cfg(feature = "kurrentdb")]
            OpenError::KurrentUrl(_) => Self::Usage(said),
            #[cfg(feature = "kurrentdb")]
            OpenError::Mirror(
                MirrorError::NotAMirror | MirrorError::OtherLedger { .. } | MirrorError::Elsewhere { .. },
            ) => Self::Conflict(said),
            OpenError::NoLedger { .. } => Self::NotFound(said),
            _ => Self::Unavailable(said),
        }
    }
}

impl CliError {
    /// An answer that is not what the API promises.
    #[must_use]
    pub fn unreadable(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::Other(format!("The answer to {what} cannot be read ({cause}); is the server another version?"))
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Invalid,
            Self::NotFound(_) => Exit::NotFound,
            Self::Problem(problem) => of_class(problem.class),
            Self::Unavailable(_) => Exit::Unavailable,
            Self::Conflict(_) => Exit::Conflict,
            Self::Differences(_) => Exit::Differences,
            Self::ReaderGone => Exit::Ok,
            Self::Other(_) => Exit::Error,
        }
    }

    /// The exit code of a command whose own result is that of another program: the ledger's failures stay apart from
    /// that program's, but for a command line that is not valid.
    #[must_use]
    pub fn exit_beside_command(&self) -> u8 {
        match self {
            Self::Usage(_) => Exit::Invalid as u8,
            Self::ReaderGone => SIGNAL_BASE + SIGPIPE,
            _ => Exit::LedgerFailed as u8,
        }
    }

    /// What `--json` writes to standard error: the problem as the API told it, or the same shape made here.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Problem(problem) => serde_json::json!(problem),
            _ => serde_json::json!({ "title": "The command failed.", "detail": self.to_string() }),
        }
    }
}

fn of_class(class: FailureClass) -> Exit {
    match class {
        FailureClass::Invalid => Exit::Invalid,
        FailureClass::NotFound => Exit::NotFound,
        FailureClass::Conflict => Exit::Conflict,
        FailureClass::Unavailable => Exit::Unavailable,
        FailureClass::Provider | FailureClass::OutcomeUnknown => Exit::Provider,
        FailureClass::Internal => Exit::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ended_has_one_code() {
        assert_eq!(of_command(Some(7), None, false), 7);
        assert_eq!(of_command(None, Some("SIGKILL"), false), 137);
        assert_eq!(of_command(None, Some("SIG34"), false), 162);
        assert_eq!(of_command(None, Some("SIGKILL"), true), 124);
        assert_eq!(of_command(None, Some("SIG999"), false), 125);
        assert_eq!(of_command(None, None, false), 125);
    }

    #[test]
    fn the_help_names_every_code() {
        let codes = [
            Exit::Ok,
            Exit::Error,
            Exit::Invalid,
            Exit::Conflict,
            Exit::Differences,
            Exit::NotFound,
            Exit::Unavailable,
            Exit::Provider,
            Exit::TimedOut,
            Exit::LedgerFailed,
        ];
        for code in codes {
            assert!(HELP.contains(&format!("\n  {:<3}  ", code as u8)), "{code:?}");
        }
    }
}
