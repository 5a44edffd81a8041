//! Every refusal is a problem with one clear sentence, and changes nothing.

use axum::body::Body;
use axum::http::Method;
use lease_ledger::http::BODY_BYTES_MAX;
use serde_json::{Value, json};

use super::{Api, acquire, id, json_body, request};
use crate::support::{company, run};

const NOBODY: &str = "00000000-0000-7000-8000-00000000dead";

/// Sends `body` to `path`; answers the problem, after a look that nothing was written.
async fn refused(api: &Api, path: &str, body: &Value, status: u16, code: &str) -> Value {
    let before = api.head().await;
    let problem = api.post(path, body).await.problem(status, code);
    assert_eq!(api.head().await, before, "a refusal changes nothing: {problem}");
    problem
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_in_a_body_is_named() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let good = acquire(environment, 1);
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    for (body, field, sentence) in [
        (json!({ "environmentId": environment }), "companyId", "\"companyId\" is missing."),
        (with("colour", json!("red")), "colour", "\"colour\" is not known here; there are \"companyId\","),
        (with("issueId", json!(7)), "issueId", "\"issueId\" must be a string, not a number."),
        (with("runId", json!("seven")), "runId", "\"seven\" is not a run id; give a UUID such as"),
        (with("companyId", json!(null)), "companyId", "\"companyId\" must be a string, not null."),
        (with("requestedExpiresAt", json!("soon")), "requestedExpiresAt", "\"soon\" is not a moment; give RFC 3339"),
    ] {
        let problem = refused(&api, "/v1/leases", &body, 422, "invalid-request").await;
        assert_eq!(problem["field"], field);
        assert!(problem["detail"].as_str().expect("a detail").contains(sentence), "{problem}");
    }
    // Serde alone would read a list as a struct, its fields in order.
    let list = json!([company(), environment]);
    let problem = refused(&api, "/v1/leases", &list, 422, "invalid-request").await;
    assert_eq!(problem["detail"], "The body must be an object, not a list.");
    assert_eq!(api.bench.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_a_number() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let path = format!("/v1/leases/{}/release", id(&api.acquire(environment, 1).await));
    for bad in [json!("1"), json!(1.5), json!(-1), json!(9_007_199_254_740_992_u64), json!(true)] {
        let problem = refused(&api, &path, &json!({ "fencingToken": bad }), 422, "invalid-request").await;
        assert_eq!(problem["field"], "fencingToken");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("\"fencingToken\" must be a number"), "{detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_read_is_refused() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let good = acquire(environment, 1).to_string();
    let before = api.head().await;
    let post =
        |headers: &'static [(&str, &str)], body: Body| api.send(request(Method::POST, "/v1/leases", headers, body));
    let problem = post(&[], Body::from("{\"companyId\": ")).await.problem(400, "malformed-json");
    assert!(problem["detail"].as_str().expect("a detail").contains("line 1 column"), "{problem}");
    post(&[], Body::from(format!("{good} {{}}"))).await.problem(400, "malformed-json");
    let deep = format!("{{\"config\": {}1", "{\"a\":".repeat(1_000));
    api.send(request(Method::POST, "/v1/environments", &[], Body::from(deep))).await.problem(400, "malformed-json");
    post(&[], Body::from(&b"\xff\xfe"[..])).await.problem(400, "malformed-json");
    post(&[], Body::empty()).await.problem(400, "missing-body");
    let problem =
        post(&[("content-type", "text/plain")], Body::from(good.clone())).await.problem(415, "unsupported-media-type");
    assert_eq!(problem["detail"], "The body must come with Content-Type: application/json, not text/plain.");
    post(&[], Body::from(" ".repeat(BODY_BYTES_MAX + 1))).await.problem(413, "body-too-large");
    assert_eq!(api.head().await, before);
    let charset = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(api.send(request(Method::POST, "/v1/leases", &charset, Body::from(good))).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_found() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let mut body = acquire(environment, 1);
    body["environmentId"] = json!(NOBODY);
    let problem = refused(&api, "/v1/leases", &body, 404, "unknown-environment").await;
    assert_eq!(problem["detail"], format!("There is no environment {NOBODY} in company {}.", company()));
    api.get(&format!("/v1/leases/{NOBODY}")).await.problem(404, "unknown-lease");
    // Another company's lease is as if it were not there, and its company's name is not told.
    for path in ["", "/events", "/why"] {
        let path = format!("/v1/leases/{}{path}?companyId={NOBODY}", id(&lease));
        let problem = api.get(&path).await.problem(404, "unknown-lease");
        assert!(!problem.to_string().contains(&company().to_string()), "{problem}");
    }
    let body = json!({ "companyId": NOBODY, "fencingToken": 1 });
    refused(&api, &format!("/v1/leases/{}/release", id(&lease)), &body, 404, "unknown-lease").await;
    let at_first = api.get(&format!("/v1/leases/{}?at=1", id(&lease))).await;
    at_first.problem(404, "unknown-lease");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_is_refused() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let path = |operation: &str| format!("/v1/leases/{}/{operation}", id(&lease));
    let problem = refused(&api, &path("release"), &json!({ "fencingToken": 7 }), 409, "stale-fencing-token").await;
    assert_eq!((&problem["leaseId"], &problem["field"]), (&lease["id"], &json!("fencingToken")));
    refused(&api, &path("release"), &json!({}), 422, "no-authority").await;
    let both = json!({ "fencingToken": 1, "reason": "x" });
    refused(&api, &path("destroy"), &both, 422, "invalid-request").await;
    api.post(&path("release"), &json!({ "fencingToken": 1 })).await;
    let execute = json!({ "fencingToken": 1, "command": "echo" });
    let problem = refused(&api, &path("execute"), &execute, 409, "lease-over").await;
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("is over (released since") && detail.ends_with("acquire a new one."), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn urls_that_make_no_sense_are_refused() {
    let (api, _) = Api::with_environment(json!({})).await;
    let problem = api.get("/v1/leases/seven").await.problem(422, "invalid-request");
    assert!(problem["detail"].as_str().expect("a detail").starts_with("\"seven\" is not a lease id"), "{problem}");
    for (path, field) in [
        ("/v1/leases?limit=0", "limit"),
        ("/v1/leases?limit=many", "limit"),
        ("/v1/leases?limit=1001", "limit"),
        ("/v1/leases?open=perhaps", "open"),
        ("/v1/leases?status=gone", "status"),
        ("/v1/leases?cursor=here", "cursor"),
        ("/v1/leases?colour=red", "colour"),
        ("/v1/leases?runId=1", "runId"),
        ("/v1/environments?status=gone", "status"),
        ("/v1/events?after=-1", "after"),
        (&*format!("/v1/leases/{NOBODY}?at=soon"), "at"),
    ] {
        let problem = api.get(path).await.problem(422, "invalid-request");
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    let problem = api.get("/v2/leases").await.problem(404, "unknown-route");
    assert!(problem["detail"].as_str().expect("a detail").contains("/v2/leases"), "{problem}");
    let wrong_method = api.send(request(Method::DELETE, "/v1/leases", &[], Body::empty())).await;
    wrong_method.problem(405, "method-not-allowed");
    assert_eq!(wrong_method.header("allow"), "POST,GET,HEAD");
}

#[tokio::test(start_paused = true)]
async fn headers_that_make_no_sense_are_refused() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let path = format!("/v1/leases/{}/release", id(&lease));
    let long_key = "k".repeat(201);
    let before = api.head().await;
    for (name, value) in [
        ("If-Match", "1"),
        ("If-Match", "W/\"1\""),
        ("If-Match", "\"+1\""),
        ("If-Match", "\"1\", \"2\""),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", &long_key),
        ("Lease-Ledger-Actor", "boss"),
        ("Lease-Ledger-Actor", "ledger:recovery"),
    ] {
        let answer = api.post_with(&path, &[(name, value)], &json!({ "fencingToken": 1 })).await;
        assert_eq!(answer.problem(400, "malformed-header")["field"], name, "{value}");
    }
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    api.post_with(&path, &twice, &json!({ "fencingToken": 1 })).await.problem(400, "malformed-header");
    assert_eq!(api.head().await, before);
    // By W3C Trace Context, a traceparent that makes no sense is left out.
    let answer = api.post_with(&path, &[("traceparent", "nonsense")], &json!({ "fencingToken": 1 })).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn pages_of_other_sites_are_refused() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let body = acquire(environment, 1);
    let before = api.head().await;
    for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
        let answer = api.post_with("/v1/leases", &[("Origin", origin)], &body).await;
        assert_eq!(answer.problem(403, "foreign-origin")["field"], "Origin");
    }
    for host in ["evil.example", "evil.example:7700", "10.0.0.1"] {
        let mut wanted = request(Method::POST, "/v1/leases", &[], json_body(&body));
        wanted.headers_mut().insert("host", host.parse().expect("a header"));
        assert_eq!(api.send(wanted).await.problem(421, "foreign-host")["field"], "Host");
    }
    assert_eq!(api.head().await, before);
    let own = api.post_with("/v1/leases", &[("Origin", "http://127.0.0.1:7700")], &body).await;
    assert_eq!(own.status, 201);
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_does_has_its_own_statuses() {
    for (trouble, status, code) in
        [("refused", 502, "provider-failed"), ("not-done", 502, "provider-failed"), ("unknown", 504, "outcome-unknown")]
    {
        let (api, environment) = Api::with_environment(json!({ "failAcquire": trouble })).await;
        let problem = api.post("/v1/leases", &acquire(environment, 1)).await.problem(status, code);
        let lease = api.get(&format!("/v1/leases/{}", problem["leaseId"].as_str().expect("a lease"))).await;
        assert_eq!(lease.json()["lease"]["runId"], json!(run(1)), "what failed is on record");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_stops_takes_no_commands() {
    let (api, environment) = Api::with_environment(json!({})).await;
    assert_eq!(api.get("/readyz").await.status, 200);
    api.bench.ledger.stop().await;
    let answer = api.post("/v1/leases", &acquire(environment, 1)).await;
    assert_eq!(answer.problem(503, "stopping")["class"], "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()["ready"].clone()), (503, json!(false)));
    assert!(ready.json()["faults"].to_string().contains("The ledger is stopping."));
    assert_eq!(api.get("/healthz").await.json(), json!({ "status": "alive" }));
}
