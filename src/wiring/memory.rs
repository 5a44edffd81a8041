//! Ledgers in memory: for trials, and for tests under a simulated clock.

use std::sync::Arc;

use lease_events::id::LedgerId;
use lease_events::seam::{Clock, Ids};
use lease_events::store::EventStore;
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_stores::memory::MemoryStore;
use lease_stores::sealed::MemorySealed;

use super::{OpenError, Parts, Seams, variable};
use crate::drivers::Drivers;
use crate::drivers::secrets::SecretResolver;
use crate::ledger::Ledger;
use crate::secrets::SecretProviders;
use crate::secrets::key::KeySource;
use crate::secrets::settings::SecretSettings;

/// A ledger that is gone when the process ends: for trials, and for tests under a simulated clock. Without a key it
/// seals with one that is gone as well.
pub fn open_in_memory(
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let seams = Seams::of(clock, ids);
    MemoryHome::new(&seams).open(seams, secrets, drivers)
}

/// What a ledger in memory keeps: a ledger that is opened on it again finds everything, as another process would on a
/// disk.
#[derive(Clone)]
pub struct MemoryHome {
    ledger_id: LedgerId,
    store: Arc<MemoryStore>,
    read_model: Arc<MemoryReadModel>,
    sealed: Arc<MemorySealed>,
    key: KeySource,
}

impl MemoryHome {
    /// An empty one.
    #[must_use]
    pub fn new(seams: &Seams) -> Self {
        let projections = MemoryProjections::new_standard();
        let store = MemoryStore::new(Arc::clone(&seams.clock), Some(projections.clone()));
        let read_model = MemoryReadModel::attach(projections, store.clone());
        let ledger_id = LedgerId(seams.ids.fresh());
        Self { ledger_id, store, read_model, sealed: Arc::default(), key: KeySource::random() }
    }

    /// A ledger on it.
    pub fn open(
        &self,
        seams: Seams,
        secrets: &SecretSettings,
        drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
    ) -> Result<Ledger, OpenError> {
        self.open_through(self.store.clone(), seams, secrets, drivers)
    }

    /// The store, to be wrapped for [`Self::open_through`].
    #[must_use]
    pub fn store(&self) -> Arc<dyn EventStore> {
        self.store.clone()
    }

    /// A ledger on it that reads and appends through `store`, which wraps this one's.
    pub fn open_through(
        &self,
        store: Arc<dyn EventStore>,
        seams: Seams,
        secrets: &SecretSettings,
        drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
    ) -> Result<Ledger, OpenError> {
        let key = secrets.key.clone().unwrap_or_else(|| self.key.clone());
        let secrets = SecretSettings { key: Some(key), ..secrets.clone() };
        let (sealed, read_model) = (self.sealed.clone(), self.read_model.clone());
        let secrets = SecretProviders::granted(&secrets, sealed, Arc::clone(&seams.clock), Arc::new(variable))?;
        Parts { ledger_id: self.ledger_id, store, read_model, secrets, seams }.join(drivers)
    }
}
