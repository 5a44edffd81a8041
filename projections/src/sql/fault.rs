//! Whose fault an error is: a projection's own, which stands still, or the connection's, which fails the transaction.
//! Pure.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// The projection's own fault: its step, or its table. The transaction can go on without it.
    Projection(String),
    /// The connection's fault: the whole transaction fails.
    Connection(sqlx::Error),
}

impl From<sqlx::Error> for BatchError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) if is_of_the_machine(&*error) => {
                Self::Connection(sqlx::Error::Database(error))
            }
            sqlx::Error::Database(error) => Self::Projection(error.to_string()),
            sqlx::Error::RowNotFound => Self::Projection("a row that was written is not there any more".to_owned()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Projection(error.to_string())
            }
            error => Self::Connection(error),
        }
    }
}

/// SQLite's primary result codes that speak of the machine, not of a table: no memory, I/O, a full disk.
const SQLITE_CODES: [i32; 3] = [7, 10, 13];
/// PostgreSQL's classes of states that do: a lost connection, a transaction that cannot go on, no resources, an
/// operator's stop, a system error.
const POSTGRES_CLASSES: [&str; 5] = ["08", "25", "53", "57", "58"];
/// A statement that took too long, or was cancelled. It did nothing, and the transaction can go on without it.
const QUERY_CANCELED: &str = "57014";

fn is_of_the_machine(error: &dyn DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        let fatal = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
        return fatal || ends_the_transaction(error.code());
    }
    let code = error.code().and_then(|code| code.parse::<i32>().ok());
    // The low byte of an extended code is the primary one.
    code.is_some_and(|code| SQLITE_CODES.contains(&(code & 0xff)))
}

fn ends_the_transaction(state: &str) -> bool {
    state != QUERY_CANCELED && POSTGRES_CLASSES.iter().any(|class| state.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_savepoint_can_undo_is_the_projections_own_fault() {
        for (what, state) in [
            ("no such table", "42P01"),
            ("a duplicate key", "23505"),
            ("a locked table", "55P03"),
            ("a deadlock", "40P01"),
            ("a statement that took too long", "57014"),
            ("a damaged index", "XX002"),
        ] {
            assert!(!ends_the_transaction(state), "{what}");
        }
        for (what, state) in [
            ("a lost connection", "08006"),
            ("an aborted transaction", "25P02"),
            ("a demoted primary", "25006"),
            ("a full disk", "53100"),
            ("a stopped server", "57P01"),
            ("an I/O error", "58030"),
        ] {
            assert!(ends_the_transaction(state), "{what}");
        }
    }
}
