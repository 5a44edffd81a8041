//! Proof of life: a file per process beside the store, locked for as long as the process lives. The system frees the
//! lock however the process ends, so that a lock that can be had proves a death.
//!
//! **Invariants:** the file is locked before the process writes its first intent. A file that is not there proves
//! nothing. Names are never used twice.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// How long the file of a dead owner is kept: far beyond the time at which anything of it counts as lost anyway.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// The owners of one store; this process is one of them while this lives.
#[derive(Debug)]
pub(crate) struct OwnerFiles {
    folder: PathBuf,
    _own: File,
}

impl OwnerFiles {
    /// Declares this process the owner `own`; `folder` is the store's. Old files of the dead are removed.
    pub(crate) fn declare(folder: &Path, own: &str, now: DateTime<Utc>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        remove_old(folder, now);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path(folder, own))?;
        file.lock()?;
        Ok(Self { folder: folder.to_owned(), _own: file })
    }

    /// Whether the process of this name has ended, for certain.
    #[must_use]
    pub(crate) fn is_dead(&self, owner: &str) -> bool {
        is_plain(owner) && File::open(path(&self.folder, owner)).is_ok_and(|file| is_free(&file))
    }
}

fn path(folder: &Path, owner: &str) -> PathBuf {
    folder.join(format!("{owner}.lock"))
}

/// Whether the name, which comes from an event, is a file's name and no path.
fn is_plain(owner: &str) -> bool {
    !owner.is_empty() && owner.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_free(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

/// What cannot be read or removed stays: it only takes room.
fn remove_old(folder: &Path, now: DateTime<Utc>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).map(DateTime::<Utc>::from);
        let is_old = modified.is_ok_and(|at| (now - at).to_std().is_ok_and(|age| age > KEPT));
        if is_old && File::open(entry.path()).is_ok_and(|file| is_free(&file)) {
            // Another process may have removed it first.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_dead_once_its_lock_is_free_and_not_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let now = DateTime::UNIX_EPOCH;
        let first = OwnerFiles::declare(folder.path(), "1-a", now).expect("declared");
        let second = OwnerFiles::declare(folder.path(), "2-b", now).expect("declared");
        assert!(!second.is_dead("1-a") && !second.is_dead("2-b"));
        assert!(!second.is_dead("3-c") && !second.is_dead("../1-a"), "what is not there proves nothing");
        drop(first);
        assert!(second.is_dead("1-a"));
        let later = now + chrono::TimeDelta::days(365_000);
        drop(second);
        let third = OwnerFiles::declare(folder.path(), "4-d", later).expect("declared");
        assert!(!third.is_dead("1-a"), "its file is gone after so long");
    }
}
