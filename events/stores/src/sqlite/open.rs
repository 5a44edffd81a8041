//! Opening a ledger file: is it one of ours, of a format that this program knows; and making it one where it is new.
//!
//! **Invariant:** a file that is refused is left as it was found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lease_events::id::LedgerId;
use lease_events::seam::{Clock, Ids};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, SqlitePool};

use super::failure::Fault;
use super::place::Place;
use super::rows::time_text;

/// `PRAGMA application_id` of a ledger file: the bytes `LLdg`. Never changed: it is how a ledger is known.
const APPLICATION_ID: i64 = 0x4c4c_6467;
/// In their order; the file's format (`PRAGMA user_version`) is how many of them it has seen. Append only.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../../../migrations/sqlite/0001_log.sql"),
    include_str!("../../../../migrations/sqlite/0002_secrets.sql"),
    include_str!("../../../../migrations/sqlite/0003_mirror.sql"),
];
/// The newest format that this program reads and writes.
const FORMAT: i64 = 3;
const _: () = assert!(FORMAT.unsigned_abs() == MIGRATIONS.len() as u64, "the format counts the migrations");

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads at once; further ones wait. They are short, and more than a few only compete for the disk.
const READERS_MAX: u32 = 4;
/// How long a read waits for its turn.
const READER_PATIENCE: Duration = Duration::from_secs(10);
/// Page cache of the writer, in KiB, as SQLite wants it (negative). It keeps the ends of the index of streams hot.
const WRITER_CACHE: &str = "-32768";
/// Page cache of each reader, in KiB.
const READER_CACHE: &str = "-8192";
/// Pages in the WAL (16 MiB) at which the writer moves them into the database, without waiting for readers.
const CHECKPOINT_PAGES: &str = "4096";
/// A WAL that grew beyond this (64 MiB, because a reader stayed long) is cut when it is started anew.
const WAL_BYTES_KEPT: &str = "67108864";
/// Prepared statements kept on a connection: the store's own 62 shapes, and those of the hook.
const STATEMENTS_MAX: usize = 256;
/// Tries to turn a new file to WAL, which SQLite's busy timeout does not cover, while others open it too.
const WAL_TRIES_MAX: u32 = 100;
/// The pause between them.
const WAL_PAUSE: Duration = Duration::from_millis(20);

/// Why a file was not opened as a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The path is a folder's.
    #[error("{} is a folder, not a ledger file; give the path of a file, such as {}", .path.display(), .path.join("ledger.db").display())]
    Folder {
        /// As given.
        path: PathBuf,
    },
    /// The folder of the file is not there.
    #[error("the folder of the ledger file {} does not exist; make it first", .path.display())]
    NoFolder {
        /// As given.
        path: PathBuf,
    },
    /// The system does not let it be read and written.
    #[error("the ledger file {} cannot be opened for reading and writing; check its permissions and those of its folder", .path.display())]
    NotPermitted {
        /// As given.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a ledger: it is no SQLite database; give the path of a ledger or of a new file", .path.display())]
    NotADatabase {
        /// As given.
        path: PathBuf,
    },
    /// It is a database of somebody else.
    #[error("{} is not a ledger: it is a SQLite database of another program; give the path of a ledger or of a new file", .path.display())]
    Foreign {
        /// As given.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error("the ledger file {} has format {found}, and this lease-ledger knows formats up to {known}; use a newer lease-ledger", .path.display())]
    NewerFormat {
        /// As given.
        path: PathBuf,
        /// The file's.
        found: i64,
        /// The newest that can be read.
        known: i64,
    },
    /// Its events are those of a server.
    #[error("{} is no ledger of its own, but the mirror of one on a KurrentDB server; give the server's address as the store, and this file as its projections", .path.display())]
    Mirror {
        /// As given.
        path: PathBuf,
    },
    /// The file system cannot share memory between processes.
    #[error("the ledger file {} cannot use a write-ahead log; put it on a local disk", .path.display())]
    NoWriteAheadLog {
        /// As given.
        path: PathBuf,
    },
    /// Anything else; it may be tried again.
    #[error("the ledger file {} cannot be opened: {cause}", .path.display())]
    Unavailable {
        /// As given.
        path: PathBuf,
        /// What the database said.
        cause: String,
    },
}

/// A ledger file, opened.
pub(super) struct Opened {
    /// For connecting again: a file that went away is not made anew.
    pub(super) connect: SqliteConnectOptions,
    pub(super) place: Place,
    pub(super) connection: SqliteConnection,
    pub(super) readers: SqlitePool,
    pub(super) ledger: LedgerId,
}

/// Opens the ledger at `path`, and makes it where there is none.
pub(super) async fn open(path: &Path, clock: &dyn Clock, ids: &dyn Ids) -> Result<Opened, OpenError> {
    check_path(path)?;
    let failed = |error: sqlx::Error| explain(path, &Fault::from(error));
    let connect = writer_options(path);
    let mut connection = connect.clone().create_if_missing(true).connect().await.map_err(failed)?;
    identity(&mut connection).await.map_err(failed)?.format(path)?;
    use_write_ahead_log(&mut connection, path).await?;
    let ledger = migrate(&mut connection, path, clock, ids).await?;
    // A process that died in the middle of a commit may have left a WAL that was never synced. A checkpoint syncs it,
    // so that what is read from now on, and answered as a repetition, is durable.
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await.map_err(failed)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(READER_PATIENCE)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None);
    let readers = readers.connect_with(reader_options(path)).await.map_err(failed)?;
    let place =
        Place::of(path).map_err(|error| OpenError::Unavailable { path: path.to_owned(), cause: error.to_string() })?;
    Ok(Opened { connect, place, connection, readers, ledger })
}

