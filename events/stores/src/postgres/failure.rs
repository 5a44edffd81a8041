//! What a failed step means: whether it is worth another try, and whether anything may have been written. Pure.
//!
//! **Invariants:** before COMMIT was sent, nothing of a transaction is in the log, whatever happened. Once it was sent
//! and no success was heard, the outcome is open until the same appends were decided again under the lock of the head,
//! where the ids at the exact revisions tell.

use lease_events::store::AppendError;

/// Where in a transaction it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// COMMIT was not sent.
    #[default]
    BeforeCommit,
    /// COMMIT may have been sent, and no success was heard.
    Commit,
}

/// A failure as PostgreSQL or the connection told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The SQLSTATE; `None` where no server said it.
    pub(super) code: Option<String>,
    /// The connection is gone, or cannot be made.
    pub(super) lost: bool,
    /// What was said.
    pub(super) cause: String,
}

/// SQLSTATEs after which another try may succeed, on another connection where need be: a serialization failure, a
/// deadlock, a server that was demoted and takes no writes (failover), a transaction that failed earlier or stood idle
/// for too long, too many connections, a lock or statement that took too long. The classes `08` (connection) and `57P`
/// (a server that stops, crashed or starts) come on top.
const TRANSIENT: [&str; 8] = ["40001", "40P01", "25006", "25P02", "25P03", "53300", "55P03", "57014"];

impl Fault {
    /// There was no answer in time.
    pub(super) fn silence() -> Self {
        Self { code: None, lost: true, cause: "the database did not answer in time".to_owned() }
    }

    /// Whether another try may succeed without anybody mending anything.
    pub(super) fn is_transient(&self) -> bool {
        let of_the_server = self
            .code
            .as_deref()
            .is_some_and(|code| TRANSIENT.contains(&code) || code.starts_with("08") || code.starts_with("57P"));
        self.lost || of_the_server
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let lost = matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::BeginFailed
        );
        Self { code: code.map(std::borrow::Cow::into_owned), lost, cause: error.to_string() }
    }
}

/// What the appends of a turn that could not be brought to an end are told.
pub(super) fn answer(outcome_open: bool, cause: &str) -> AppendError {
    let cause = cause.to_owned();
    if outcome_open { AppendError::OutcomeUnknown { cause } } else { AppendError::Unavailable { cause } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: Option<&str>) -> Fault {
        Fault { code: code.map(str::to_owned), lost: false, cause: String::new() }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for code in ["08006", "40001", "40P01", "25006", "25P03", "53300", "55P03", "57014", "57P01", "57P02", "57P03"]
        {
            assert!(fault(Some(code)).is_transient(), "{code}");
        }
        assert!(Fault::silence().is_transient());
        assert!(Fault::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())).is_transient());
    }

    #[test]
    fn what_somebody_must_mend_is_not() {
        // A unique violation, a missing table, a missing right, a full disk, a wrong password.
        for code in ["23505", "42P01", "42501", "53100", "28P01"] {
            assert!(!fault(Some(code)).is_transient(), "{code}");
        }
        assert!(!fault(None).is_transient());
        assert!(!Fault::from(sqlx::Error::RowNotFound).is_transient());
    }
}
