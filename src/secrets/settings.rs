//! What the operator grants: the key, the variables and the folder, all named by variables of the ledger's process.

use std::ffi::OsString;
use std::path::PathBuf;

use super::environment::PREFIX_DEFAULT;
use super::key::{KEY_FILE_VARIABLE, KEY_VARIABLE, KeyError, KeySource};

/// Names the folder below which secret files may be read.
pub const FOLDER_VARIABLE: &str = "LEASE_LEDGER_SECRET_DIR";
/// Changes the beginning of the variables that may be read as secrets.
pub const PREFIX_VARIABLE: &str = "LEASE_LEDGER_SECRET_PREFIX";

/// Where secrets come from.
#[derive(Debug, Clone)]
pub struct SecretSettings {
    /// The key of the ledger's own store; without one, that store keeps nothing.
    pub key: Option<KeySource>,
    /// The beginning of the variables that may be read.
    pub prefix: String,
    /// The folder below which files may be read; without one, none may.
    pub folder: Option<PathBuf>,
}

impl Default for SecretSettings {
    fn default() -> Self {
        Self { key: None, prefix: PREFIX_DEFAULT.to_owned(), folder: None }
    }
}

impl SecretSettings {
    /// What the variables say that `lookup` finds; one that is empty says nothing.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, KeyError> {
        let given = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let key = match (given(KEY_VARIABLE), given(KEY_FILE_VARIABLE)) {
            (Some(_), Some(_)) => return Err(KeyError::Ambiguous),
            (Some(text), None) => {
                let malformed = |_| KeyError::Malformed { origin: KEY_VARIABLE.to_owned() };
                Some(KeySource::Text(text.into_string().map_err(malformed)?.into()))
            }
            (None, path) => path.map(|path| KeySource::File(path.into())),
        };
        let prefix = given(PREFIX_VARIABLE).and_then(|prefix| prefix.into_string().ok());
        let prefix = prefix.unwrap_or_else(|| PREFIX_DEFAULT.to_owned());
        Ok(Self { key, prefix, folder: given(FOLDER_VARIABLE).map(PathBuf::from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<SecretSettings, KeyError> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        SecretSettings::from_variables(find)
    }

    #[test]
    fn the_variables_say_what_is_granted() {
        let nothing = settings(&[(KEY_VARIABLE, "")]).expect("nothing is wrong");
        assert!(nothing.key.is_none() && nothing.folder.is_none() && nothing.prefix == "LEASE_SECRET_");
        let all = settings(&[(KEY_FILE_VARIABLE, "/k"), (FOLDER_VARIABLE, "/s"), (PREFIX_VARIABLE, "X_")]);
        let all = all.expect("nothing is wrong");
        assert!(matches!(all.key, Some(KeySource::File(path)) if path.as_os_str() == "/k"));
        assert_eq!((all.prefix.as_str(), all.folder), ("X_", Some("/s".into())));
        let both = settings(&[(KEY_VARIABLE, "c2VjcmV0"), (KEY_FILE_VARIABLE, "/k")]).expect_err("two keys");
        assert!(both.to_string().ends_with("are set; set one of them."), "{both}");
        let shown = format!("{:?}", settings(&[(KEY_VARIABLE, "c2VjcmV0")]).expect("it is not read yet"));
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }
}
