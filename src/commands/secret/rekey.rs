//! Change the master key: every sealed value is sealed anew under another key, all or none.

use std::path::PathBuf;

use crate::commands::Context;
use crate::commands::error::CommandError;
use crate::secrets::key::{KeySource, MasterKey};

/// Seals everything anew under the key in a file; answers how many values there are. It can be repeated.
pub async fn rekey(context: &Context, new_key_file: PathBuf) -> Result<u64, CommandError> {
    let invalid = |error: crate::secrets::key::KeyError| CommandError::Invalid {
        field: "newKeyFile",
        sentence: error.to_string(),
    };
    let key = MasterKey::load(&KeySource::File(new_key_file)).map_err(invalid)?;
    let id = key.id().to_owned();
    let count = context.secrets.ledger().rekey(key).await?;
    tracing::info!(key = id, count, "the secrets are sealed with another key");
    Ok(count)
}
