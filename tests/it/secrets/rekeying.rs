//! Another key: given by mistake, and changed on purpose.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

/// A file with a fresh key.
fn key_file(folder: &Path, name: &str) -> PathBuf {
    let KeySource::Text(text) = KeySource::random() else { panic!("a random key is a text") };
    let path = folder.join(name);
    std::fs::write(&path, text.expose_secret()).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

fn under(key: &Path) -> SecretSettings {
    SecretSettings { key: Some(KeySource::File(key.to_owned())), ..SecretSettings::default() }
}

#[tokio::test]
async fn a_wrong_key_opens_nothing_seals_nothing_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let first = Safe::on_file(&path, &with_key()).await;
    let secret = first.set("key", "the first value").await.secret_id;
    first.ledger.stop().await;
    let wrong = Safe::on_file(&path, &with_key()).await;
    let error = wrong.read(secret, SecretVersion::Latest).await.expect_err("it is another key").to_string();
    assert!(
        error.contains("it is sealed with key ") && error.contains("give the key that it was sealed with"),
        "{error}"
    );
    let error = wrong.try_set("another", Source::Value("a fine value".to_owned().into())).await.expect_err("mixed");
    assert_eq!(error.code(), "secrets-unavailable");
}

#[tokio::test]
async fn secrets_are_sealed_anew_under_another_key_and_the_old_one_opens_them_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let (old, new) = (key_file(folder.path(), "old"), key_file(folder.path(), "new"));
    let safe = Safe::on_file(&path, &under(&old)).await;
    let secret = safe.set("key", "the first value").await.secret_id;
    safe.set("key", "the second value").await;
    assert_eq!(safe.ledger.rekey_secrets(new.clone()).await, Ok(2));
    assert_eq!(safe.ledger.rekey_secrets(new.clone()).await, Ok(2), "it can be repeated");
    assert_eq!(safe.read(secret, SecretVersion::Number(1)).await.as_deref(), Ok("the first value"));
    safe.set("key", "the third value").await;
    safe.ledger.stop().await;
    let with_old = Safe::on_file(&path, &under(&old)).await;
    assert!(with_old.read(secret, SecretVersion::Latest).await.is_err());
    let error = with_old.ledger.rekey_secrets(key_file(folder.path(), "third")).await.expect_err("it cannot open them");
    assert!(error.to_string().contains("stays as it is: it is sealed with key"), "{error}");
    with_old.ledger.stop().await;
    let with_new = Safe::on_file(&path, &under(&new)).await;
    for (version, value) in [(1, "the first value"), (2, "the second value"), (3, "the third value")] {
        assert_eq!(with_new.read(secret, SecretVersion::Number(version)).await.as_deref(), Ok(value));
    }
    let error = with_new.ledger.rekey_secrets(folder.path().join("missing")).await.expect_err("there is none");
    assert_eq!(error.code(), "invalid-request");
}
