//! Plugins over HTTP.

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use lease_ledger::http::router;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{World, manifest};
use crate::support::Bench;

async fn send(router: axum::Router, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = router.oneshot(request.body(body).expect("a request")).await.expect("a router never fails");
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("the body ends").to_bytes();
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn a_plugin_lives_from_installed_to_removed() {
    let world = World::open().await;
    let api = |method, path, body| send(router(world.ledger.clone()), method, path, body);
    let driver = json!({ "driverKey": "box", "displayName": "Box", "kind": "sandbox_provider" });
    let folder = world.folder.path();
    let command = json!({ "program": "python3", "args": ["worker.py"] });
    let install = json!({ "manifest": manifest("boxes", &driver), "folder": folder, "command": command });

    let (status, installed) = api("POST", "/v1/plugins", Some(install.clone())).await;
    assert_eq!((status, &installed["replacedVersion"]), (201, &Value::Null), "{installed}");
    let (status, upgraded) = api("POST", "/v1/plugins", Some(install.clone())).await;
    assert_eq!((status, &upgraded["replacedVersion"]), (200, &json!("1.0.0")), "{upgraded}");
    assert_eq!(installed["plugin"], upgraded["plugin"]);
    assert_eq!(installed["plugin"]["command"], command);
    let (_, listed) = api("GET", "/v1/plugins", None).await;
    let (_, one) = api("GET", "/v1/plugins/boxes", None).await;
    assert_eq!(listed["plugins"], json!([one]));
    for (path, enabled) in [("/v1/plugins/boxes/disable", false), ("/v1/plugins/boxes/enable", true)] {
        assert_eq!(api("POST", path, None).await.1["enabled"], enabled);
    }

    let mut other = install.clone();
    other["manifest"]["id"] = "others".into();
    let mut broken = install.clone();
    broken["manifest"]["apiVersion"] = 2.into();
    let mut relative = install.clone();
    relative["folder"] = "here".into();
    let mut granting = install.clone();
    granting["grants"] = json!(["LEASE_LEDGER_SECRET_KEY"]);
    for (body, status, code, field) in [
        (other, 409, "driver-key-taken", Value::Null),
        (broken, 422, "invalid-plugin", json!("manifest")),
        (relative, 422, "invalid-plugin", json!("folder")),
        (granting, 422, "invalid-plugin", json!("grants")),
        (json!({ "folder": folder }), 422, "invalid-request", json!("manifest")),
    ] {
        let (answered, problem) = api("POST", "/v1/plugins", Some(body)).await;
        assert_eq!((answered, &problem["code"], &problem["field"]), (status, &json!(code), &field), "{problem}");
    }
    assert_eq!(api("POST", "/v1/plugins/boxes/remove", None).await.0, 200);
    let (status, problem) = api("GET", "/v1/plugins/boxes", None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown-plugin")));
    world.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_without_a_worker_host_says_so() {
    let bench = Bench::new();
    let (status, problem) = send(router(bench.ledger.clone()), "GET", "/v1/plugins", None).await;
    assert_eq!((status, &problem["code"]), (503, &json!("plugins-unavailable")), "{problem}");
}
