//! Where the events are kept, as `--store` spells it.
//!
//! **Invariant:** the login of a database is in nothing that is shown: neither in `Display`, nor in `Debug`, nor in an error.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lease_stores::postgres::place_of;

/// Where the events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`: one file on this machine.
    Sqlite(PathBuf),
    /// `postgres://…`: a database, for any number of processes.
    Postgres(PostgresUrl),
    /// `esdb://…`: a KurrentDB server, with the projections elsewhere.
    Kurrent(KurrentUrl),
    /// `memory:`: gone when the process ends; for trials.
    Memory,
}

/// The address of a database, with who logs in and with what.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    url: String,
    place: String,
}

impl PostgresUrl {
    /// The whole address.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.place)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PostgresUrl({})", self.place)
    }
}

/// The connection string of a KurrentDB server, with who logs in and with what. Its client reads the rest of it.
#[derive(Clone, PartialEq, Eq)]
pub struct KurrentUrl {
    url: String,
    place: String,
}

impl KurrentUrl {
    fn of(url: &str, rest: &str) -> Self {
        let authority = rest.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        // A password may hold what separates the hosts from the rest; then nothing is shown but what stands behind it.
        let place = authority.rsplit('@').next().unwrap_or_default();
        let is_whole = rest.matches('@').count() == authority.matches('@').count();
        Self { url: url.to_owned(), place: if is_whole { place.to_owned() } else { "…".to_owned() } }
    }

    /// The whole connection string.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for KurrentUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "esdb://{}", self.place)
    }
}

impl fmt::Debug for KurrentUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KurrentUrl({})", self.place)
    }
}

/// A text that names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// It begins with nothing that is known. The text is not shown: it may be a misspelt address with a password.
    #[error(
        "that names no store; give sqlite:PATH, such as sqlite:/var/lib/lease-ledger/ledger.db, postgres://USER@HOST/DATABASE, \
         esdb://HOST:PORT, or memory:"
    )]
    Unknown,
    /// A database's address that cannot be read.
    #[error(transparent)]
    Postgres(#[from] lease_stores::postgres::InvalidPostgresUrl),
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(url: &str) -> Result<Self, InvalidStoreUrl> {
        match url.split_once(':') {
            Some(("sqlite", path)) if !path.trim_start_matches("//").is_empty() => {
                Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into()))
            }
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self::Postgres(PostgresUrl { url: url.to_owned(), place: place_of(url)? }))
            }
            Some(("esdb" | "esdb+discover", rest)) => Ok(Self::Kurrent(KurrentUrl::of(url, rest))),
            Some(("memory", "")) => Ok(Self::Memory),
            _ => Err(InvalidStoreUrl::Unknown),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(formatter, "postgres: {url}"),
            Self::Kurrent(url) => url.fmt(formatter),
            Self::Memory => formatter.write_str("memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_read_as_it_is_spelt_and_shown_without_its_login() {
        let read = |url: &str| url.parse::<StoreUrl>();
        assert_eq!(read("sqlite:/a/b.db"), Ok(StoreUrl::Sqlite("/a/b.db".into())));
        assert_eq!(read("sqlite:///a/b.db"), Ok(StoreUrl::Sqlite("/a/b.db".into())));
        assert_eq!(read("memory:"), Ok(StoreUrl::Memory));
        let database = read("postgres://ada:lovelace@db.example:5433/ledger").expect("an address");
        assert_eq!(database.to_string(), "postgres: ledger at db.example:5433");
        assert!(!format!("{database:?}").contains("lovelace"));
        for (url, shown) in [
            ("esdb://admin:changeit@a:2113,b:2113?tls=false", "esdb://a:2113,b:2113"),
            ("esdb+discover://ledger.example:2113", "esdb://ledger.example:2113"),
            ("esdb://admin:change/it@a:2113?tls=false", "esdb://…"),
            ("esdb://admin:change?it@a:2113", "esdb://…"),
        ] {
            let server = read(url).expect("an address");
            assert_eq!(server.to_string(), shown);
            assert!(!format!("{server:?}").contains("change"), "{server:?}");
        }
        for wrong in ["", "sqlite:", "memory:x", "postgre://ada:lovelace@x/y", "postgres://ada:lovelace@x:y/z"] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(error.contains("give ") && !error.contains("lovelace"), "{error}");
        }
    }
}
