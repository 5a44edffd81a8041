//! How a command finds the server of its store, and how two servers on one store are kept apart.
//!
//! A server holds an advisory lock, and announces its address in a file beside it. Both stand beside the store file,
//! so that whoever names the store finds them, whatever the data folder; a memory store has them in the data folder.
//! **Invariant:** only the lock says that a server lives. An announcement without a held lock is what a killed server
//! left behind, and counts for nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lease_events::id::LedgerId;
use serde::{Deserialize, Serialize};

use super::exit::CliError;
use crate::wiring::{Settings, StoreUrl};

/// How often a server tries to take its lock: a command that looks whether a server lives holds it for a moment.
const LOCK_TRIES_MAX: u32 = 20;
/// The wait between two tries.
const LOCK_WAIT: Duration = Duration::from_millis(25);

/// Where the lock and the announcement of a store's server are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    store: String,
    lock: PathBuf,
    announcement: PathBuf,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Where it listens, such as `http://127.0.0.1:7420`.
    pub url: String,
    /// Where `EventStoreDB` clients read its history, such as `esdb://127.0.0.1:2113?tls=false`, if it lets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub esdb_url: Option<String>,
    /// Its process.
    pub pid: u32,
    /// The store, by its canonical path.
    pub store: String,
    /// The ledger in it.
    pub ledger_id: LedgerId,
    /// Since when.
    pub started_at: DateTime<Utc>,
}

/// The right to be the server of a store, as long as it lives.
#[derive(Debug)]
pub struct ServeLock {
    place: Place,
    _held: File,
}

impl Place {
    /// The place of a store. Links in the path are followed, so that two names of one file are one place.
    ///
    /// That of a ledger on a KurrentDB server is its projections' place. A database has none: any number of processes use it,
    /// and each command opens it itself.
    pub fn of(settings: &Settings) -> Result<Option<Self>, CliError> {
        let store = match &settings.store {
            StoreUrl::Kurrent(_) => &settings.projections,
            store => store,
        };
        let beside = match store {
            StoreUrl::Sqlite(path) => canonical(path)?,
            StoreUrl::Memory => canonical(&settings.data_dir.join("memory"))?,
            StoreUrl::Postgres(_) | StoreUrl::Kurrent(_) => return Ok(None),
        };
        let suffixed = |suffix: &str| {
            let mut path = beside.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        Ok(Some(Self {
            store: beside.display().to_string(),
            lock: suffixed(".serve.lock"),
            announcement: suffixed(".server.json"),
        }))
    }

    /// The server that lives on this store, if one does.
    pub fn server(&self) -> Result<Option<Announcement>, CliError> {
        let Some(announcement) = self.read_announcement() else { return Ok(None) };
        let lock = match File::open(&self.lock) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&self.lock, &error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(announcement).filter(|server| server.store == self.store)),
            Err(TryLockError::Error(error)) => Err(unusable(&self.lock, &error)),
        }
    }

    /// Takes the lock, or says in one sentence who has it.
    pub async fn lock(self) -> Result<ServeLock, CliError> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(|error| unusable(&self.lock, &error))?;
        for _ in 0..LOCK_TRIES_MAX {
            match lock.try_lock() {
                Ok(()) => {
                    // What a killed server left behind names nobody any more.
                    remove(&self.announcement);
                    return Ok(ServeLock { place: self, _held: lock });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_WAIT).await,
                Err(TryLockError::Error(error)) => return Err(unusable(&self.lock, &error)),
            }
        }
        let by = match self.read_announcement() {
            Some(first) => format!("process {} at {}", first.pid, first.url),
            None => "a process that is just starting".to_owned(),
        };
        Err(CliError::Conflict(format!("Store {} is served already, by {by}; one store has one server.", self.store)))
    }

    fn read_announcement(&self) -> Option<Announcement> {
        serde_json::from_slice(&std::fs::read(&self.announcement).ok()?).ok()
    }
}

impl ServeLock {
    /// The store, by its canonical path.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.place.store
    }

    /// Says where the server listens, in one atomic step.
    pub fn announce(&self, announcement: &Announcement) -> Result<(), CliError> {
        let path = &self.place.announcement;
        let fresh = path.with_extension(format!("json.{}", announcement.pid));
        let written = serde_json::to_vec(announcement).map_err(std::io::Error::from).and_then(|text| {
            let mut file = File::create(&fresh)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            std::fs::rename(&fresh, path)
        });
        written.map_err(|error| {
            remove(&fresh);
            unusable(path, &error)
        })
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        remove(&self.place.announcement);
    }
}

/// Removes a file; one that is not there, or cannot be removed, names nobody once the lock is free.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file could not be removed");
    }
}

/// The path with every link followed; the file itself need not be there, its folder is made.
fn canonical(path: &Path) -> Result<PathBuf, CliError> {
    if let Ok(whole) = path.canonicalize() {
        return Ok(whole);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| {
        CliError::Usage(format!("Store {} names no file; give a path such as sqlite:ledger.db.", path.display()))
    })?;
    std::fs::create_dir_all(folder)
        .and_then(|()| folder.canonicalize())
        .map(|folder| folder.join(name))
        .map_err(|error| unusable(folder, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Unavailable(format!("{} cannot be used ({error}).", path.display()))
}
