//! Sealed values in the ledger's own SQLite file: written by the store's one writer, between two appends.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use lease_events::id::SecretId;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{Reseal, Sealed, SealedError, SealedStore};
use crate::append_hook::WriterJob;
use crate::sql::SqlConnection;
use crate::sqlite::SqliteStore;

const OTHER_KEY: &str = "SELECT key_id FROM secret_versions WHERE key_id <> ? LIMIT 1";
const PUT: &str = "INSERT INTO secret_versions (sealed_id, secret_id, company_id, version, key_id, nonce, ciphertext, \
                   created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sealed_id) DO UPDATE SET \
                   secret_id = excluded.secret_id, company_id = excluded.company_id, version = excluded.version, \
                   key_id = excluded.key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext, \
                   created_at = excluded.created_at";
const GET: &str = "SELECT * FROM secret_versions WHERE sealed_id = ?";
const ALL: &str = "SELECT * FROM secret_versions ORDER BY sealed_id";
const DISCARD: &str = "DELETE FROM secret_versions WHERE sealed_id = ?";
const DISCARD_SECRET: &str = "DELETE FROM secret_versions WHERE secret_id = ?";
/// Overwrites what is deleted, so that a removed secret's ciphertext leaves the file with the next checkpoint.
const OVERWRITE_DELETED: &str = "PRAGMA secure_delete = ON";

/// Sealed values in a ledger file.
pub struct SqliteSealed(Arc<SqliteStore>);

impl SqliteSealed {
    /// Those in the file of `store`.
    #[must_use]
    pub fn new(store: Arc<SqliteStore>) -> Self {
        Self(store)
    }

    async fn run<J: WriterJob + 'static>(&self, job: J) -> Result<J, SealedError> {
        let done = self.0.run_on_writer(job).await;
        done.map_err(|error| SealedError::Unavailable { cause: error.to_string() })
    }
}

#[async_trait]
impl SealedStore for SqliteSealed {
    async fn put(&self, sealed: Sealed) -> Result<(), SealedError> {
        let Put { sealed, other_key } = self.run(Put { sealed, other_key: None }).await?;
        match other_key {
            Some(found) => Err(SealedError::OtherKey { found, given: sealed.key_id }),
            None => Ok(()),
        }
    }

    async fn get(&self, sealed_id: Uuid) -> Result<Option<Sealed>, SealedError> {
        let row = sqlx::query(GET).bind(sealed_id.to_string()).fetch_optional(self.0.reader()).await;
        row.map_err(|error| unavailable(&error))?.map(|row| sealed(&row)).transpose()
    }

    async fn all(&self) -> Result<Vec<Sealed>, SealedError> {
        let rows = sqlx::query(ALL).fetch_all(self.0.reader()).await;
        rows.map_err(|error| unavailable(&error))?.iter().map(sealed).collect()
    }

    async fn discard(&self, sealed_id: Uuid) -> Result<(), SealedError> {
        self.run(Discard { statement: DISCARD, id: sealed_id }).await.map(drop)
    }

    async fn discard_secret(&self, secret_id: SecretId) -> Result<(), SealedError> {
        self.run(Discard { statement: DISCARD_SECRET, id: secret_id.0 }).await.map(drop)
    }

    async fn reseal(&self, reseal: Reseal) -> Result<u64, SealedError> {
        self.run(ResealAll { reseal, outcome: Ok(0) }).await?.outcome
    }
}

struct Put {
    sealed: Sealed,
    other_key: Option<String>,
}

#[async_trait]
impl WriterJob for Put {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        let key_id = &self.sealed.key_id;
        self.other_key = sqlx::query_scalar(OTHER_KEY).bind(key_id).fetch_optional(&mut *connection).await?;
        match self.other_key {
            Some(_) => Ok(()),
            None => write(connection, &self.sealed).await,
        }
    }
}

struct Discard {
    statement: &'static str,
    id: Uuid,
}

#[async_trait]
impl WriterJob for Discard {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        sqlx::query(OVERWRITE_DELETED).execute(&mut *connection).await?;
        sqlx::query(self.statement).bind(self.id.to_string()).execute(&mut *connection).await?;
        Ok(())
    }
}

struct ResealAll {
    reseal: Reseal,
    outcome: Result<u64, SealedError>,
}

#[async_trait]
impl WriterJob for ResealAll {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        sqlx::query(OVERWRITE_DELETED).execute(&mut *connection).await?;
        let rows = sqlx::query(ALL).fetch_all(&mut *connection).await?;
        // All are sealed anew before the first is written: a value that cannot be leaves every row as it was.
        let anew: Result<Vec<Sealed>, SealedError> = rows
            .iter()
            .map(|row| {
                let sealed = sealed(row)?;
                (self.reseal)(&sealed).map_err(|sentence| SealedError::NotResealed { sentence })
            })
            .collect();
        if let Ok(anew) = &anew {
            for sealed in anew {
                write(connection, sealed).await?;
            }
        }
        self.outcome = anew.map(|anew| anew.len() as u64);
        Ok(())
    }
}

async fn write(connection: &mut SqliteConnection, sealed: &Sealed) -> Result<(), sqlx::Error> {
    sqlx::query(PUT)
        .bind(sealed.sealed_id.to_string())
        .bind(sealed.secret_id.to_string())
        .bind(sealed.company_id.to_string())
        .bind(sealed.version)
        .bind(&sealed.key_id)
        .bind(&sealed.nonce[..])
        .bind(&sealed.ciphertext)
        .bind(sealed.created_at.to_rfc3339_opts(SecondsFormat::Micros, true))
        .execute(connection)
        .await?;
    Ok(())
}

fn sealed(row: &SqliteRow) -> Result<Sealed, SealedError> {
    let sealed_id: String = row.try_get("sealed_id").map_err(|error| unavailable(&error))?;
    let corrupt = |cause: String| SealedError::Corrupt { sealed_id: sealed_id.clone(), cause };
    let text = |column: &str| row.try_get::<String, _>(column).map_err(|error| corrupt(error.to_string()));
    let bytes = |column: &str| row.try_get::<Vec<u8>, _>(column).map_err(|error| corrupt(error.to_string()));
    Ok(Sealed {
        sealed_id: sealed_id.parse().map_err(|error: uuid::Error| corrupt(error.to_string()))?,
        secret_id: text("secret_id")?
            .parse()
            .map_err(|error: lease_events::id::InvalidId| corrupt(error.to_string()))?,
        company_id: text("company_id")?
            .parse()
            .map_err(|error: lease_events::id::InvalidId| corrupt(error.to_string()))?,
        version: row.try_get("version").map_err(|error| corrupt(error.to_string()))?,
        key_id: text("key_id")?,
        nonce: bytes("nonce")?.try_into().map_err(|_| corrupt("its nonce has another length".to_owned()))?,
        ciphertext: bytes("ciphertext")?,
        created_at: DateTime::parse_from_rfc3339(&text("created_at")?)
            .map_err(|error| corrupt(error.to_string()))?
            .with_timezone(&Utc),
    })
}

fn unavailable(error: &sqlx::Error) -> SealedError {
    SealedError::Unavailable { cause: error.to_string() }
}
