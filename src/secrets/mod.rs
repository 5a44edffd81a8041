//! Where secret values are kept: providers behind one port, and what keeps values out of everything else.
//!
//! **Invariants**
//! - A value is only ever in memory, in a `SecretString`, and zeroed when it is dropped; on disk it is sealed.
//! - No sentence of this module says anything of a value, and none quotes what was read.
//! - Nothing here knows an event or a command: who may read what, and that it is recorded, is decided above.

pub mod environment;
pub mod fields;
pub mod file;
pub mod key;
pub mod ledger;
pub mod process;
pub mod redact;
pub mod seal;
pub mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lease_events::failure::FailureClass;
use lease_events::id::{CompanyId, SecretId};
use lease_events::seam::Clock;
use lease_events::secret::SecretProviderKind;
use lease_stores::sealed::{SealedError, SealedStore};
use secrecy::{ExposeSecret, SecretString};

use environment::{EnvironmentSecrets, Lookup};
use file::FileSecrets;
use key::{KeyError, MasterKey};
use ledger::LedgerSecrets;
use settings::SecretSettings;

/// Fewest bytes of a value: a shorter one can be guessed, and could not be told from other text when it is to be kept
/// out of records.
pub const VALUE_BYTES_MIN: usize = 8;
/// Most bytes of a value: room for a bundle of certificates or a kubeconfig.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// One version of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The tenant.
    pub company_id: CompanyId,
    /// The secret.
    pub secret_id: SecretId,
    /// The number of the version, from 1.
    pub version: u32,
}

/// Why a value could not be kept or read: a clause for the middle of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The value or its place breaks a rule.
    #[error("{clause}")]
    Invalid {
        /// What was wrong and what would be right.
        clause: String,
    },
    /// The ledger's own store was given no key.
    #[error(
        "the ledger has no key to seal secrets with; make one with `umask 077; head -c 32 /dev/urandom | base64 > KEY` \
         and name it in {}",
        key::KEY_FILE_VARIABLE
    )]
    NoKey,
    /// It is sealed with another key than the one given.
    #[error("it is sealed with key {found}, and the key given is {given}; give the key that it was sealed with")]
    OtherKey {
        /// The id of the key that it is sealed with.
        found: String,
        /// The id of the key given.
        given: String,
    },
    /// The ciphertext, or what is authenticated with it, is not what was written.
    #[error("its sealed value was changed after it was written; restore the ledger file, or set the secret anew")]
    Tampered,
    /// There is nothing at its place.
    #[error("{clause}")]
    Missing {
        /// What is not there.
        clause: String,
    },
    /// It may be tried again.
    #[error("{clause}")]
    Unavailable {
        /// What was seen.
        clause: String,
    },
}

impl SecretFault {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Invalid { .. } | Self::Missing { .. } => FailureClass::Invalid,
            Self::NoKey | Self::OtherKey { .. } | Self::Unavailable { .. } => FailureClass::Unavailable,
            Self::Tampered => FailureClass::Internal,
        }
    }

    fn invalid(clause: impl Into<String>) -> Self {
        Self::Invalid { clause: clause.into() }
    }
}

impl From<SealedError> for SecretFault {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::OtherKey { found, given } => Self::OtherKey { found, given },
            error @ (SealedError::NotResealed { .. }
            | SealedError::Corrupt { .. }
            | SealedError::Unavailable { .. }) => Self::Unavailable { clause: error.to_string() },
        }
    }
}

/// Keeps or finds secret values. Object-safe; it travels as `Arc<dyn SecretProvider>`.
#[async_trait]
pub trait SecretProvider: Send + Sync {
    /// Which one it is, as events name it.
    fn kind(&self) -> SecretProviderKind;

    /// Keeps a value durably under `locator`. A provider that only finds what the operator put elsewhere refuses.
    async fn keep(&self, place: Place, locator: &str, value: &SecretString) -> Result<(), SecretFault>;

    /// The value of a version.
    async fn read(&self, place: Place, locator: &str) -> Result<SecretString, SecretFault>;

    /// Forgets one version, where the provider keeps it itself.
    async fn discard(&self, locator: &str) -> Result<(), SecretFault>;

    /// Forgets all versions of a secret, where the provider keeps them itself.
    async fn discard_secret(&self, secret_id: SecretId) -> Result<(), SecretFault>;
}

/// The providers, by kind. Cheap to clone.
#[derive(Clone)]
pub struct SecretProviders {
    ledger: Arc<LedgerSecrets>,
    by_kind: Arc<BTreeMap<SecretProviderKind, Arc<dyn SecretProvider>>>,
}

impl SecretProviders {
    /// The ledger's own, and these others.
    #[must_use]
    pub fn new(ledger: LedgerSecrets, others: impl IntoIterator<Item = Arc<dyn SecretProvider>>) -> Self {
        let ledger = Arc::new(ledger);
        let own = Arc::clone(&ledger) as Arc<dyn SecretProvider>;
        let all = others.into_iter().chain([own]).map(|provider| (provider.kind(), provider));
        Self { ledger, by_kind: Arc::new(all.collect()) }
    }

    /// Those that the operator grants: the ledger's own over `sealed`, the variables that `lookup` finds, and files.
    pub fn granted(
        settings: &SecretSettings,
        sealed: Arc<dyn SealedStore>,
        clock: Arc<dyn Clock>,
        lookup: Lookup,
    ) -> Result<Self, KeyError> {
        let key = settings.key.as_ref().map(MasterKey::load).transpose()?;
        let variables = EnvironmentSecrets::new(settings.prefix.clone(), lookup);
        let files = FileSecrets::new(settings.folder.clone());
        let others: [Arc<dyn SecretProvider>; 2] = [Arc::new(variables), Arc::new(files)];
        Ok(Self::new(LedgerSecrets::new(sealed, clock, key), others))
    }

    /// The provider of this kind.
    pub fn get(&self, kind: SecretProviderKind) -> Result<&Arc<dyn SecretProvider>, SecretFault> {
        let missing = || SecretFault::invalid(format!("this ledger has no secret provider \"{}\"", kind.as_str()));
        self.by_kind.get(&kind).ok_or_else(missing)
    }

    /// The ledger's own.
    #[must_use]
    pub fn ledger(&self) -> &LedgerSecrets {
        &self.ledger
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn SecretProvider>> {
        self.by_kind.values()
    }
}

/// Whether a value has a length that is taken.
pub fn check_value(value: &SecretString) -> Result<(), SecretFault> {
    let bytes = value.expose_secret().len();
    if (VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(SecretFault::invalid(format!("a secret has from {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} bytes")))
}
