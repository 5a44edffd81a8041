//! A plaintext in a config becomes a secret, and the config keeps the reference.

use lease_events::environment::EnvironmentState;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::environment::update::UpdateEnvironment;
use serde_json::{Value, json};

use super::*;

fn creation(name: &str, config: Value) -> CreateEnvironment {
    CreateEnvironment { company_id: company(), name: name.to_owned(), driver: "echo".to_owned(), config }
}

fn reference(environment: &EnvironmentState, field: &str) -> SecretRef {
    let found = environment.config.pointer(field).expect("it is there").clone();
    serde_json::from_value(found).expect("a reference")
}

#[tokio::test(start_paused = true)]
async fn a_plaintext_is_kept_as_a_secret_and_an_update_is_its_next_version() {
    let safe = Safe::in_memory();
    let config = json!({ "token": "the first value", "auth": { "key": "the key value" }, "host": "h" });
    let environment = safe.ledger.create_environment(caller(), creation("build", config)).await.expect("valid");
    let (token, key) = (reference(&environment, "/token"), reference(&environment, "/auth/key"));
    assert_eq!((token.version, environment.config["host"].as_str()), (SecretVersion::Latest, Some("h")));
    assert_eq!(safe.read(SecretId(key.secret_id), key.version).await.as_deref(), Ok("the key value"));
    let secret = safe.ledger.secret(SecretId(token.secret_id), company()).await.expect("it is there");
    assert_eq!(secret.name, "environment/echo/build/token");
    // The key stays by its reference; the token is given anew.
    let update = UpdateEnvironment {
        company_id: company(),
        environment_id: environment.environment_id,
        config: json!({ "token": "the second value", "auth": { "key": key }, "host": "other" }),
        if_revision: Some(environment.revision),
    };
    let updated = safe.ledger.update_environment(caller(), update).await.expect("valid");
    assert_eq!(reference(&updated, "/token"), token);
    assert_eq!(safe.read(SecretId(token.secret_id), SecretVersion::Latest).await.as_deref(), Ok("the second value"));
    assert_eq!(safe.read(SecretId(token.secret_id), SecretVersion::Number(1)).await.as_deref(), Ok("the first value"));
}

#[tokio::test(start_paused = true)]
async fn a_config_that_is_refused_leaves_no_secret_and_its_plaintext_is_not_seen() {
    let safe = Safe::in_memory();
    let config = json!({ "token": "the first value", "refuse": true });
    let error = safe.ledger.create_environment(caller(), creation("build", config)).await.expect_err("refused");
    assert!(error.to_string().contains("is refused") && !error.to_string().contains("first value"), "{error}");
    let taken = json!({ "token": "the first value" });
    safe.ledger.create_environment(caller(), creation("taken", taken.clone())).await.expect("valid");
    let before = safe.log().await.len();
    let error = safe.ledger.create_environment(caller(), creation("taken", taken)).await.expect_err("it is taken");
    assert_eq!(error.code(), "environment-name-taken");
    assert_eq!(safe.log().await.len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_reference_must_be_one_and_name_a_secret_of_the_company() {
    let safe = Safe::in_memory();
    let own = safe.set("own", "the first value").await.secret_id.0;
    let other = SetSecret {
        company_id: CompanyId::derived(&["other"]),
        name: "key".to_owned(),
        source: Source::Value("another value".to_owned().into()),
    };
    let other = safe.ledger.set_secret(caller(), other).await.expect("it is set").secret_id.0;
    let spelled = |id: Uuid, version: Value| json!({ "type": "secret_ref", "secretId": id, "version": version });
    for (number, (token, code)) in [
        (spelled(other, json!("latest")), "unknown-secret"),
        (spelled(own, json!(2)), "unknown-secret"),
        (spelled(own, json!("newest")), "invalid-request"),
        (json!({ "value": "c4nary-in-the-wrong-shape" }), "invalid-request"),
        (json!(["c4nary-in-the-wrong-shape"]), "invalid-request"),
        (json!("short"), "invalid-secret"),
    ]
    .into_iter()
    .enumerate()
    {
        let request = creation(&format!("bad {number}"), json!({ "token": token }));
        let error = safe.ledger.create_environment(caller(), request).await.expect_err("it is refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.to_string().contains("c4nary"), "{error}");
    }
    for (number, version) in [json!("latest"), json!(1)].into_iter().enumerate() {
        let request = creation(&format!("good {number}"), json!({ "token": spelled(own, version), "auth": null }));
        safe.ledger.create_environment(caller(), request).await.expect("it is theirs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_create_with_a_plaintext_is_answered_as_the_first_one() {
    let safe = Safe::in_memory();
    let create = async |config: Value| {
        safe.ledger.create_environment(caller().with_key("once"), creation("build", config)).await
    };
    let first = create(json!({ "token": "the first value" })).await.expect("valid");
    let events = safe.log().await.len();
    assert_eq!(create(json!({ "token": "the first value" })).await, Ok(first.clone()));
    assert_eq!(create(json!({ "token": "the second value" })).await, Ok(first), "the digest does not know the value");
    assert_eq!(safe.log().await.len(), events);
    let error = create(json!({ "token": "the first value", "host": "h" })).await.expect_err("another request");
    assert_eq!(error.code(), "idempotency-key-reused");
}
