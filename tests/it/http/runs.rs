//! Runs over HTTP: signs of life, and what is refused.

use axum::http::StatusCode;
use serde_json::json;

use super::Api;
use crate::support::{company, run};

#[tokio::test(start_paused = true)]
async fn a_run_is_kept_alive_until_it_is_released() {
    let api = Api::new();
    let beat = format!("/v1/runs/{}/heartbeat", run(1));
    let body = json!({ "companyId": company(), "timeToLiveMs": 60_000 });
    let alive = api.post(&beat, &body).await;
    assert_eq!(alive.status, StatusCode::OK);
    let expected = json!({ "runId": run(1), "timeToLiveMs": 60_000, "aliveUntil": "2026-01-01T00:01:30.000000Z" });
    assert_eq!(alive.json(), expected);
    for bad in [json!({ "companyId": company() }), json!({ "companyId": company(), "timeToLiveMs": null })] {
        assert_eq!(api.post(&beat, &bad).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let short = api.post(&beat, &json!({ "companyId": company(), "timeToLiveMs": 1 })).await;
    assert_eq!((short.status, &short.json()["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid-request")));
    api.post(&format!("/v1/runs/{}/release", run(1)), &json!({ "companyId": company() })).await;
    let over = api.post(&beat, &body).await;
    assert_eq!((over.status, &over.json()["code"]), (StatusCode::CONFLICT, &json!("run-released")));
}

#[tokio::test(start_paused = true)]
async fn a_reconciliation_tells_what_it_found() {
    let (api, environment) = Api::with_environment(json!({})).await;
    api.bench.acquire(environment, run(1)).await.expect("acquired");
    let body = json!({ "companyId": company(), "environmentId": environment, "dryRun": true });
    let report = api.post("/v1/reconciliations", &body).await;
    assert_eq!(report.status, StatusCode::OK);
    let expected = json!({
        "drift": false, "fault": null,
        "listings": [{
            "driver": "sandbox", "provider": "fake", "environmentId": environment, "listed": 1, "ours": 1, "foreign": 0,
            "held": 1, "findings": [], "stopped": [], "fault": null,
        }],
    });
    assert_eq!(report.json(), expected);
    let half = api.post("/v1/reconciliations", &json!({ "environmentId": environment })).await;
    assert_eq!(half.status, StatusCode::UNPROCESSABLE_ENTITY);
}
