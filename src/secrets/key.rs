//! The master key: 32 random bytes that seal every value in the ledger's own store.
//!
//! **Invariants:** it is read from a file that only its owner can read, or from the environment; it is never written,
//! shown or logged. Its id tells keys apart and says nothing else of them.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Generate, Key};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use data_encoding::HEXLOWER;
use secrecy::zeroize::{Zeroize, Zeroizing};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The variable that holds the key itself, in base64.
pub const KEY_VARIABLE: &str = "LEASE_LEDGER_SECRET_KEY";
/// The variable that names the file of the key.
pub const KEY_FILE_VARIABLE: &str = "LEASE_LEDGER_SECRET_KEY_FILE";

/// Bytes of a key's id: enough that two keys of one ledger never have the same.
const ID_BYTES: usize = 8;
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Most bytes that are read of a key file: the 44 of base64, and blank space around them.
const KEY_FILE_BYTES_MAX: u64 = 256;
/// The bits of a file's mode that let others than its owner at it.
const OTHERS: u32 = 0o077;

/// Where the key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// The key itself, in base64.
    Text(SecretString),
    /// The file that holds it, in base64; nobody but its owner may read it.
    File(PathBuf),
}

impl KeySource {
    /// A fresh key, for a ledger that is gone when its process ends.
    #[must_use]
    pub fn random() -> Self {
        let mut key = Key::<XChaCha20Poly1305>::generate();
        let text = STANDARD.encode(key);
        key.zeroize();
        Self::Text(text.into())
    }
}

/// Why there is no key, though one was named. Never quotes what was read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("The key file {} cannot be read: {cause}.", .path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("The key file {} is no regular file.", .path.display())]
    NoFile {
        /// As given.
        path: PathBuf,
    },
    /// Others than its owner can read it.
    #[error("The key file {} has mode {mode:04o}, so others can read it; run `chmod 600` on it.", .path.display())]
    Exposed {
        /// As given.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no key.
    #[error("{} holds no key: it must be {KEY_BYTES} bytes in base64, such as `head -c 32 /dev/urandom | base64` makes.", .origin)]
    Malformed {
        /// The file or variable.
        origin: String,
    },
    /// Two keys are given.
    #[error("Both {KEY_VARIABLE} and {KEY_FILE_VARIABLE} are set; set one of them.")]
    Ambiguous,
}

/// A key.
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: String,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MasterKey({})", self.id)
    }
}

impl MasterKey {
    /// The key that `source` names.
    pub fn load(source: &KeySource) -> Result<Self, KeyError> {
        match source {
            KeySource::Text(text) => Self::parse(text.expose_secret(), KEY_VARIABLE),
            KeySource::File(path) => Self::read(path),
        }
    }

    /// What tells this key from others: 16 hex digits of a digest of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The cipher under this key; it zeroes its copy when it is dropped.
    pub(super) fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |cause| KeyError::Unreadable { path: path.to_owned(), cause };
        // Looked at before it is opened, so that a pipe does not block, and again as opened, so that it is that file.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(KeyError::NoFile { path: path.to_owned() });
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            return Err(KeyError::NoFile { path: path.to_owned() });
        }
        if found.mode() & OTHERS != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode: found.mode() & 0o7777 });
        }
        let mut text = Zeroizing::new(String::new());
        let origin = path.display().to_string();
        match file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => Self::parse(&text, &origin),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(KeyError::Malformed { origin }),
            Err(cause) => Err(unreadable(cause)),
        }
    }

    fn parse(text: &str, origin: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { origin: origin.to_owned() };
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| malformed())?);
        let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().map_err(|_| malformed())?;
        Ok(Self::of(Zeroizing::new(bytes)))
    }

    fn of(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest = Sha256::new().chain_update(b"lease-ledger secret key id").chain_update(*bytes).finalize();
        Self { bytes, id: HEXLOWER.encode(&digest[..ID_BYTES]) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, text).expect("it can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode can be set");
        (folder, path)
    }

    #[test]
    fn a_key_is_the_same_from_a_file_and_from_the_environment() {
        let text = STANDARD.encode([7; KEY_BYTES]);
        let (_folder, path) = file(format!("{text}\n").as_bytes(), 0o600);
        let from_file = MasterKey::load(&KeySource::File(path)).expect("it is a key");
        let given = MasterKey::load(&KeySource::Text(text.into())).expect("it is a key");
        assert_eq!(from_file.id(), given.id());
        let random = || MasterKey::load(&KeySource::random()).expect("it is a key");
        assert_ne!(random().id(), random().id());
        assert_eq!(format!("{given:?}"), format!("MasterKey({})", given.id()));
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let (_folder, path) = file(STANDARD.encode([7; KEY_BYTES]).as_bytes(), mode);
            let error = MasterKey::load(&KeySource::File(path)).expect_err("it is exposed").to_string();
            assert!(error.contains(&format!("has mode {mode:04o}, so others can read it; run `chmod 600`")), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_named_and_not_quoted() {
        for text in [&b"hunter2hunter2"[..], &[0xff, 0xfe], b"", STANDARD.encode([1; 31]).as_bytes()] {
            let (_folder, path) = file(text, 0o600);
            let error = MasterKey::load(&KeySource::File(path.clone())).expect_err("it is no key").to_string();
            assert!(error.starts_with(&format!("{} holds no key: it must be 32 bytes", path.display())), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let error = MasterKey::load(&KeySource::File(folder.path().into())).expect_err("a folder").to_string();
        assert!(error.ends_with("is no regular file."), "{error}");
    }
}
