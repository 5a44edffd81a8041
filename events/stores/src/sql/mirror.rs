//! Stores whose events are those of a log elsewhere: numbered in its order, with how far they follow it in the table `mirror`.
//!
//! **Invariant:** a store that has a log of its own never becomes a mirror, and a mirror takes no appends of its own. What
//! writes a mirror is the store that it belongs to (`crate::kurrentdb`).

use super::SqlReader;

/// Whether the store is a mirror.
const IS_MIRROR: &str = "SELECT EXISTS (SELECT 1 FROM mirror)";

/// Whether these connections are to a mirror.
pub(crate) async fn is_mirror(reader: &SqlReader) -> Result<bool, sqlx::Error> {
    match reader {
        SqlReader::Sqlite(pool) => sqlx::query_scalar(IS_MIRROR).fetch_one(pool).await,
        SqlReader::Postgres(pool) => sqlx::query_scalar(IS_MIRROR).fetch_one(pool).await,
    }
}
