//! A lease's life over HTTP, and what repeats, revisions and pages do to it.

use std::time::Duration;

use axum::http::Method;
use lease_ledger::http::wire::event::LeaseEvents;
use lease_ledger::http::wire::lease::{AcquiredLease, LeaseAnswer};
use serde_json::{Value, json};

use super::{Api, acquire, id, json_body, request};
use crate::support::{company, run};

#[tokio::test(start_paused = true)]
async fn a_lease_lives_from_acquire_to_release() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let mut wanted = acquire(environment, 1);
    wanted["executionWorkspaceId"] = json!("w1");
    wanted["executionWorkspaceMode"] = json!("isolated");
    let acquired = api.post("/v1/leases", &wanted).await;
    assert_eq!(acquired.status, 201);
    let parsed: AcquiredLease = serde_json::from_slice(&acquired.body).expect("the published type reads it");
    let lease = acquired.json()["lease"].clone();
    let lease_path = format!("/v1/leases/{}", id(&lease));
    assert_eq!(acquired.header("location"), lease_path);
    assert_eq!(acquired.header("etag"), format!("\"{}\"", parsed.lease.revision));
    assert_eq!(acquired.json()["how"], "fresh");
    assert_eq!(
        acquired.json()["leaseContext"],
        json!({ "executionWorkspaceId": "w1", "executionWorkspaceMode": "isolated" })
    );
    assert_eq!((&lease["status"], &lease["fencingToken"]), (&json!("active"), &json!(1)));
    assert_eq!(lease.get("endedAt"), Some(&Value::Null), "a key without a value is there all the same");

    // JSON has one kind of number: 1.0 is the token 1.
    let realize = json!({ "fencingToken": 1.0, "workspace": { "localPath": "/src" } });
    let realized = api.post(&format!("{lease_path}/realize"), &realize).await.json();
    assert_eq!(realized["lease"]["workspaceRealization"]["local"]["path"], "/src");

    let execute = json!({ "fencingToken": 1, "command": "echo", "args": ["hello"], "env": { "TOKEN": "s3cret" } });
    let executed = api.post(&format!("{lease_path}/execute"), &execute).await.json();
    assert_eq!((&executed["exitCode"], &executed["stdout"]), (&json!(0), &json!("hello\n")));
    assert_eq!(executed["stdoutTruncated"], false);

    let renew = json!({ "fencingToken": 1, "expiresAt": "2026-01-02T01:00:00+01:00" });
    let renewed = api.post(&format!("{lease_path}/renew"), &renew).await.json();
    assert_eq!(renewed["lease"]["expiresAt"], "2026-01-02T00:00:00.000000Z");

    let resumed = api.post(&format!("{lease_path}/resume"), &json!({ "fencingToken": 1 })).await.json();
    assert_eq!(resumed["lease"]["fencingToken"], 2);

    let released = api.post(&format!("{lease_path}/release"), &json!({ "fencingToken": 2 })).await;
    assert_eq!(released.status, 200);
    assert_eq!(released.json()["lease"]["status"], "released");
    assert_eq!(released.json()["lease"]["endReason"], "holder-released");
    assert_eq!(api.bench.held(), 0);

    let then = api.get(&format!("{lease_path}?at={}", lease["position"])).await.json();
    assert_eq!(then["lease"]["status"], "active");
    let now = api.get(&lease_path).await;
    let now: LeaseAnswer = serde_json::from_slice(&now.body).expect("the published type reads it");
    assert_eq!(now.lease.status.as_str(), "released");
}

#[tokio::test(start_paused = true)]
async fn what_a_run_holds_already_is_answered_as_it_is() {
    let (api, environment) = Api::with_environment(json!({ "reuseLease": true })).await;
    let lease = api.acquire(environment, 1).await;
    let held = api.post("/v1/leases", &acquire(environment, 1)).await;
    assert_eq!((held.status.as_u16(), held.json()["how"].clone()), (200, json!("held")));
    assert_eq!(id(&held.json()["lease"]), id(&lease));
}

#[tokio::test(start_paused = true)]
async fn an_operator_destroys_with_a_reason() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let path = format!("/v1/leases/{}/destroy", id(&lease));
    let destroyed = api.post_with(&path, &[("Lease-Ledger-Actor", "user:7")], &json!({ "reason": "stuck" })).await;
    assert_eq!(destroyed.json()["lease"]["cleanupStatus"], "success");
    let events = api.get(&format!("/v1/leases/{}/events", id(&lease))).await.json();
    let last = events["events"].as_array().and_then(|events| events.last()).expect("events").clone();
    assert_eq!(last["metadata"]["actor"], json!({ "kind": "user", "id": "7" }));
}

