//! Opening a ledger in a database: is it one of ours, of a format that this program knows; and making it one where the
//! schema has none.
//!
//! **Invariants:** a database that is refused is left as it was found. Of several processes that open one at once, one
//! brings it to the newest format, and the others wait for it.

use std::time::{Duration, Instant};

use lease_events::id::LedgerId;
use lease_events::record::Position;
use lease_events::seam::{Clock, Ids};
use sqlx::{Connection, PgConnection};

use super::failure::Fault;
use super::rows::time_text;
use super::session::{InvalidPostgresUrl, Sessions};
use super::{PostgresOptions, owners};

/// In their order; the schema's format (`ledger.format`) is how many of them it has seen. Append only.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../../../migrations/postgres/0001_log.sql"),
    include_str!("../../../../migrations/postgres/0002_secrets.sql"),
    include_str!("../../../../migrations/postgres/0003_mirror.sql"),
];
/// The newest format that this program reads and writes.
const FORMAT: i32 = 3;
const _: () = assert!(FORMAT.unsigned_abs() as usize == MIGRATIONS.len(), "the format counts the migrations");

/// The oldest server that is taken, as it numbers itself.
const SERVER_MIN: u32 = 150_000;
/// A migration takes what time it needs, and others wait for it.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0";
/// The lock that migrations are made under: the bytes `LLdg`, as in the header of a ledger's SQLite file.
const MIGRATION_LOCK: i64 = 0x4c4c_6467;
/// How long opening goes on trying while the server starts, or has no connection to spare.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a database was not opened as a ledger. `place` names it, without who logs in and with what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error(transparent)]
    Url(#[from] InvalidPostgresUrl),
    /// The database is not there.
    #[error("there is no database {place}; make it first, such as with createdb")]
    NoDatabase {
        /// Which.
        place: String,
    },
    /// The login is not let in, or may not do what is needed.
    #[error(
        "the database {place} does not let this login do what a ledger needs ({cause}); see docs/postgres.md for the rights"
    )]
    NotPermitted {
        /// Which.
        place: String,
        /// What the server said.
        cause: String,
    },
    /// The server is too old.
    #[error("the server of {place} is PostgreSQL {}.{}; a ledger needs 15 or newer", .found / 10_000, .found % 10_000)]
    OldServer {
        /// Which.
        place: String,
        /// Its version, as it numbers itself.
        found: u32,
    },
    /// The server takes no writes.
    #[error("the server of {place} takes no writes: it is a standby; give the address of the primary")]
    Standby {
        /// Which.
        place: String,
    },
    /// The schema has tables of somebody else.
    #[error(
        "the schema {schema} of {place} is not a ledger's: it has a table {table} of another program; give a database of its own"
    )]
    Foreign {
        /// Which.
        place: String,
        /// Its current schema.
        schema: String,
        /// What is in the way.
        table: String,
    },
    /// A newer program has been here.
    #[error(
        "the ledger in {place} has format {found}, and this lease-ledger knows formats up to {known}; use a newer lease-ledger"
    )]
    NewerFormat {
        /// Which.
        place: String,
        /// Its format.
        found: i32,
        /// The newest that is known.
        known: i32,
    },
    /// Its events are those of a server.
    #[error(
        "the database {place} is no ledger of its own, but the mirror of one on a KurrentDB server; give the server's address as the \
         store, and this database as its projections"
    )]
    Mirror {
        /// Which.
        place: String,
    },
    /// The owner's name was used before.
    #[error("the owner {owner} has used the ledger in {place} before; each start of a process needs a name of its own")]
    OwnerTaken {
        /// Which.
        place: String,
        /// The name.
        owner: String,
    },
    /// Anything else; it may be tried again.
    #[error("the database {place} cannot be opened: {cause}")]
    Unavailable {
        /// Which.
        place: String,
        /// What was said.
        cause: String,
    },
}

/// A ledger's database, opened.
pub(super) struct Opened {
    pub(super) sessions: Sessions,
    pub(super) connection: PgConnection,
    pub(super) ledger: LedgerId,
    pub(super) head: Position,
}

/// Opens the ledger, and registers its owner.
pub(super) async fn open(options: &PostgresOptions) -> Result<Opened, OpenError> {
    let (sessions, mut connection, ledger) = ready(&options.url, &*options.clock, &*options.ids).await?;
    let place = sessions.place();
    let failed = |error: sqlx::Error| explain(&place, error.into());
    if !owners::register(&mut connection, &options.owner, options.timings).await.map_err(failed)? {
        return Err(OpenError::OwnerTaken { place, owner: options.owner.clone() });
    }
    let head: i64 = sqlx::query_scalar("SELECT position FROM head").fetch_one(&mut connection).await.map_err(failed)?;
    warn_of_lost_syncs(&mut connection).await.map_err(failed)?;
    Ok(Opened { sessions, connection, ledger, head: Position(head.unsigned_abs()) })
}

/// Makes the ledger's tables where there are none, or brings them to the newest format, as whoever logs in with `url`: for
/// an owner of the tables that is not the login of the ledger's processes. Answers the ledger's id.
pub async fn migrate(url: &str, clock: &dyn Clock, ids: &dyn Ids) -> Result<LedgerId, OpenError> {
    Ok(ready(url, clock, ids).await?.2)
}

