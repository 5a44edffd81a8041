//! What a failed step of the writer means: whether anything may have been written, and whether to go on. Pure.
//!
//! **Invariant:** after a failure that leaves it open what is on the disk, the store takes no more writes until it is
//! opened again. A failed fsync is not retried: the kernel may have dropped the pages and report success next time.

use lease_events::store::AppendError;

const SQLITE_BUSY: i32 = 5;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;
/// Extended codes: the low byte is the primary code, `SQLITE_IOERR`.
const SQLITE_IOERR_WRITE: i32 = 778;
const SQLITE_IOERR_FSYNC: i32 = 1034;
const SQLITE_IOERR_DIR_FSYNC: i32 = 1290;

/// Where in a transaction it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Anywhere up to COMMIT: nothing of the transaction is in the log.
    BeforeCommit,
    /// COMMIT itself, which writes the log and syncs it.
    Commit,
}

/// A failure as SQLite told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// SQLite's extended result code; `None` where the connection itself was lost.
    pub(super) code: Option<i32>,
    /// What it said.
    pub(super) cause: String,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let code = code.and_then(|code| code.parse().ok());
        Self { code, cause: error.to_string() }
    }
}

impl Fault {
    /// Another connection holds the lock.
    pub(super) fn is_busy(&self) -> bool {
        self.primary() == Some(SQLITE_BUSY)
    }

    fn primary(&self) -> Option<i32> {
        self.code.map(|code| code & 0xff)
    }
}

/// What a failure means for those who wait, and for those who come after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was written, and the next transaction may succeed.
    NotWritten,
    /// Nothing was written, and nothing more may be.
    NotWrittenPoisoned,
    /// It may have been written, and nothing more may be.
    UnknownPoisoned,
}

/// Judges a failure.
///
/// - Before COMMIT nothing has reached the log, so a full disk or a lost lock is only a try that failed. A failed
///   sync or a damaged file is not: writing on would build on what is not there.
/// - At COMMIT, `SQLITE_BUSY` comes before the first write. `SQLITE_FULL` (no space) and `SQLITE_IOERR_WRITE` (a quota,
///   a limit, a broken disk) come from a write of the log that failed. The record that makes the transaction count is the
///   last one written, and counts only once it and all before it are whole: so it is not there. No connection was shown
///   the new records, and the next transaction writes over them. A sync that fails has a code of its own.
/// - Anything else at COMMIT may come after that record was written.
pub(super) fn judge(stage: Stage, fault: &Fault) -> Verdict {
    match (stage, fault.code, fault.primary()) {
        (Stage::BeforeCommit, Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC), _)
        | (Stage::BeforeCommit, _, Some(SQLITE_CORRUPT | SQLITE_NOTADB)) => Verdict::NotWrittenPoisoned,
        (Stage::BeforeCommit, ..)
        | (Stage::Commit, _, Some(SQLITE_BUSY | SQLITE_FULL))
        | (Stage::Commit, Some(SQLITE_IOERR_WRITE), _) => Verdict::NotWritten,
        (Stage::Commit, ..) => Verdict::UnknownPoisoned,
    }
}

impl Verdict {
    /// What the appends of the failed transaction are told.
    pub(super) fn answer(self, cause: &str) -> AppendError {
        let cause = cause.to_owned();
        match self {
            Self::NotWritten => AppendError::Unavailable { cause },
            Self::NotWrittenPoisoned => AppendError::Poisoned { cause },
            Self::UnknownPoisoned => AppendError::OutcomeUnknown { cause },
        }
    }

    /// Whether later appends are refused.
    pub(super) fn poisons(self) -> bool {
        self != Self::NotWritten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQLITE_BUSY_SNAPSHOT: i32 = 517;
    const SQLITE_IOERR_SHMSIZE: i32 = 4874;
    const SQLITE_CONSTRAINT_UNIQUE: i32 = 2067;
    const SQLITE_CORRUPT_INDEX: i32 = 779;

    #[test]
    fn each_failure_is_judged_by_where_it_came() {
        use Stage::{BeforeCommit, Commit};
        use Verdict::{NotWritten, NotWrittenPoisoned, UnknownPoisoned};
        for (stage, code, verdict) in [
            (BeforeCommit, Some(SQLITE_BUSY), NotWritten),
            (BeforeCommit, Some(SQLITE_FULL), NotWritten),
            (BeforeCommit, Some(SQLITE_CONSTRAINT_UNIQUE), NotWritten),
            (BeforeCommit, Some(SQLITE_IOERR_WRITE), NotWritten),
            (BeforeCommit, None, NotWritten),
            (BeforeCommit, Some(SQLITE_IOERR_FSYNC), NotWrittenPoisoned),
            (BeforeCommit, Some(SQLITE_IOERR_DIR_FSYNC), NotWrittenPoisoned),
            (BeforeCommit, Some(SQLITE_CORRUPT_INDEX), NotWrittenPoisoned),
            (BeforeCommit, Some(SQLITE_NOTADB), NotWrittenPoisoned),
            (Commit, Some(SQLITE_BUSY_SNAPSHOT), NotWritten),
            (Commit, Some(SQLITE_FULL), NotWritten),
            (Commit, Some(SQLITE_IOERR_WRITE), NotWritten),
            (Commit, Some(SQLITE_IOERR_FSYNC), UnknownPoisoned),
            (Commit, Some(SQLITE_IOERR_SHMSIZE), UnknownPoisoned),
            (Commit, Some(SQLITE_CORRUPT), UnknownPoisoned),
            (Commit, None, UnknownPoisoned),
        ] {
            let fault = Fault { code, cause: String::new() };
            assert_eq!(judge(stage, &fault), verdict, "{stage:?} {code:?}");
        }
    }

    #[test]
    fn only_what_may_be_tried_again_leaves_the_store_open() {
        assert!(matches!(Verdict::NotWritten.answer("x"), AppendError::Unavailable { .. }));
        assert!(matches!(Verdict::NotWrittenPoisoned.answer("x"), AppendError::Poisoned { .. }));
        assert!(matches!(Verdict::UnknownPoisoned.answer("x"), AppendError::OutcomeUnknown { .. }));
        assert!(!Verdict::NotWritten.poisons() && Verdict::NotWrittenPoisoned.poisons());
    }
}
