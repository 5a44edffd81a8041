//! Places for the stores under test.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::EventStore;
use lease_stores::contract::Place;
use lease_stores::memory::MemoryStore;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};

/// A file in a folder of its own, gone with the place.
pub(crate) struct SqlitePlace {
    folder: tempfile::TempDir,
}

impl SqlitePlace {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions { path: self.path(), clock: Arc::new(SystemClock), ids: Arc::new(SystemIds), hook: None }
    }

    pub(crate) async fn store(&self) -> Arc<SqliteStore> {
        SqliteStore::open(self.options()).await.expect("it opens")
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> Arc<dyn EventStore> {
        self.store().await
    }
}

/// Nowhere: each store is a new one.
pub(crate) struct MemoryPlace;

#[async_trait]
impl Place for MemoryPlace {
    async fn open(&self) -> Arc<dyn EventStore> {
        MemoryStore::new(Arc::new(SystemClock), None)
    }
}
