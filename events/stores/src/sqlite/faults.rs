//! The seam through which a commit is made to fail, so that what follows from it can be shown on the production path.

use std::fmt;

use sqlx::{Sqlite, Transaction};

use super::failure::Fault;

/// Decides whether the next commit fails. A store opened without one has none.
pub trait CommitFaults: Send + Sync {
    /// Called once before each COMMIT; `None` lets it pass.
    fn at_commit(&self) -> Option<CommitFault>;
}

/// A commit that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitFault {
    /// SQLite's extended result code, such as 1034 (`SQLITE_IOERR_FSYNC`).
    pub code: i32,
    /// Whether the transaction is there all the same: the failure came after the log was written.
    pub written: bool,
}

impl fmt::Display for CommitFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an injected failure of COMMIT (code: {})", self.code)
    }
}

impl CommitFault {
    /// Ends the transaction as this failure would.
    pub(super) async fn strike(self, transaction: Transaction<'_, Sqlite>) -> Result<(), Fault> {
        if self.written {
            transaction.commit().await?;
        }
        Err(Fault { code: Some(self.code), cause: self.to_string() })
    }
}
