//! A secret's life over HTTP: values go in, and none comes out.

use axum::body::Body;
use axum::http::Method;
use lease_ledger::http::wire::secret::Secret;
use serde_json::json;

use super::{Api, json_body, request};
use crate::support::company;

#[tokio::test(start_paused = true)]
async fn a_secret_lives_from_set_to_removed_and_no_answer_holds_its_value() {
    let api = Api::new();
    let set = json!({ "companyId": company(), "name": "deploy", "value": "c4nary the first" });
    let answer = api.post("/v1/secrets", &set).await;
    assert_eq!((answer.status.as_u16(), answer.header("etag")), (200, "\"1\""));
    let secret: Secret = serde_json::from_slice(&answer.body).expect("the published type reads it");
    let path = format!("/v1/secrets/{}", secret.id);
    assert_eq!(api.get(&format!("{path}?companyId={}", company())).await.body, answer.body);

    let rotate = json!({ "companyId": company(), "value": "c4nary the second" });
    let stale =
        api.send(request(Method::POST, &format!("{path}/rotate"), &[("If-Match", "\"7\"")], json_body(&rotate))).await;
    stale.problem(412, "revision-mismatch");
    let rotated = api.post(&format!("{path}/rotate"), &rotate).await;
    assert_eq!(rotated.json()["versions"].as_array().map(Vec::len), Some(2));
    let listed = api.get(&format!("/v1/secrets?companyId={}", company())).await;
    assert_eq!(listed.json()["secrets"][0]["name"], "deploy");

    let remove = json!({ "companyId": company(), "note": "no longer used" });
    let removed = api.post(&format!("{path}/remove"), &remove).await;
    assert_eq!(removed.json()["status"], "removed");
    let again = api.post(&format!("{path}/rotate"), &rotate).await;
    again.problem(409, "secret-removed");
    let events = api.get("/v1/events").await;
    for answer in [answer, rotated, listed, removed, again, stale, events] {
        assert!(!String::from_utf8_lossy(&answer.body).contains("c4nary"), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_value_is_said_without_it() {
    let api = Api::new();
    let short = json!({ "companyId": company(), "name": "x", "value": "c4nary" });
    let two = json!({ "companyId": company(), "name": "x", "value": "c4nary the first", "file": "key" });
    let none = json!({ "companyId": company(), "name": "x" });
    let number = json!({ "companyId": company(), "name": "x", "value": 12_345_678 });
    let list = json!({ "companyId": company(), "name": "x", "value": ["c4nary the first"] });
    for (body, code) in [
        (short, "invalid-secret"),
        (two, "invalid-request"),
        (none, "invalid-request"),
        (number, "invalid-request"),
        (list, "invalid-request"),
    ] {
        let problem = api.post("/v1/secrets", &body).await.problem(422, code);
        assert!(!problem.to_string().contains("c4nary") && !problem.to_string().contains("12345678"), "{problem}");
    }
    let other = api.send(request(Method::GET, "/v1/secrets/x?companyId=y", &[], Body::empty())).await;
    assert_eq!(other.status.as_u16(), 422);
    assert_eq!(api.head().await, 0);
}
