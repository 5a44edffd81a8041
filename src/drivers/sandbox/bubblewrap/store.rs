//! The sandboxes on disk: one folder a lease, with its label, its workspace and what runs in it.
//!
//! ```text
//! ROOT/LEASE-ID/label.json              who it belongs to, and the highest fencing token it has seen
//! ROOT/LEASE-ID/lock                    held while the label is changed
//! ROOT/LEASE-ID/use                     held, shared, while a command runs; alone, while the sandbox is removed
//! ROOT/LEASE-ID/executions/PID-STARTED  a running command's first process
//! ROOT/LEASE-ID/workspace/              the only part that a sandbox sees
//! ROOT/.making-*  ROOT/.trash-*         not yet, and no longer, a sandbox
//! ```
//! **Invariants:** a sandbox is there, whole and durable, or not at all: it is made aside and renamed in, renamed out and
//! then deleted. No name is ever built from anything but a lease id. Nothing follows a link out of the root. Several
//! processes may work on one root.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::super::{not_ours, stale_token};
use crate::processes::proc::{self, ProcessId};

/// Longest wait for the commands of a sandbox to die before it is kept or removed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at whether they have died.
const STOP_PAUSE: Duration = Duration::from_millis(5);
/// How old a half-made folder must be before it counts as left behind by a crash: far longer than making one takes.
const MAKING_SECONDS_MAX: i64 = 3_600;

/// What a sandbox's folder says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Label {
    pub(super) ledger_id: LedgerId,
    pub(super) lease_id: LeaseId,
    pub(super) company_id: CompanyId,
    pub(super) environment_id: EnvironmentId,
    pub(super) run_id: Option<RunId>,
    pub(super) attempt: u32,
    pub(super) created_at: DateTime<Utc>,
    /// The highest token under which it was worked on.
    pub(super) fencing_token: u64,
    /// SHA-256 of the config it was made with, in hexadecimal.
    pub(super) config_digest: String,
}

/// Who works on a sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) ledger_id: LedgerId,
    pub(super) fencing_token: u64,
}