fn check_path(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Err(OpenError::Folder { path: path.to_owned() });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(OpenError::NoFolder { path: path.to_owned() });
    }
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    // Absolute: SQLite would take a relative name such as "file:x" or ":memory:" for something else.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("mmap_size", "0")
        .disable_statement_logging()
}

fn writer_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", WRITER_CACHE)
        // Pages that a savepoint may have to restore stay in memory; in a file they would cost more than the log itself.
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", WAL_BYTES_KEPT)
}

fn reader_options(path: &Path) -> SqliteConnectOptions {
    options(path).read_only(true).pragma("cache_size", READER_CACHE)
}

/// What a file says of itself.
#[derive(Debug, Clone, Copy)]
struct Identity {
    application_id: i64,
    user_version: i64,
    objects: i64,
}

/// One statement, so one snapshot: another process may be making the file at this moment.
const IDENTITY: &str = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
                        FROM pragma_application_id, pragma_user_version";

async fn identity(connection: &mut SqliteConnection) -> Result<Identity, sqlx::Error> {
    let (application_id, user_version, objects) = sqlx::query_as(IDENTITY).fetch_one(connection).await?;
    Ok(Identity { application_id, user_version, objects })
}

impl Identity {
    /// The file's format, from 0 (new and empty) to [`FORMAT`].
    fn format(self, path: &Path) -> Result<usize, OpenError> {
        let path = path.to_owned();
        match self {
            Self { application_id: 0, user_version: 0, objects: 0 } => Ok(0),
            Self { application_id: APPLICATION_ID, user_version: found, .. } if found > FORMAT => {
                Err(OpenError::NewerFormat { path, found, known: FORMAT })
            }
            Self { application_id: APPLICATION_ID, user_version, .. } => {
                usize::try_from(user_version).map_err(|_| OpenError::Foreign { path })
            }
            Self { .. } => Err(OpenError::Foreign { path }),
        }
    }
}

async fn use_write_ahead_log(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let mut tries = 1;
    loop {
        let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await;
        match mode.map_err(Fault::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => return Err(OpenError::NoWriteAheadLog { path: path.to_owned() }),
            Err(fault) if fault.is_busy() && tries < WAL_TRIES_MAX => {
                tokio::time::sleep(WAL_PAUSE).await;
                tries += 1;
            }
            Err(fault) => return Err(explain(path, &fault)),
        }
    }
}

/// Brings the file to [`FORMAT`] in one transaction, and answers the ledger's id. It looks again under the lock, since
/// another process may have made the file in the meantime.
async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<LedgerId, OpenError> {
    let failed = |error: sqlx::Error| explain(path, &Fault::from(error));
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let found = identity(&mut transaction).await.map_err(failed)?.format(path)?;
    for migration in &MIGRATIONS[found..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(failed)?;
    }
    if found < MIGRATIONS.len() {
        let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}");
        sqlx::raw_sql(AssertSqlSafe(marks)).execute(&mut *transaction).await.map_err(failed)?;
    }
    if found == 0 {
        sqlx::query("INSERT INTO ledger (one, id, created_format, created_at) VALUES (1, ?, ?, ?)")
            .bind(ids.fresh().to_string())
            .bind(FORMAT)
            .bind(time_text(clock.now()))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    let id: String =
        sqlx::query_scalar("SELECT id FROM ledger WHERE one = 1").fetch_one(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    id.parse().map_err(|cause| OpenError::Unavailable {
        path: path.to_owned(),
        cause: format!("table ledger, row 1, column id: {cause}"),
    })
}

/// What SQLite's failure to open means.
fn explain(path: &Path, fault: &Fault) -> OpenError {
    const SQLITE_PERM: i32 = 3;
    const SQLITE_READONLY: i32 = 8;
    const SQLITE_CANTOPEN: i32 = 14;
    const SQLITE_NOTADB: i32 = 26;
    let path = path.to_owned();
    match fault.code.map(|code| code & 0xff) {
        Some(SQLITE_PERM | SQLITE_READONLY | SQLITE_CANTOPEN) => OpenError::NotPermitted { path },
        Some(SQLITE_NOTADB) => OpenError::NotADatabase { path },
        _ => OpenError::Unavailable { path, cause: fault.cause.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_not_permit_is_said_so() {
        // 1032 is SQLITE_READONLY_DBMOVED: the extended codes go with their primary one.
        for code in [3, 8, 14, 1032] {
            let fault = Fault { code: Some(code), cause: String::new() };
            let error = explain(Path::new("/x/ledger.db"), &fault).to_string();
            assert_eq!(
                error,
                "the ledger file /x/ledger.db cannot be opened for reading and writing; check its permissions and those of its folder"
            );
        }
    }

    #[test]
    fn a_file_is_new_ours_or_refused() {
        let path = Path::new("x.db");
        let found =
            |application_id, user_version, objects| Identity { application_id, user_version, objects }.format(path);
        assert_eq!(found(0, 0, 0), Ok(0));
        assert_eq!(found(APPLICATION_ID, FORMAT, 3), Ok(MIGRATIONS.len()));
        assert_eq!(
            found(APPLICATION_ID, FORMAT + 1, 3),
            Err(OpenError::NewerFormat { path: path.to_owned(), found: FORMAT + 1, known: FORMAT })
        );
        for foreign in [(0, 0, 1), (0, 7, 0), (42, 0, 0), (42, FORMAT, 3), (APPLICATION_ID, -1, 3)] {
            let refused = found(foreign.0, foreign.1, foreign.2);
            assert_eq!(refused, Err(OpenError::Foreign { path: path.to_owned() }), "{foreign:?}");
        }
    }
}