#[tokio::test(start_paused = true)]
async fn events_are_told_byte_for_byte() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let body = api.get(&format!("/v1/leases/{}/events", id(&lease))).await.body;
    let told: LeaseEvents = serde_json::from_slice(&body).expect("the published type reads it");
    let lease_id = id(&lease).parse().expect("an id");
    let stored = api.bench.ledger.history(lease_id, None).await.expect("history");
    assert_eq!(told.events.len(), stored.len());
    for (told, stored) in told.events.iter().zip(&stored) {
        assert_eq!((told.data.get(), told.metadata.get()), (&*stored.data, &*stored.metadata));
        assert_eq!(told.event_type, &*stored.event_type);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_the_same_acquire() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let mut wanted = acquire(environment, 1);
    let first = api.post_with("/v1/leases", &[("Idempotency-Key", "k-1")], &wanted).await;
    let second = api.post_with("/v1/leases", &[("Idempotency-Key", "\"k-1\"")], &wanted).await;
    assert_eq!((first.status.as_u16(), &first.body), (201, &second.body));
    assert_eq!((second.status.as_u16(), api.bench.held()), (201, 1));

    wanted["agentId"] = json!("another");
    let before = api.head().await;
    let refused = api.post_with("/v1/leases", &[("Idempotency-Key", "k-1")], &wanted).await;
    assert_eq!(refused.problem(422, "idempotency-key-reused")["field"], "Idempotency-Key");
    assert_eq!((api.head().await, api.bench.held()), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn a_change_decided_on_another_revision_is_refused() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let path = format!("/v1/leases/{}/renew", id(&lease));
    let renew = json!({ "fencingToken": 1, "expiresAt": "2026-01-02T00:00:00Z" });
    let tag = api.get(&format!("/v1/leases/{}", id(&lease))).await.header("etag").to_owned();

    let stale = api.post_with(&path, &[("If-Match", "\"0\"")], &renew).await;
    assert_eq!(stale.problem(412, "revision-mismatch")["field"], "If-Match");
    let renewed = api.post_with(&path, &[("If-Match", &tag)], &renew).await;
    assert_eq!(renewed.status, 200);
    assert_ne!(renewed.header("etag"), tag);
    let outdated = api.post_with(&path, &[("If-Match", &tag)], &renew).await;
    outdated.problem(412, "revision-mismatch");
    assert_eq!(api.post_with(&path, &[("If-Match", "*")], &renew).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn pages_show_each_lease_once() {
    let (api, environment) = Api::with_environment(json!({})).await;
    for number in 1..=5 {
        api.acquire(environment, number).await;
    }
    let (mut seen, mut query) = (Vec::new(), format!("companyId={}&limit=2&atLeast={}", company(), api.head().await));
    loop {
        let page = api.get(&format!("/v1/leases?{query}")).await.json();
        seen.extend(page["leases"].as_array().expect("leases").iter().map(|lease| lease["runId"].clone()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("companyId={}&limit=2&cursor={cursor}", company());
    }
    let newest_first: Vec<_> = (1..=5).rev().map(|number| json!(run(number))).collect();
    assert_eq!(seen, newest_first);
}

#[tokio::test(start_paused = true)]
async fn lists_are_narrowed() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let (first, second) = (api.acquire(environment, 1).await, api.acquire(environment, 2).await);
    api.post(&format!("/v1/leases/{}/release", id(&first)), &json!({ "fencingToken": 1 })).await;
    for (query, expected) in [
        ("open=true", vec![&second]),
        ("open=false", vec![&second, &first]),
        ("status=released,failed", vec![&first]),
        ("needsAttention=true", vec![]),
        (&*format!("runId={}", run(2)), vec![&second]),
        (&*format!("environmentId={environment}&status=active"), vec![&second]),
    ] {
        let found = api.get(&format!("/v1/leases?{query}")).await.json();
        let found: Vec<_> = found["leases"].as_array().expect("leases").iter().map(id).map(str::to_owned).collect();
        assert_eq!(found, expected.into_iter().map(id).collect::<Vec<_>>(), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_listed_and_its_take_over_explained() {
    let (api, environment) = Api::with_environment(json!({ "reuseLease": true })).await;
    let first = api.acquire(environment, 1).await;
    api.post(&format!("/v1/leases/{}/release", id(&first)), &json!({ "fencingToken": 1 })).await;
    let left = api.get(&format!("/v1/reusable-leases?environmentId={environment}")).await.json();
    assert_eq!(left["reusableLeases"][0]["leaseId"], first["id"]);

    let second = api.post("/v1/leases", &acquire(environment, 2)).await;
    assert_eq!((second.status.as_u16(), second.json()["how"].clone()), (201, json!("reused")));
    let why = api.get(&format!("/v1/leases/{}/why", id(&second.json()["lease"]))).await.json();
    assert_eq!(why["decisions"][0]["chosen"], first["id"]);
    assert_eq!(why["decisions"][0]["candidates"][0]["verdict"], "taken");
    let left = api.get("/v1/reusable-leases").await.json();
    assert_eq!(left, json!({ "reusableLeases": [] }));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_ends_its_leases() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let lease = api.acquire(environment, 1).await;
    let path = format!("/v1/runs/{}/release", run(1));
    let released = api.post(&path, &json!({ "companyId": company(), "status": "failed" })).await.json();
    assert_eq!(released["released"][0]["id"], lease["id"]);
    assert_eq!(released["released"][0]["endReason"], "run-lost");
    assert_eq!(released["failed"], json!([]));
    let refused = api.post("/v1/leases", &acquire(environment, 1)).await;
    refused.problem(409, "run-released");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_breaks_no_command_off() {
    let (api, environment) = Api::with_environment(json!({ "acquireDelayMs": 1_000 })).await;
    let body = acquire(environment, 1);
    let key = [("Idempotency-Key", "k-1")];
    let wanted = request(Method::POST, "/v1/leases", &key, json_body(&body));
    let gone = tokio::time::timeout(Duration::from_millis(100), api.open(wanted)).await;
    assert!(gone.is_err(), "the provider takes longer");
    // The caller asks again, and finds what its lost request made.
    let again = api.post_with("/v1/leases", &key, &body).await;
    assert_eq!((again.status.as_u16(), &again.json()["lease"]["status"]), (201, &json!("active")));
    assert_eq!(api.bench.held(), 1);
}
