//! Who reads what goes on record first.

use lease_events::codec::{decode, decode_metadata};
use lease_events::id::{EnvironmentId, LeaseId};
use lease_events::record::ActorKind;
use lease_events::secret::SecretEvent;

use super::*;

#[tokio::test(start_paused = true)]
async fn every_read_says_who_which_version_and_what_for() {
    let safe = Safe::in_memory();
    let secret = safe.set("key", "the first value").await.secret_id;
    safe.set("key", "the second value").await;
    let (lease, environment) = (LeaseId::derived(&["lease"]), EnvironmentId::derived(&["environment"]));
    let reader = SecretReader {
        company_id: company(),
        environment_id: Some(environment),
        lease_id: Some(lease),
        purpose: "acquire",
    };
    for version in [SecretVersion::Number(1), SecretVersion::Latest] {
        safe.secrets.resolve(&SecretRef { secret_id: secret.0, version }, &reader).await.expect("it is there");
    }
    let log = safe.log().await;
    let reads = log.iter().filter(|recorded| recorded.event_type.as_ref() == "secret-read");
    let mut versions = Vec::new();
    for recorded in reads {
        let SecretEvent::Read(read) = decode(recorded).expect("it decodes") else { panic!("{recorded:?}") };
        assert_eq!((read.environment_id, read.lease_id), (Some(environment), Some(lease)));
        assert_eq!((read.purpose.as_str(), recorded.company_id), ("acquire", company()));
        let metadata = decode_metadata(recorded).expect("it decodes");
        assert_eq!((metadata.actor.kind, metadata.correlation_id), (ActorKind::Ledger, lease.to_string()));
        versions.push(read.version);
    }
    assert_eq!(versions, [1, 2]);
    let state = safe.ledger.secret(secret, company()).await.expect("it is there");
    assert_eq!((state.reads, state.last_read_at.is_some()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_another_company_is_not_there_and_no_read_is_recorded() {
    let safe = Safe::in_memory();
    let secret_id = safe.set("key", "the first value").await.secret_id.0;
    let before = safe.log().await.len();
    let stranger = reader(CompanyId::derived(&["other"]));
    for secret_id in [secret_id, Uuid::from_u128(7)] {
        let reference = SecretRef { secret_id, version: SecretVersion::Latest };
        let error = safe.secrets.resolve(&reference, &stranger).await.expect_err("it is not theirs");
        assert_eq!(error, SecretError::Unknown { reference });
    }
    assert_eq!(safe.log().await.len(), before);
}

#[tokio::test(start_paused = true)]
async fn no_value_is_handed_out_where_the_read_cannot_be_recorded() {
    let safe = Safe::in_memory();
    let secret = safe.set("key", "the first value").await.secret_id;
    safe.ledger.stop().await;
    let error = safe.read(secret, SecretVersion::Latest).await.expect_err("the store is closed");
    assert!(matches!(error, SecretError::Unavailable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_at_once_are_all_recorded_also_from_two_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, settings) = (folder.path().join("ledger.db"), with_key());
    let (one, other) = (Safe::on_file(&path, &settings).await, Safe::on_file(&path, &settings).await);
    let secret = one.set("key", "the first value").await.secret_id;
    let reads = (0..20).map(|number| {
        let safe = if number % 2 == 0 { &one } else { &other };
        safe.read(secret, SecretVersion::Latest)
    });
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.as_deref(), Ok("the first value"));
    }
    assert_eq!(one.ledger.secret(secret, company()).await.expect("it is there").reads, 20);
}

#[tokio::test]
async fn a_changed_byte_in_the_file_is_an_error_and_not_another_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, settings) = (folder.path().join("ledger.db"), with_key());
    let safe = Safe::on_file(&path, &settings).await;
    let (one, other) = (safe.set("one", "the first value").await, safe.set("other", "the other value").await);
    // Swapped rows: each is whole, and neither is at its place.
    let locator = |secret: &SecretState| secret.version(None).expect("it has one").locator.clone();
    let (first, second) = (locator(&one), locator(&other));
    for (from, to) in [(first.as_str(), "aside"), (second.as_str(), first.as_str()), ("aside", second.as_str())] {
        vandalise(&path, &format!("UPDATE secret_versions SET sealed_id = '{to}' WHERE sealed_id = '{from}'")).await;
    }
    for secret in [&one, &other] {
        let error = safe.read(secret.secret_id, SecretVersion::Latest).await.expect_err("it is another's").to_string();
        assert!(error.contains("its sealed value was changed after it was written"), "{error}");
    }
    vandalise(&path, "DELETE FROM secret_versions").await;
    let error = safe.read(one.secret_id, SecretVersion::Latest).await.expect_err("it is gone").to_string();
    assert!(error.contains("its sealed value is not in the ledger file"), "{error}");
    assert_eq!(safe.ledger.secret(one.secret_id, company()).await.expect("it is there").reads, 0);
}

/// Does to the file what the ledger never would.
async fn vandalise(path: &Path, sql: &str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("it opens");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("it runs");
    connection.close().await.expect("it closes");
}
