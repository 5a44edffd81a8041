//! The PostgreSQL server that tests share: one for a run, on a free port, gone when the run ends.

use std::ffi::OsString;

use anyhow::{Context, Result};

use self::server::{Durability, PostgresServer};

/// The tests' own: what they start where no server is named to them.
#[expect(unreachable_pub, dead_code, reason = "it is a part of lease-stores, which xtask does not depend on")]
#[path = "../../events/stores/src/contract/postgres_server.rs"]
mod server;

/// Names a server to the tests: the address of a superuser's database on it.
pub(crate) const SERVER_URL: &str = "LEASE_LEDGER_TEST_POSTGRES_URL";

/// A server for one run.
pub(crate) enum Shared {
    /// The caller named one.
    Given(OsString),
    /// One of this run's own.
    Own(PostgresServer),
}

impl Shared {
    /// The one that is named, or a new one.
    pub(crate) fn start() -> Result<Self> {
        if let Some(url) = std::env::var_os(SERVER_URL) {
            return Ok(Self::Given(url));
        }
        let server = PostgresServer::start(Durability::Fast).context("no PostgreSQL server could be started")?;
        eprintln!("A PostgreSQL server for the tests listens on port {}.", server.port());
        Ok(Self::Own(server))
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Given(url) => url.to_string_lossy().into_owned(),
            Self::Own(server) => server.url("postgres"),
        }
    }
}

/// Whether PostgreSQL is installed, wherever Debian puts it.
pub(crate) fn is_installed() -> bool {
    server::programs().is_ok()
}
