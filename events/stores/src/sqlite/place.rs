//! Whether the ledger file is still where it was opened: SQLite would go on writing to files that were deleted or moved
//! away, and what it acknowledged there would be gone with the process.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::failure::Fault;

/// `SQLITE_READONLY_DBMOVED`, which SQLite itself gives for this, though not where there is a write-ahead log.
const MOVED: i32 = 1032;

/// Which files a path named when the ledger was opened. They stay the same ones while any connection is open.
#[derive(Debug)]
pub(super) struct Place {
    files: [(PathBuf, Identity); 2],
}

/// A file, whatever it is called: device and inode.
type Identity = (u64, u64);

impl Place {
    /// The ledger file at `path` and its log, as they are now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        // As SQLite does: the log is beside the file itself, not beside a link to it.
        let path = path.canonicalize()?;
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let known = |path: PathBuf| identity(&path).map(|identity| (path, identity));
        Ok(Self { files: [known(path)?, known(log.into())?] })
    }

    /// Refuses where one of them is not there any more, or another file is in its place. One that comes back is taken
    /// again: nothing was written elsewhere meanwhile.
    pub(super) fn check(&self) -> Result<(), Fault> {
        for (path, known) in &self.files {
            let cause = match identity(path) {
                Ok(found) if found == *known => continue,
                Ok(_) => format!("{} is another file than the one that was opened; restart on it", path.display()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    format!("{} is not there any more; put it back, or restart on a backup", path.display())
                }
                Err(error) => format!("{} cannot be looked at: {error}", path.display()),
            };
            return Err(Fault { code: Some(MOVED), cause });
        }
        Ok(())
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
