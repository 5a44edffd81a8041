//! Secrets in files below a folder that the operator grants.
//!
//! **Invariant:** a company reads only below its own folder, `FOLDER/COMPANY_ID`. The kernel confines the look-up to
//! it (`openat2` with `RESOLVE_BENEATH`): neither `..`, nor a link that leads out, nor a swap in the middle escapes. A
//! link that stays below is followed, since mounted secrets are links.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use lease_events::id::SecretId;
use lease_events::secret::SecretProviderKind;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use secrecy::SecretString;
use secrecy::zeroize::{Zeroize, Zeroizing};

use super::{Place, SecretFault, SecretProvider, VALUE_BYTES_MAX, check_value};

/// Longest path of a file below its folder, in bytes.
const PATH_BYTES_MAX: usize = 500;
/// How often a look-up is tried that a rename somewhere in the system has disturbed.
const DISTURBED_MAX: u32 = 16;

/// Secrets in files.
pub struct FileSecrets {
    folder: Option<PathBuf>,
}

impl FileSecrets {
    /// Those below `folder`; without one, none can be read.
    #[must_use]
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }
}

#[async_trait]
impl SecretProvider for FileSecrets {
    fn kind(&self) -> SecretProviderKind {
        SecretProviderKind::File
    }

    async fn keep(&self, _: Place, _: &str, _: &SecretString) -> Result<(), SecretFault> {
        Err(SecretFault::invalid("the ledger writes no secret files; write the file, then name it"))
    }

    async fn read(&self, place: Place, locator: &str) -> Result<SecretString, SecretFault> {
        check_path(locator)?;
        let Some(folder) = &self.folder else {
            return Err(SecretFault::Missing {
                clause: format!("no folder of secrets is granted; name one in {}", super::settings::FOLDER_VARIABLE),
            });
        };
        let (folder, locator) = (folder.join(place.company_id.to_string()), locator.to_owned());
        let read = tokio::task::spawn_blocking(move || read_beneath(&folder, &locator)).await;
        let value = read.map_err(|error| SecretFault::Unavailable { clause: error.to_string() })??;
        check_value(&value)?;
        Ok(value)
    }

    async fn discard(&self, _: &str) -> Result<(), SecretFault> {
        Ok(())
    }

    async fn discard_secret(&self, _: SecretId) -> Result<(), SecretFault> {
        Ok(())
    }
}

/// A relative path of plain names. The kernel holds the same; this says it in a sentence, and before the file is
/// needed.
fn check_path(path: &str) -> Result<(), SecretFault> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && (1..=PATH_BYTES_MAX).contains(&path.len()) && !path.contains('\0') {
        return Ok(());
    }
    Err(SecretFault::invalid(format!(
        "a secret file is named by its path below the company's folder, of 1 to {PATH_BYTES_MAX} bytes and without \
         \"..\", such as deploy/key"
    )))
}

fn read_beneath(folder: &Path, path: &str) -> Result<SecretString, SecretFault> {
    let mut file = open_beneath(folder, path).map_err(|errno| explain(folder, path, errno))?;
    let unreadable = |error: &std::io::Error| SecretFault::Unavailable {
        clause: format!("the file {} cannot be read ({error})", folder.join(path).display()),
    };
    let found = file.metadata().map_err(|error| unreadable(&error))?;
    if !found.is_file() {
        let clause = format!("{} is no regular file", folder.join(path).display());
        return Err(SecretFault::invalid(clause));
    }
    // One byte more than is taken, so that a longer file is seen; all room at once, so that no copy is left behind.
    let mut bytes = Zeroizing::new(vec![0; VALUE_BYTES_MAX + 1]);
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    match String::from_utf8(bytes[..filled].to_vec()) {
        Ok(value) => Ok(value.into()),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(SecretFault::invalid(format!("the file {} is not UTF-8", folder.join(path).display())))
        }
    }
}

fn open_beneath(folder: &Path, path: &str) -> Result<File, Errno> {
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Without blocking: a pipe that nobody writes to would hold the thread for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..DISTURBED_MAX {
        match openat2(&folder, path, flags, Mode::empty(), confined) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened.map(File::from),
        }
    }
    openat2(&folder, path, flags, Mode::empty(), confined).map(File::from)
}

