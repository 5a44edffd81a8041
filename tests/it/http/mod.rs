//! The HTTP face: through the router in process, and over real connections where the connection itself matters.

mod care;
mod document;
mod environments;
mod leases;
mod refusals;
mod runs;
mod secrets;
mod server;
mod streams;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use lease_events::id::EnvironmentId;
use lease_ledger::http::{PROBLEM_JSON, router};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Bench, company, fake, run};

/// A ledger in memory behind its router.
struct Api {
    bench: Bench,
    router: Router,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Api {
    fn new() -> Self {
        let bench = Bench::new();
        let router = router(bench.ledger.clone());
        Self { bench, router }
    }

    /// One with an environment of the fake provider.
    async fn with_environment(further: Value) -> (Self, EnvironmentId) {
        let api = Self::new();
        let environment = api.bench.environment("plain", fake(further)).await;
        (api, environment.environment_id)
    }

    /// The answer's head; its body comes as it is read.
    async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.expect("a router never fails")
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.open(request).await.into_parts();
        let body = body.collect().await.expect("the body ends").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], Body::empty())).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(request(Method::POST, path, headers, json_body(body))).await
    }

    /// Acquires for the run of this number; answers the lease.
    async fn acquire(&self, environment: EnvironmentId, run_number: u32) -> Value {
        let answer = self.post("/v1/leases", &acquire(environment, run_number)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["lease"].clone()
    }

    async fn head(&self) -> u64 {
        self.bench.ledger.head().await.expect("the store answers").0
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    /// The problem that the answer must be; its detail must be a sentence.
    fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), PROBLEM_JSON);
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:lease-ledger:problem:{code}"));
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.ends_with('.') && detail.contains(' '), "no sentence: {detail}");
        problem
    }
}

/// A request; bodies are JSON unless the headers say otherwise.
fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header(header::HOST, "localhost:7700");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body).expect("a request")
}

fn json_body(value: &Value) -> Body {
    Body::from(value.to_string())
}

fn acquire(environment: EnvironmentId, run_number: u32) -> Value {
    json!({ "companyId": company(), "environmentId": environment, "runId": run(run_number) })
}

fn id(lease: &Value) -> &str {
    lease["id"].as_str().expect("an id")
}

/// The JSON text of each line.
fn lines(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}
