//! Sealed values in memory: for tests, and for the ledger that is gone when its process ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lease_events::id::SecretId;
use uuid::Uuid;

use super::{Reseal, Sealed, SealedError, SealedStore};

/// Sealed values behind one lock.
#[derive(Default)]
pub struct MemorySealed(Mutex<BTreeMap<Uuid, Sealed>>);

impl MemorySealed {
    fn values(&self) -> MutexGuard<'_, BTreeMap<Uuid, Sealed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SealedStore for MemorySealed {
    async fn put(&self, sealed: Sealed) -> Result<(), SealedError> {
        let mut values = self.values();
        if let Some(other) = values.values().find(|other| other.key_id != sealed.key_id) {
            return Err(SealedError::OtherKey { found: other.key_id.clone(), given: sealed.key_id });
        }
        values.insert(sealed.sealed_id, sealed);
        Ok(())
    }

    async fn get(&self, sealed_id: Uuid) -> Result<Option<Sealed>, SealedError> {
        Ok(self.values().get(&sealed_id).cloned())
    }

    async fn all(&self) -> Result<Vec<Sealed>, SealedError> {
        Ok(self.values().values().cloned().collect())
    }

    async fn discard(&self, sealed_id: Uuid) -> Result<(), SealedError> {
        self.values().remove(&sealed_id);
        Ok(())
    }

    async fn discard_secret(&self, secret_id: SecretId) -> Result<(), SealedError> {
        self.values().retain(|_, sealed| sealed.secret_id != secret_id);
        Ok(())
    }

    async fn reseal(&self, mut reseal: Reseal) -> Result<u64, SealedError> {
        let mut values = self.values();
        let mut anew = BTreeMap::new();
        for (id, sealed) in values.iter() {
            anew.insert(*id, reseal(sealed).map_err(|sentence| SealedError::NotResealed { sentence })?);
        }
        *values = anew;
        Ok(values.len() as u64)
    }
}