fn explain(folder: &Path, path: &str, errno: Errno) -> SecretFault {
    let shown = folder.join(path).display().to_string();
    match errno {
        Errno::NOENT | Errno::NOTDIR => SecretFault::Missing { clause: format!("there is no file {shown}") },
        Errno::XDEV | Errno::LOOP => {
            SecretFault::invalid(format!("{shown} leads out of {}; give a file below it", folder.display()))
        }
        Errno::NOSYS => SecretFault::Unavailable {
            clause: "this system cannot confine a look-up to a folder (openat2, Linux 5.6)".to_owned(),
        },
        errno => SecretFault::Unavailable { clause: format!("the file {shown} cannot be opened ({errno})") },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use lease_events::id::CompanyId;
    use secrecy::ExposeSecret;

    use super::*;

    struct Granted {
        root: tempfile::TempDir,
        secrets: FileSecrets,
    }

    fn place(company: &str) -> Place {
        Place { company_id: CompanyId::derived(&[company]), secret_id: SecretId::derived(&["x"]), version: 1 }
    }

    impl Granted {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            let secrets = FileSecrets::new(Some(root.path().join("granted")));
            let granted = Self { root, secrets };
            fs::create_dir_all(granted.own().join("deep")).expect("folders");
            fs::write(granted.root.path().join("outside"), "an outside value").expect("a file");
            granted
        }

        fn own(&self) -> PathBuf {
            self.root.path().join("granted").join(place("own").company_id.to_string())
        }

        async fn read(&self, path: &str) -> Result<String, SecretFault> {
            self.secrets.read(place("own"), path).await.map(|value| value.expose_secret().to_owned())
        }
    }

    #[tokio::test]
    async fn a_file_is_read_as_it_is_also_through_a_link_that_stays_below() {
        let granted = Granted::new();
        fs::write(granted.own().join("deep/key"), "correct horse\n").expect("a file");
        symlink("deep/key", granted.own().join("link")).expect("a link");
        assert_eq!(granted.read("deep/key").await.as_deref(), Ok("correct horse\n"));
        assert_eq!(granted.read("link").await.as_deref(), Ok("correct horse\n"));
        let other = granted.secrets.read(place("other"), "deep/key").await.expect_err("it is another's");
        assert!(matches!(other, SecretFault::Missing { .. }), "{other}");
    }

    #[tokio::test]
    async fn nothing_leads_out() {
        let granted = Granted::new();
        symlink("../../outside", granted.own().join("up")).expect("a link");
        symlink(granted.root.path().join("outside"), granted.own().join("away")).expect("a link");
        symlink("../..", granted.own().join("folder")).expect("a link");
        symlink("/proc/self/root", granted.own().join("magic")).expect("a link");
        for path in ["up", "away", "folder/outside", "magic/etc/passwd"] {
            let fault = granted.read(path).await.expect_err(path);
            assert!(fault.to_string().contains("leads out of"), "{path}: {fault}");
        }
        for path in ["../../outside", "/etc/passwd", "deep/../../x", "", ".", "a\0b", &"a/".repeat(400)] {
            let fault = granted.read(path).await.expect_err(path);
            assert!(matches!(fault, SecretFault::Invalid { .. }), "{path}: {fault}");
        }
    }

    #[tokio::test]
    async fn what_is_no_text_file_of_a_fit_size_is_refused() {
        let granted = Granted::new();
        fs::write(granted.own().join("long"), "x".repeat(VALUE_BYTES_MAX + 1)).expect("a file");
        fs::write(granted.own().join("short"), "x".repeat(7)).expect("a file");
        fs::write(granted.own().join("bytes"), [0xff; 32]).expect("a file");
        let pipe = granted.own().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        for (path, words) in [
            ("long", "a secret has from 8 to 65536 bytes"),
            ("short", "a secret has from 8 to 65536 bytes"),
            ("bytes", "is not UTF-8"),
            ("deep", "is no regular file"),
            ("pipe", "is no regular file"),
            ("missing", "there is no file"),
            ("deep/missing/x", "there is no file"),
        ] {
            let fault = granted.read(path).await.expect_err(path).to_string();
            assert!(fault.contains(words), "{path}: {fault}");
        }
        let none = FileSecrets::new(None).read(place("own"), "key").await.expect_err("no folder").to_string();
        assert!(none.starts_with("no folder of secrets is granted"), "{none}");
    }
}
