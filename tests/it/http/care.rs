//! The care of a ledger over HTTP: what it is, how it stands, and its projections.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use super::{Api, lines, request};

#[tokio::test(start_paused = true)]
async fn a_ledger_says_what_it_is() {
    let (api, _) = Api::with_environment(json!({})).await;
    let told = api.get("/v1/ledger").await.json();
    assert_eq!(told["ledgerId"], json!(api.bench.ledger.ledger_id()));
    assert_eq!((&told["drivers"], &told["position"]), (&json!(["local", "sandbox"]), &json!(1)));
    let ready = api.get("/readyz").await.json();
    assert_eq!(ready, json!({ "ready": true, "position": 1, "faults": [] }));
}

#[tokio::test(start_paused = true)]
async fn projections_are_listed_rebuilt_and_verified() {
    let (api, environment) = Api::with_environment(json!({})).await;
    api.acquire(environment, 1).await;
    let list = api.get("/v1/projections").await.json();
    let leases = list["projections"].as_array().expect("projections").iter();
    let leases = leases.into_iter().find(|status| status["name"] == "current_leases").expect("current_leases");
    assert_eq!((&leases["rows"], &leases["position"]), (&json!(1), &json!(api.head().await)));

    let send = |path: &'static str| api.send(request(Method::POST, path, &[], Body::empty()));
    let rebuilt = send("/v1/projections/current_leases/rebuild").await;
    assert_eq!(rebuilt.header("content-type"), "application/x-ndjson");
    let told = lines(&rebuilt.body);
    let report = &told.last().expect("a last line")["report"];
    assert_eq!((&report["rows"], &report["position"]), (&json!(1), &json!(api.head().await)));

    let verified = send("/v1/projections/current_leases/verify").await.json();
    assert_eq!((&verified["rows"], &verified["differences"]), (&json!(1), &json!([])));
    for operation in ["rebuild", "verify"] {
        let path = format!("/v1/projections/moon_phases/{operation}");
        api.send(request(Method::POST, &path, &[], Body::empty())).await.problem(404, "unknown-projection");
    }
}
