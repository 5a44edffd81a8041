//! Sealed values: ciphertexts beside the log, which events name and never hold. A store moves them, and cannot open
//! them.
//!
//! **Invariants:** all values of one ledger are sealed with one key: a value under another key is refused, and a
//! change of the key is one transaction over all of them.

mod memory;
mod postgres;
mod sqlite;

pub use memory::MemorySealed;
pub use postgres::PostgresSealed;
pub use sqlite::SqliteSealed;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::id::{CompanyId, SecretId};
use uuid::Uuid;

/// Bytes of a nonce of XChaCha20-Poly1305.
pub const NONCE_BYTES: usize = 24;

/// One version of a secret, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What the event that adds the version names.
    pub sealed_id: Uuid,
    /// The secret.
    pub secret_id: SecretId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The number of the version.
    pub version: u32,
    /// Which key it is sealed with.
    pub key_id: String,
    /// The nonce.
    pub nonce: [u8; NONCE_BYTES],
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
    /// When it was sealed.
    pub created_at: DateTime<Utc>,
}

/// Seals one value anew, under another key; a sentence where it cannot.
pub type Reseal = Box<dyn FnMut(&Sealed) -> Result<Sealed, String> + Send>;

/// Why a sealed value was not written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// What is there is sealed with another key.
    #[error("the secrets of this ledger are sealed with key {found}, and the key given is {given}")]
    OtherKey {
        /// The key of what is there.
        found: String,
        /// The key of what was to be written.
        given: String,
    },
    /// A value could not be sealed anew; none was.
    #[error("{sentence}")]
    NotResealed {
        /// Why.
        sentence: String,
    },
    /// A stored row makes no sense.
    #[error("table secret_versions, row {sealed_id}: {cause}")]
    Corrupt {
        /// The row.
        sealed_id: String,
        /// Why.
        cause: String,
    },
    /// It may be tried again.
    #[error("the store of sealed values is not available: {cause}")]
    Unavailable {
        /// What the database said.
        cause: String,
    },
}

/// Keeps sealed values. Object-safe; it travels as `Arc<dyn SealedStore>`.
#[async_trait]
pub trait SealedStore: Send + Sync {
    /// Writes one, durably, in the place of what has its id.
    async fn put(&self, sealed: Sealed) -> Result<(), SealedError>;

    /// The one of this id; `None` where there is none.
    async fn get(&self, sealed_id: Uuid) -> Result<Option<Sealed>, SealedError>;

    /// All of them, in the order of their ids.
    async fn all(&self) -> Result<Vec<Sealed>, SealedError>;

    /// Deletes one; that it was not there is no error.
    async fn discard(&self, sealed_id: Uuid) -> Result<(), SealedError>;

    /// Deletes all of a secret; that there was none is no error.
    async fn discard_secret(&self, secret_id: SecretId) -> Result<(), SealedError>;

    /// Seals every value anew, all or none, and answers how many there were.
    async fn reseal(&self, reseal: Reseal) -> Result<u64, SealedError>;
}
