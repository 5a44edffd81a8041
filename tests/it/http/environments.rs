//! An environment's life over HTTP.

use axum::body::Body;
use axum::http::Method;
use lease_ledger::http::wire::environment::Environment;
use serde_json::json;

use super::{Api, acquire, json_body, request};
use crate::support::company;

#[tokio::test(start_paused = true)]
async fn an_environment_lives_from_create_to_archive() {
    let api = Api::new();
    let wanted =
        json!({ "companyId": company(), "name": "box", "driver": "sandbox", "config": { "provider": "fake" } });
    let created = api.post("/v1/environments", &wanted).await;
    assert_eq!(created.status, 201);
    let environment: Environment = serde_json::from_slice(&created.body).expect("the published type reads it");
    let path = format!("/v1/environments/{}?companyId={}", environment.id, company());
    assert_eq!((created.header("location"), created.header("etag")), (&*path, "\"0\""));
    assert_eq!(api.get(&path).await.body, created.body);

    let config = json!({ "config": { "provider": "fake", "reuseLease": true } });
    let stale = api.send(request(Method::PATCH, &path, &[("If-Match", "\"7\"")], json_body(&config))).await;
    stale.problem(412, "revision-mismatch");
    let updated = api.send(request(Method::PATCH, &path, &[("If-Match", "\"0\"")], json_body(&config))).await;
    assert_eq!(updated.json()["config"]["reuseLease"], true);

    let probe = format!("/v1/environments/{}/probe?companyId={}", environment.id, company());
    let probed = api.send(request(Method::POST, &probe, &[], Body::empty())).await.json();
    assert_eq!((&probed["probe"]["ok"], &probed["environment"]["lastProbe"]["ok"]), (&json!(true), &json!(true)));

    assert_eq!(api.post(&probe, &json!(null)).await.status, 200);

    let archive = format!("/v1/environments/{}/archive", environment.id);
    let archived = api.post(&archive, &json!({ "companyId": company(), "note": "moved" })).await.json();
    assert_eq!(archived["status"], "archived");
    let refused = api.post("/v1/leases", &acquire(environment.id, 1)).await;
    let problem = refused.problem(409, "environment-not-active");
    assert_eq!(problem["detail"], "Environment \"box\" is not active.");

    let list = |query: &'static str| {
        let api = &api;
        async move { api.get(&format!("/v1/environments?{query}")).await.json()["environments"].clone() }
    };
    assert_eq!(list("status=archived&driver=sandbox").await[0]["name"], "box");
    assert_eq!(list("status=active").await, json!([]));
    assert_eq!(list("name=another").await, json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_company_must_be_said_once_and_the_same() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let path = format!("/v1/environments/{environment}");
    assert_eq!(api.get(&path).await.problem(422, "invalid-request")["field"], "companyId");
    let other = "00000000-0000-7000-8000-000000000009";
    api.get(&format!("{path}?companyId={other}")).await.problem(404, "unknown-environment");
    let archive = format!("{path}/archive?companyId={other}");
    api.post(&archive, &json!({ "companyId": company() })).await.problem(422, "invalid-request");
}
