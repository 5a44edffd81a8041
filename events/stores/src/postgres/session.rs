//! Connections: where the database is, and how each session is set so that no process, alive or paused, holds up the
//! others for longer than is said here.
//!
//! **Invariant:** a password is in no error and no log: a database is named by host, port and name.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::failure::Fault;

/// How long making a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Reads at once; further ones wait. With the writer, the keeper of the owner's life and the listener a process takes at
/// most three connections more.
const READERS_MAX: u32 = 8;
/// How long a read waits for its turn, or for a connection.
const READER_PATIENCE: Duration = Duration::from_secs(5);
/// Readers that stood idle for so long are closed; they would only take the server's memory.
const READER_IDLE: Duration = Duration::from_mins(5);
/// A reader that stood idle for so long is asked whether it lives before it is used.
const READER_UNPROVEN: Duration = Duration::from_secs(1);

/// What every session is set to.
///
/// - A process that is paused inside a transaction, with the lock of the head, holds up all others: the server ends it
///   after 5 seconds, and nothing of it is written. Between two statements the store itself takes milliseconds.
/// - No statement of the store takes 10 seconds, but for the wait behind such a process.
/// - A client that went away is noticed after some 20 seconds, and within 2 while its statement waits for a lock.
/// - An acknowledged event is on the disk, whatever the server's default. A stricter setting of the server stays.
const SETTINGS: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '5s'; \
                        SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2; \
                        SET client_connection_check_interval = '2s'; SET client_min_messages = 'warning'; SET jit = off; \
                        SELECT set_config('synchronous_commit', 'on', false) \
                        WHERE current_setting('synchronous_commit') = 'off'";
/// What a session that writes is set to on top: its statements find their rows through indexes, also where nobody has
/// counted yet how many rows a table has.
const TO_THE_INDEX: &str = "SET enable_seqscan = off";
/// What a reader is set to on top.
const READ_ONLY: &str = "SET default_transaction_read_only = on";

/// A text that names no database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address of the database cannot be read ({cause}); give postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full"
)]
pub struct InvalidPostgresUrl {
    /// Why; never the address itself, which may hold a password.
    cause: &'static str,
}

/// The database that an address means, as errors and logs name it: without who logs in and with what.
///
/// # Errors
/// It cannot be read.
pub fn place_of(url: &str) -> Result<String, InvalidPostgresUrl> {
    Sessions::of(url).map(|sessions| sessions.place())
}

/// How to connect.
#[derive(Clone)]
pub(super) struct Sessions {
    options: PgConnectOptions,
    /// When a connection last failed, in milliseconds since [`START`]: older ones are not trusted unasked.
    failed: Arc<AtomicU64>,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Sessions {
    /// Of a URL.
    pub(super) fn of(url: &str) -> Result<Self, InvalidPostgresUrl> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(InvalidPostgresUrl { cause: "it does not begin with postgres://" });
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| InvalidPostgresUrl { cause: "it is no URL, or a parameter of it has a value that is none" })?;
        LazyLock::force(&START);
        let options = options.application_name("lease-ledger").disable_statement_logging();
        Ok(Self { options, failed: Arc::default() })
    }

    /// The database as errors name it.
    pub(super) fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or_else(|| self.options.get_username());
        match self.options.get_socket() {
            Some(socket) => format!("{database} at {}", socket.display()),
            None => format!("{database} at {}:{}", self.options.get_host(), self.options.get_port()),
        }
    }

    /// A connection that may write.
    pub(super) async fn connect(&self) -> Result<PgConnection, Fault> {
        let connect = async {
            let mut connection = self.options.connect().await?;
            sqlx::raw_sql(SETTINGS).execute(&mut connection).await?;
            sqlx::raw_sql(TO_THE_INDEX).execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match tokio::time::timeout(CONNECT_PATIENCE, connect).await {
            Ok(connected) => connected.map_err(Fault::from),
            Err(_) => Err(Fault::silence()),
        }
    }

    /// A pool of connections that only read. None is made before it is asked for.
    pub(super) fn readers(&self) -> PgPool {
        let failed = Arc::clone(&self.failed);
        PgPoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(READER_PATIENCE)
            .idle_timeout(READER_IDLE)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(SETTINGS).execute(&mut *connection).await?;
                    sqlx::raw_sql(READ_ONLY).execute(connection).await.map(drop)
                })
            })
            .before_acquire(move |connection, about| {
                let since_failure =
                    START.elapsed().saturating_sub(Duration::from_millis(failed.load(Ordering::Relaxed)));
                let unproven = about.idle_for >= READER_UNPROVEN || about.age >= since_failure;
                Box::pin(async move { Ok(!unproven || connection.ping().await.is_ok()) })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// A pool of the one connection that listens.
    pub(super) fn listener(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_PATIENCE)
            .connect_lazy_with(self.options.clone())
    }

    /// A connection was lost: the others may be as well.
    pub(super) fn distrust(&self) {
        let now = START.elapsed().as_millis();
        self.failed.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_without_its_password() {
        let sessions = Sessions::of("postgres://ada:lovelace@db.example:5433/ledger?sslmode=require").unwrap();
        assert_eq!(sessions.place(), "ledger at db.example:5433");
        for wrong in [
            "mysql://ada:lovelace@x/y",
            "postgres://ada:lovelace@db:port/ledger",
            "postgres://u:lovelace@h/d?sslmode=maybe",
        ] {
            let error = Sessions::of(wrong).err().map(|error| error.to_string()).unwrap();
            assert!(error.contains("give postgres://") && !error.contains("lovelace"), "{error}");
        }
    }
}
