//! The ledger's own store of secrets: sealed values in its database.
//!
//! A locator is the id of a sealed value; the value is written before the event that names it, so that a version that
//! is announced can be read.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use lease_events::id::SecretId;
use lease_events::seam::Clock;
use lease_events::secret::SecretProviderKind;
use lease_stores::sealed::{Sealed, SealedStore};
use secrecy::SecretString;
use uuid::Uuid;

use super::key::MasterKey;
use super::seal::{open, seal};
use super::{Place, SecretFault, SecretProvider, check_value};

/// Secrets in the ledger's database.
pub struct LedgerSecrets {
    sealed: Arc<dyn SealedStore>,
    clock: Arc<dyn Clock>,
    key: RwLock<Option<Arc<MasterKey>>>,
}

impl LedgerSecrets {
    /// Those in `sealed`, under `key`; without one, nothing is kept and nothing can be read.
    #[must_use]
    pub fn new(sealed: Arc<dyn SealedStore>, clock: Arc<dyn Clock>, key: Option<MasterKey>) -> Self {
        Self { sealed, clock, key: RwLock::new(key.map(Arc::new)) }
    }

    /// Seals every value anew under `new`, all or none, and goes on with it. Answers how many there are. What is
    /// under `new` already stays as it is, so that it can be repeated.
    pub async fn rekey(&self, new: MasterKey) -> Result<u64, SecretFault> {
        let (old, new) = (self.key()?, Arc::new(new));
        let (from, to) = (Arc::clone(&old), Arc::clone(&new));
        let reseal = move |sealed: &Sealed| {
            if sealed.key_id == to.id() {
                return Ok(sealed.clone());
            }
            let place = Place { company_id: sealed.company_id, secret_id: sealed.secret_id, version: sealed.version };
            open(&from, place, sealed)
                .and_then(|value| seal(&to, place, sealed.sealed_id, &value, sealed.created_at))
                .map_err(|fault| {
                    format!("version {} of secret {} stays as it is: {fault}", sealed.version, sealed.secret_id)
                })
        };
        let count = self.sealed.reseal(Box::new(reseal)).await?;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
        Ok(count)
    }

    fn key(&self) -> Result<Arc<MasterKey>, SecretFault> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(SecretFault::NoKey)
    }
}

#[async_trait]
impl SecretProvider for LedgerSecrets {
    fn kind(&self) -> SecretProviderKind {
        SecretProviderKind::Ledger
    }

    async fn keep(&self, place: Place, locator: &str, value: &SecretString) -> Result<(), SecretFault> {
        check_value(value)?;
        let sealed = seal(&*self.key()?, place, sealed_id(locator)?, value, self.clock.now())?;
        Ok(self.sealed.put(sealed).await?)
    }

    async fn read(&self, place: Place, locator: &str) -> Result<SecretString, SecretFault> {
        let key = self.key()?;
        let sealed = self.sealed.get(sealed_id(locator)?).await?;
        let missing = || SecretFault::Missing { clause: "its sealed value is not in the ledger file".to_owned() };
        open(&key, place, &sealed.ok_or_else(missing)?)
    }

    async fn discard(&self, locator: &str) -> Result<(), SecretFault> {
        Ok(self.sealed.discard(sealed_id(locator)?).await?)
    }

    async fn discard_secret(&self, secret_id: SecretId) -> Result<(), SecretFault> {
        Ok(self.sealed.discard_secret(secret_id).await?)
    }
}

fn sealed_id(locator: &str) -> Result<Uuid, SecretFault> {
    Uuid::parse_str(locator).map_err(|_| SecretFault::invalid(format!("\"{locator}\" is no id of a sealed value")))
}
