//! Set, rotate, remove, list.

use lease_events::secret::{SecretProviderKind, SecretStatus};
use lease_ledger::commands::secret::remove::RemoveSecret;
use lease_ledger::commands::secret::rotate::RotateSecret;
use lease_projections::read_model::SecretFilter;

use super::*;

fn rotation(secret_id: SecretId, value: &str) -> RotateSecret {
    RotateSecret { company_id: company(), secret_id, source: Source::Value(value.to_owned().into()), if_revision: None }
}

fn removal(secret_id: SecretId) -> RemoveSecret {
    RemoveSecret { company_id: company(), secret_id, note: None, if_revision: None }
}

#[tokio::test(start_paused = true)]
async fn a_secret_gets_versions_and_each_can_be_read() {
    let safe = Safe::in_memory();
    let first = safe.set("deploy key", "the first value").await;
    assert_eq!((first.versions.len(), first.generation, first.status), (1, 0, SecretStatus::Active));
    let second = safe.set("deploy key", "the second value").await;
    assert_eq!((second.secret_id, second.versions.len()), (first.secret_id, 2));
    let third = safe.ledger.rotate_secret(caller(), rotation(first.secret_id, "the third value")).await.expect("there");
    assert_eq!(third.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2, 3]);
    for (version, value) in [
        (SecretVersion::Number(1), "the first value"),
        (SecretVersion::Number(2), "the second value"),
        (SecretVersion::Number(3), "the third value"),
        (SecretVersion::Latest, "the third value"),
    ] {
        assert_eq!(safe.read(first.secret_id, version).await.as_deref(), Ok(value));
    }
    let error = safe.read(first.secret_id, SecretVersion::Number(4)).await.expect_err("there are three").to_string();
    assert!(error.starts_with(&format!("There is no secret {} (version 4)", first.secret_id)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_secret_is_gone_and_its_name_is_free() {
    let safe = Safe::in_memory();
    let first = safe.set("deploy key", "the first value").await;
    let removed = safe.ledger.remove_secret(caller(), removal(first.secret_id)).await.expect("it is there");
    assert_eq!(removed.status, SecretStatus::Removed);
    assert_eq!(safe.ledger.remove_secret(caller(), removal(first.secret_id)).await, Ok(removed));
    let error = safe.read(first.secret_id, SecretVersion::Latest).await.expect_err("it is gone");
    assert!(matches!(error, SecretError::Unknown { .. }), "{error}");
    let error = safe.ledger.rotate_secret(caller(), rotation(first.secret_id, "a new value")).await;
    assert_eq!(error, Err(CommandError::SecretRemoved { name: "deploy key".to_owned() }));
    let anew = safe.set("deploy key", "another value").await;
    assert_eq!((anew.generation, anew.versions.len()), (1, 1));
    assert_ne!(anew.secret_id, first.secret_id);
    assert_eq!(safe.read(anew.secret_id, SecretVersion::Latest).await.as_deref(), Ok("another value"));
}

#[tokio::test(start_paused = true)]
async fn secrets_are_listed_by_company_and_never_shown() {
    let safe = Safe::in_memory();
    safe.set("one", "the first value").await;
    safe.set("two", "the second value").await;
    let other = SetSecret {
        company_id: CompanyId::derived(&["other"]),
        name: "one".to_owned(),
        source: Source::Value("another value".to_owned().into()),
    };
    let other = safe.ledger.set_secret(caller(), other).await.expect("it is set");
    let filter = SecretFilter { company_id: Some(company()), limit: 9, ..SecretFilter::default() };
    let listed = safe.ledger.read_model().secrets(&filter).await.expect("the list");
    assert_eq!(listed.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["two", "one"]);
    let shown = format!("{listed:?} {}", serde_json::to_string(&listed).expect("JSON"));
    assert!(!shown.contains("value\"") && !shown.contains("first value"), "{shown}");
    assert_eq!(
        safe.ledger.secret(other.secret_id, company()).await,
        Err(CommandError::UnknownSecret { secret_id: other.secret_id, company_id: company() })
    );
    for error in [
        safe.ledger.rotate_secret(caller(), rotation(other.secret_id, "a new value")).await,
        safe.ledger.remove_secret(caller(), removal(other.secret_id)).await,
    ] {
        assert!(matches!(error, Err(CommandError::UnknownSecret { .. })), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_a_rule_is_refused_in_a_sentence() {
    let safe = Safe::in_memory();
    for name in ["", " ", " x", "x\n", &"x".repeat(301)] {
        let error = safe.try_set(name, Source::Value("a fine value".to_owned().into())).await.expect_err("a bad name");
        assert_eq!(error.code(), "invalid-request", "{name:?}");
    }
    for value in [String::new(), "hunter2".to_owned(), "x".repeat(64 * 1024 + 1)] {
        let error = safe.try_set("fine", Source::Value(value.into())).await.expect_err("a bad value").to_string();
        assert_eq!(error, "The value of the secret was not taken: a secret has from 8 to 65536 bytes.");
    }
    let missing = safe.try_set("fine", Source::Variable("NOT_SET".to_owned())).await.expect_err("it is not set");
    assert_eq!(missing.code(), "invalid-secret");
    assert!(missing.to_string().contains("_NOT_SET is not set where the ledger runs"), "{missing}");
    let no_folder = safe.try_set("fine", Source::File("key".to_owned())).await.expect_err("no folder is granted");
    assert!(no_folder.to_string().contains("name one in LEASE_LEDGER_SECRET_DIR"), "{no_folder}");
    assert!(safe.log().await.is_empty(), "a refusal leaves nothing behind");
    let set = safe.set("fine", "a fine value").await;
    let stale = RotateSecret { if_revision: Some(0), ..rotation(set.secret_id, "a new value") };
    let error = safe.ledger.rotate_secret(caller(), stale).await.expect_err("it is at revision 1");
    assert_eq!(error.code(), "revision-mismatch");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_command_is_one_version_whatever_value_it_bears() {
    let safe = Safe::in_memory();
    let set = async |value: &str| {
        let source = Source::Value(value.to_owned().into());
        let request = SetSecret { company_id: company(), name: "key".to_owned(), source };
        safe.ledger.set_secret(caller().with_key("once"), request).await.expect("it is set")
    };
    let first = set("the first value").await;
    assert_eq!(set("the first value").await, first);
    assert_eq!(set("the second value").await, first, "the digest does not know the value");
    assert_eq!(safe.read(first.secret_id, SecretVersion::Latest).await.as_deref(), Ok("the first value"));
    let other = SetSecret {
        company_id: company(),
        name: "another".to_owned(),
        source: Source::Value("the first value".to_owned().into()),
    };
    let error = safe.ledger.set_secret(caller().with_key("once"), other).await.expect_err("it is another command");
    assert_eq!(error.code(), "idempotency-key-reused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_set_one_name_at_once_make_two_versions_and_each_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = with_key();
    // Two processes on one file: nothing but the file orders them.
    let path = folder.path().join("ledger.db");
    let (one, other) = (Safe::on_file(&path, &settings).await, Safe::on_file(&path, &settings).await);
    for round in 0..8 {
        let name = format!("key {round}");
        let (value, another) = (format!("value {round} of one"), format!("value {round} of other"));
        let (first, second) = tokio::join!(one.set(&name, &value), other.set(&name, &another));
        assert_eq!(first.secret_id, second.secret_id);
        let latest = one.ledger.secret(first.secret_id, company()).await.expect("it is there");
        assert_eq!(latest.versions.len(), 2, "{latest:?}");
        let mut values = Vec::new();
        for version in [1, 2] {
            values.push(other.read(first.secret_id, SecretVersion::Number(version)).await.expect("it is whole"));
        }
        values.sort_unstable();
        assert_eq!(values, [value, another]);
    }
}

#[tokio::test]
async fn a_file_that_the_operator_grants_is_a_secret_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join(company().to_string());
    std::fs::create_dir(&own).expect("a folder");
    std::fs::write(own.join("key"), "the value of a file").expect("a file");
    let settings = SecretSettings { folder: Some(folder.path().into()), ..SecretSettings::default() };
    let safe = Safe::on_file(&folder.path().join("ledger.db"), &settings).await;
    let set = safe.try_set("key", Source::File("key".to_owned())).await.expect("it can be read");
    assert_eq!(set.version(None).map(|latest| latest.provider), Some(SecretProviderKind::File));
    assert_eq!(safe.read(set.secret_id, SecretVersion::Latest).await.as_deref(), Ok("the value of a file"));
    std::fs::write(own.join("key"), "another value now").expect("a file");
    assert_eq!(safe.read(set.secret_id, SecretVersion::Latest).await.as_deref(), Ok("another value now"));
    std::fs::remove_file(own.join("key")).expect("it was there");
    let error = safe.read(set.secret_id, SecretVersion::Latest).await.expect_err("it is gone").to_string();
    assert!(error.contains("cannot be read: there is no file"), "{error}");
    let error = safe.try_set("sealed", Source::Value("a fine value".to_owned().into())).await.expect_err("no key");
    assert_eq!(error.code(), "secrets-unavailable");
    assert!(error.to_string().contains("head -c 32 /dev/urandom | base64"), "{error}");
}
