//! Where the fake provider's records stand: in memory, or in a folder that several processes share.
//!
//! **Invariants:** every change is atomic, under the memory's mutex or the folder's `lock` file; a record on disk is
//! whole, or not there (written aside, then linked or renamed).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, LeaseId, LedgerId, RunId};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// One sandbox, as the fake provider holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thing {
    /// The ledger that it is labelled with.
    pub ledger_id: LedgerId,
    /// The lease that it is labelled with.
    pub lease_id: LeaseId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The run it was made for.
    pub run_id: Option<RunId>,
    /// The attempt that made it.
    pub attempt: u32,
    /// The highest token that it has seen.
    pub fencing_token: u64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its files.
    pub files: BTreeMap<String, String>,
}

/// Why a record was not changed.
#[derive(Debug)]
pub(super) enum ShelfError {
    /// The caller's check refused it.
    Fault(Fault),
    /// The disk did.
    Io(io::Error),
}

impl From<io::Error> for ShelfError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) enum Shelf {
    Memory(Mutex<BTreeMap<LeaseId, Thing>>),
    Disk(PathBuf),
}

impl Shelf {
    pub(super) fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(super) fn on_disk(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self::Disk(folder.to_owned()))
    }

    /// Puts a new record there; `false` where the lease has one already.
    pub(super) fn create(&self, thing: &Thing) -> io::Result<bool> {
        match self {
            Self::Memory(things) => {
                let mut things = things.lock().unwrap_or_else(PoisonError::into_inner);
                if things.contains_key(&thing.lease_id) {
                    return Ok(false);
                }
                things.insert(thing.lease_id, thing.clone());
                Ok(true)
            }
            Self::Disk(folder) => {
                let _lock = lock(folder)?;
                let aside = write_aside(folder, thing)?;
                // A link, unlike a rename, fails where the name is taken.
                let linked = fs::hard_link(&aside, path(folder, thing.lease_id));
                fs::remove_file(&aside)?;
                match linked {
                    Ok(()) => note(folder, "create", thing).map(|()| true),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Changes a record; `None` where there is none. Where `change` refuses, nothing is changed.
    pub(super) fn update<T>(
        &self,
        lease: LeaseId,
        change: impl FnOnce(&mut Thing) -> Result<T, Fault>,
    ) -> Result<Option<T>, ShelfError> {
        match self {
            Self::Memory(things) => {
                let mut things = things.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(thing) = things.get_mut(&lease) else { return Ok(None) };
                let mut changed = thing.clone();
                let value = change(&mut changed).map_err(ShelfError::Fault)?;
                *thing = changed;
                Ok(Some(value))
            }
            Self::Disk(folder) => {
                let _lock = lock(folder)?;
                let Some(before) = read(&path(folder, lease))? else { return Ok(None) };
                let mut thing = before.clone();
                let value = change(&mut thing).map_err(ShelfError::Fault)?;
                if thing != before {
                    fs::rename(write_aside(folder, &thing)?, path(folder, lease))?;
                    note(folder, "update", &thing)?;
                }
                Ok(Some(value))
            }
        }
    }

    /// Removes a record; `None` where there is none.
    pub(super) fn remove(
        &self,
        lease: LeaseId,
        check: impl FnOnce(&Thing) -> Result<(), Fault>,
    ) -> Result<Option<()>, ShelfError> {
        match self {
            Self::Memory(things) => {
                let mut things = things.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(thing) = things.get(&lease) else { return Ok(None) };
                check(thing).map_err(ShelfError::Fault)?;
                things.remove(&lease);
                Ok(Some(()))
            }
            Self::Disk(folder) => {
                let _lock = lock(folder)?;
                let Some(thing) = read(&path(folder, lease))? else { return Ok(None) };
                check(&thing).map_err(ShelfError::Fault)?;
                fs::remove_file(path(folder, lease))?;
                note(folder, "remove", &thing)?;
                Ok(Some(()))
            }
        }
    }

    /// Every record, by lease id.
    pub(super) fn all(&self) -> io::Result<Vec<Thing>> {
        match self {
            Self::Memory(things) => {
                Ok(things.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
            }
            Self::Disk(folder) => {
                let _lock = lock(folder)?;
                let mut things = Vec::new();
                for entry in fs::read_dir(folder)? {
                    let path = entry?.path();
                    if path.extension().is_some_and(|extension| extension == "json") {
                        things.extend(read(&path)?);
                    }
                }
                things.sort_by_key(|thing| thing.lease_id);
                Ok(things)
            }
        }
    }
}

fn path(folder: &Path, lease: LeaseId) -> PathBuf {
    folder.join(format!("{lease}.json"))
}

/// Held until it is dropped, against threads and processes alike.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::create(folder.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<Option<Thing>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a record beside its place. The lock makes the one name enough.
fn write_aside(folder: &Path, thing: &Thing) -> io::Result<PathBuf> {
    let path = folder.join("aside");
    fs::write(&path, serde_json::to_vec(thing)?)?;
    Ok(path)
}

/// Adds a line to the journal: what happened, to what, under which token.
fn note(folder: &Path, what: &str, thing: &Thing) -> io::Result<()> {
    let mut journal = File::options().create(true).append(true).open(folder.join("journal.ndjson"))?;
    let line = json!({ "what": what, "leaseId": thing.lease_id, "fencingToken": thing.fencing_token });
    // One write: whoever is killed in it, or writes beside it, tears no line.
    journal.write_all(format!("{line}\n").as_bytes())
}
