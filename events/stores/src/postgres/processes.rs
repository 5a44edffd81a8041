//! The processes of a database, as an operator sees them.

use sqlx::PgPool;

/// By the clock of the database; whoever only asks a question takes no duties.
const PROCESSES: &str = "SELECT owner, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
    alive_until < clock_timestamp(), ARRAY(SELECT duty FROM duties WHERE duties.owner = owners.owner ORDER BY duty) \
    FROM owners WHERE fenced_at IS NULL AND takes_duties ORDER BY started_at, owner";

/// A process that keeps a ledger, and is not known to be dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// As its in-flight effects name it.
    pub owner: String,
    /// Since when: RFC 3339, UTC.
    pub started_at: String,
    /// It gave no sign of life for its time to live: whoever notices first fences it.
    pub is_silent: bool,
    /// The background work that is its own.
    pub duties: Vec<String>,
}

/// Those that there are, oldest first.
///
/// # Errors
/// The database cannot be read.
pub async fn processes(pool: &PgPool) -> Result<Vec<Process>, sqlx::Error> {
    let rows: Vec<(String, String, bool, Vec<String>)> = sqlx::query_as(PROCESSES).fetch_all(pool).await?;
    let process = |(owner, started_at, is_silent, duties)| Process { owner, started_at, is_silent, duties };
    Ok(rows.into_iter().map(process).collect())
}