/// Why something was not done on disk.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The holder may not.
    Refused(Fault),
    /// What runs in the sandbox would not die in time.
    Busy,
    /// The disk would not.
    Io(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A root folder.
pub(super) struct Store {
    root: PathBuf,
    /// Makes names of this process unique.
    names: AtomicU64,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, names: AtomicU64::new(0) }
    }

    /// Makes the root where it is not there, and shows that it can be written to.
    pub(super) fn check_root(&self) -> io::Result<()> {
        self.make_root()?;
        let probe = self.aside("probe", "root");
        File::create(&probe)?;
        fs::remove_file(probe)
    }

    /// Makes a sandbox, its workspace owned by `owner`; `false` where the lease has one already.
    pub(super) fn create(&self, label: &Label, owner: Option<u32>) -> io::Result<bool> {
        self.make_root()?;
        self.sweep(label.created_at);
        let lease = label.lease_id.to_string();
        let aside = self.aside("making", &lease);
        private_folder(&aside)?;
        private_folder(&aside.join("executions"))?;
        private_folder(&aside.join("workspace"))?;
        if let Some(owner) = owner {
            chown(aside.join("workspace"), Some(owner), Some(owner))?;
        }
        File::create(aside.join("lock"))?;
        File::create(aside.join("use"))?;
        write_label(&aside, label)?;
        // A folder that is there has files in it, so the rename fails and the first one stays.
        match fs::rename(&aside, self.root.join(&lease)) {
            Ok(()) => sync_folder(&self.root).map(|()| true),
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {
                remove_tree(&aside).map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at a sandbox's label and token, and notes the holder's. `None` where there is no such sandbox.
    pub(super) fn hold(&self, lease: LeaseId, holder: Holder) -> Result<Option<Label>, StoreError> {
        let Some((folder, lock)) = self.open(lease, "lock")? else { return Ok(None) };
        lock.lock()?;
        if !is_still(&folder, "lock", &lock)? {
            return Ok(None);
        }
        let mut label = read_label(&folder)?;
        if label.ledger_id != holder.ledger_id {
            return Err(StoreError::Refused(not_ours(&format!("Sandbox {lease}"))));
        }
        if holder.fencing_token < label.fencing_token {
            return Err(StoreError::Refused(stale_token(holder.fencing_token, label.fencing_token)));
        }
        if holder.fencing_token > label.fencing_token {
            label.fencing_token = holder.fencing_token;
            write_label(&folder, &label)?;
        }
        Ok(Some(label))
    }

    /// Kills whatever runs in a sandbox, and waits for it. `None` where there is no such sandbox.
    pub(super) fn stop(&self, lease: LeaseId, holder: Holder) -> Result<Option<File>, StoreError> {
        if self.hold(lease, holder)?.is_none() {
            return Ok(None);
        }
        let Some((folder, file)) = self.open(lease, "use")? else { return Ok(None) };
        let started = Instant::now();
        loop {
            kill_executions(&folder)?;
            if file.try_lock().is_ok() {
                return Ok(is_still(&folder, "use", &file)?.then_some(file));
            }
            if started.elapsed() > STOP_MAX {
                return Err(StoreError::Busy);
            }
            std::thread::sleep(STOP_PAUSE);
        }
    }

    /// Removes a sandbox with all that runs in it; `false` where nothing of it was there.
    pub(super) fn remove(&self, lease: LeaseId, holder: Holder) -> Result<bool, StoreError> {
        // Held until the folder is out of sight, so that no command can start in between.
        let stopped = self.stop(lease, holder)?;
        let name = lease.to_string();
        if stopped.is_some() {
            fs::rename(self.root.join(&name), self.aside("trash", &name))?;
            sync_folder(&self.root)?;
        }
        // Also what an earlier attempt could not delete: only a lease without any trash is gone.
        let trash = self.entries(&format!(".trash-{name}-"))?;
        for path in &trash {
            remove_tree(path)?;
        }
        Ok(stopped.is_some() || !trash.is_empty())
    }

    /// Keeps a sandbox from being removed while a command runs in it, for as long as the file is open.
    pub(super) fn begin(&self, lease: LeaseId, holder: Holder) -> Result<Option<Running>, StoreError> {
        let Some((folder, file)) = self.open(lease, "use")? else { return Ok(None) };
        if file.try_lock_shared().is_err() {
            return Err(StoreError::Busy);
        }
        if !is_still(&folder, "use", &file)? || self.hold(lease, holder)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Running { folder, note: None, _using: file }))
    }

    /// Every label under the root; a folder that is no sandbox is passed over.
    pub(super) fn all(&self) -> io::Result<Vec<Label>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut labels = Vec::new();
        for entry in entries {
            let entry = entry?;
            let named = entry.file_name().to_str().is_some_and(|name| name.parse::<LeaseId>().is_ok());
            if named && entry.file_type()?.is_dir() {
                match read_label(&entry.path()) {
                    Ok(label) => labels.push(label),
                    // Removed between the listing and the look.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        labels.sort_by_key(|label| label.lease_id);
        Ok(labels)
    }

    fn make_root(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)
    }

    fn aside(&self, what: &str, name: &str) -> PathBuf {
        let (process, number) = (std::process::id(), self.names.fetch_add(1, Ordering::Relaxed));
        self.root.join(format!(".{what}-{name}-{process}-{number}"))
    }

    fn entries(&self, prefix: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Removes what crashes left. What cannot be removed now is tried again at the next opportunity.
    fn sweep(&self, now: DateTime<Utc>) {
        let trash = self.entries(".trash-").unwrap_or_default();
        let making = self.entries(".making-").unwrap_or_default().into_iter().filter(|path| {
            let made = fs::symlink_metadata(path).map_or(i64::MAX, |metadata| metadata.mtime());
            now.timestamp().saturating_sub(made) > MAKING_SECONDS_MAX
        });
        for path in trash.into_iter().chain(making) {
            let _ = remove_tree(&path);
        }
    }

    /// A sandbox's folder, and one of its lock files.
    fn open(&self, lease: LeaseId, file: &str) -> io::Result<Option<(PathBuf, File)>> {
        let folder = self.root.join(lease.to_string());
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(io::Error::other(format!("{lease} is no folder")));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match File::open(folder.join(file)) {
            Ok(file) => Ok(Some((folder, file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A command that runs in a sandbox: as long as this lives, the sandbox is not removed.
pub(super) struct Running {
    folder: PathBuf,
    note: Option<PathBuf>,
    _using: File,
}

impl Running {
    pub(super) fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    /// Notes the command's first process, so that whoever removes the sandbox can kill it.
    pub(super) fn note(&mut self, first: ProcessId) -> io::Result<()> {
        let path = self.folder.join("executions").join(format!("{}-{}", first.pid, first.started));
        File::create(&path)?;
        self.note = Some(path);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(note) = &self.note {
            // A note that stays names a process that is over, and is passed over.
            let _ = fs::remove_file(note);
        }
    }
}

/// Whether the lock file that was opened is the one that is there: the folder may have been removed and made anew.
fn is_still(folder: &Path, name: &str, file: &File) -> io::Result<bool> {
    match fs::metadata(folder.join(name)) {
        Ok(now) => Ok(now.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn kill_executions(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder.join("executions")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('-'));
        if let Some((Ok(pid), Ok(started))) = parts.map(|(pid, started)| (pid.parse(), started.parse())) {
            // With its first process the whole PID namespace dies. Any other process is none of ours, whatever a note says.
            if proc::is_namespace_init(pid) {
                proc::signal(ProcessId { pid, started }, Signal::KILL);
            }
        }
    }
    Ok(())
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn read_label(folder: &Path) -> io::Result<Label> {
    Ok(serde_json::from_slice(&fs::read(folder.join("label.json"))?)?)
}

/// Replaces the label, durably.
fn write_label(folder: &Path, label: &Label) -> io::Result<()> {
    let aside = folder.join("label.json.new");
    let mut file = File::create(&aside)?;
    file.write_all(&serde_json::to_vec_pretty(label)?)?;
    file.sync_all()?;
    fs::rename(&aside, folder.join("label.json"))?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Deletes a folder, even one in which a command has taken the write bit from its own folders.
fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    };
    match removed {
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Nothing runs in the sandbox any more, so that no name can be swapped for a link between the look and the change.
fn open_up(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(path)? {
            open_up(&entry?.path())?;
        }
    }
    Ok(())
}