/// Whether a database holds a ledger, of whatever format that this program knows. Changes nothing.
pub async fn holds_ledger(url: &str) -> Result<bool, OpenError> {
    let sessions = Sessions::of(url)?;
    let place = sessions.place();
    let mut connection = sessions.connect().await.map_err(|fault| explain(&place, fault))?;
    Ok(format(&mut connection, &place).await? > 0)
}

async fn ready(url: &str, clock: &dyn Clock, ids: &dyn Ids) -> Result<(Sessions, PgConnection, LedgerId), OpenError> {
    let sessions = Sessions::of(url)?;
    let place = sessions.place();
    let began = Instant::now();
    loop {
        let fault = match sessions.connect().await {
            Ok(mut connection) => {
                let found = connection.server_version_num().unwrap_or(SERVER_MIN);
                if found < SERVER_MIN {
                    return Err(OpenError::OldServer { place, found });
                }
                let ledger = bring_to_format(&mut connection, &place, clock, ids).await?;
                return Ok((sessions, connection, ledger));
            }
            Err(fault) => fault,
        };
        if !fault.is_transient() || began.elapsed() + PAUSE > OPEN_WITHIN {
            return Err(explain(&place, fault));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Brings the schema to [`FORMAT`] in one transaction, and answers the ledger's id. Where there is nothing to do, nothing is
/// locked, and no right to change tables is needed.
async fn bring_to_format(
    connection: &mut PgConnection,
    place: &str,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<LedgerId, OpenError> {
    let failed = |error: sqlx::Error| explain(place, error.into());
    if format(connection, place).await? < MIGRATIONS.len() {
        let mut transaction = connection.begin_with(BEGIN).await.map_err(failed)?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        // Another process may have done it while this one waited.
        let found = format(&mut transaction, place).await?;
        for migration in &MIGRATIONS[found..] {
            sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(failed)?;
        }
        if found == 0 {
            sqlx::query("INSERT INTO ledger (id, format, created_format, created_at) VALUES ($1, $2, $2, $3)")
                .bind(ids.fresh().to_string())
                .bind(FORMAT)
                .bind(time_text(clock.now()))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        } else {
            sqlx::query("UPDATE ledger SET format = $1")
                .bind(FORMAT)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
    }
    let id: String = sqlx::query_scalar("SELECT id FROM ledger").fetch_one(connection).await.map_err(failed)?;
    id.parse().map_err(|cause| OpenError::Unavailable {
        place: place.to_owned(),
        cause: format!("table ledger, column id: {cause}"),
    })
}

/// The schema's format, from 0 (there is no ledger) to [`FORMAT`].
async fn format(connection: &mut PgConnection, place: &str) -> Result<usize, OpenError> {
    const NAMES: &str = "SELECT current_schema()::text, \
        (SELECT min(tablename::text) FROM pg_tables WHERE schemaname = current_schema() \
         AND tablename IN ('events', 'head', 'owners', 'secret_versions', 'ledger')), \
        (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(current_schema()) || '.ledger') \
         AND attname IN ('one', 'id', 'format', 'created_format', 'created_at')) = 5";
    let failed = |error: sqlx::Error| explain(place, error.into());
    let (schema, table, ours): (Option<String>, Option<String>, bool) =
        sqlx::query_as(NAMES).fetch_one(&mut *connection).await.map_err(failed)?;
    let place = place.to_owned();
    let found: i32 = match table {
        None => return Ok(0),
        Some(table) if !ours => {
            return Err(OpenError::Foreign { place, schema: schema.unwrap_or_default(), table });
        }
        Some(_) => sqlx::query_scalar("SELECT format FROM ledger").fetch_one(connection).await.map_err(failed)?,
    };
    if found > FORMAT {
        return Err(OpenError::NewerFormat { place, found, known: FORMAT });
    }
    usize::try_from(found).map_err(|_| OpenError::Unavailable { place, cause: format!("its format is {found}") })
}

/// Says what no setting of a session can mend.
async fn warn_of_lost_syncs(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for setting in ["fsync", "full_page_writes"] {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&mut *connection).await?;
        if value == "off" {
            tracing::warn!(
                "the database server runs with {setting} = off: acknowledged events may be lost with its machine"
            );
        }
    }
    Ok(())
}

/// What a failure to open means.
fn explain(place: &str, fault: Fault) -> OpenError {
    let place = place.to_owned();
    let Fault { code, cause, .. } = fault;
    match code.as_deref() {
        Some("3D000") => OpenError::NoDatabase { place },
        Some("28000" | "28P01" | "42501") => OpenError::NotPermitted { place, cause },
        Some("25006") => OpenError::Standby { place },
        _ => OpenError::Unavailable { place, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let fault = |code: &str| Fault { code: Some(code.to_owned()), lost: false, cause: "no".to_owned() };
        let said = |code: &str| explain("ledger at db:5432", fault(code)).to_string();
        assert!(said("3D000").contains("make it first"));
        assert!(said("28P01").contains("docs/postgres.md"));
        assert!(said("25006").contains("address of the primary"));
        let old = OpenError::OldServer { place: "x".to_owned(), found: 140_011 }.to_string();
        assert_eq!(old, "the server of x is PostgreSQL 14.11; a ledger needs 15 or newer");
    }
}
