//! Lease cycles a second (acquire, realize, release; fake provider), in the library and over HTTP, at 1, 32 and 256 at
//! once, with p50 and p99 of a cycle, and the fsyncs that one costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lease_events::id::EnvironmentId;
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::caller::Caller;
use lease_ledger::commands::realize::RealizeRequest;
use lease_ledger::commands::release::ReleaseRequest;
use lease_ledger::drivers::Workspace;
use lease_ledger::http;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::parts::{Parts, fresh_run, open, percentile, rate};

/// Cycles a measurement, whatever its width.
const CYCLES: u64 = 4_096;

type HttpClient = Client<hyper_util::client::legacy::connect::HttpConnector, Full<axum::body::Bytes>>;

/// Prints the table.
pub(crate) async fn measure() {
    println!("lease cycles (acquire, realize, release; fake provider), {CYCLES} each");
    println!("{:<10}{:>8}{:>12}{:>12}{:>12}{:>16}", "face", "at once", "cycles/s", "p50", "p99", "fsyncs/cycle");
    let folder = tempfile::tempdir().expect("a folder");
    let parts = Arc::new(open(folder.path()).await);
    let environment = parts.environment("cycles", json!({ "provider": "fake" })).await;
    for width in [1, 32, 256] {
        let work = Arc::clone(&parts);
        run("library", &parts, width, move || cycle(Arc::clone(&work), environment)).await;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(http::serve(listener, parts.ledger.clone(), stop.clone()));
    let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
    connector.set_nodelay(true);
    let client: HttpClient = Client::builder(TokioExecutor::new()).build(connector);
    let company = parts.company.to_string();
    for width in [1, 32, 256] {
        let (client, base, company) = (client.clone(), base.clone(), company.clone());
        run("http", &parts, width, move || {
            let (client, base, company) = (client.clone(), base.clone(), company.clone());
            async move { cycle_over_http(&client, &base, &company, environment).await }
        })
        .await;
    }
    stop.cancel();
    let _ = serving.await;
    println!();
}

async fn run<F>(face: &str, parts: &Parts, width: u64, cycle: impl Fn() -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let (fsyncs, began) = (parts.store.fsyncs(), Instant::now());
    let workers = (0..width).map(|_| {
        let cycle = cycle.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..CYCLES / width {
                let began = Instant::now();
                cycle().await;
                times.push(began.elapsed());
            }
            times
        })
    });
    let mut times: Vec<Duration> = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        times.extend(worker.await.expect("a worker"));
    }
    let elapsed = began.elapsed();
    times.sort_unstable();
    println!(
        "{face:<10}{width:>8}{:>12.0}{:>12}{:>12}{:>16.3}",
        rate(CYCLES, elapsed),
        format!("{:.2?}", percentile(&times, 0.50)),
        format!("{:.2?}", percentile(&times, 0.99)),
        rate(parts.store.fsyncs() - fsyncs, Duration::from_secs(CYCLES)),
    );
}

async fn cycle(parts: Arc<Parts>, environment: EnvironmentId) {
    let caller = Caller::service("bench");
    let request = parts.acquire(environment, fresh_run());
    let lease = parts.ledger.acquire(caller.clone(), request).await.expect("acquired").lease;
    let authority = lease.fencing_token().map(|fencing_token| Authority::Holder { fencing_token });
    let realize = RealizeRequest {
        company_id: Some(parts.company),
        lease_id: lease.lease_id,
        authority: authority.clone(),
        if_revision: None,
        workspace: Workspace::default(),
    };
    parts.ledger.realize(caller.clone(), realize).await.expect("realized");
    let release = ReleaseRequest {
        company_id: Some(parts.company),
        lease_id: lease.lease_id,
        authority,
        if_revision: None,
        status: ReleaseStatus::Released,
    };
    parts.ledger.release(caller, release).await.expect("released");
}

async fn cycle_over_http(client: &HttpClient, base: &str, company: &str, environment: EnvironmentId) {
    let acquire = json!({ "companyId": company, "environmentId": environment, "runId": fresh_run() });
    let answer = post(client, &format!("{base}/v1/leases"), &acquire).await;
    let lease = &answer["lease"];
    let id = lease["id"].as_str().expect("an id");
    let holder = json!({ "fencingToken": lease["fencingToken"] });
    post(client, &format!("{base}/v1/leases/{id}/realize"), &holder).await;
    post(client, &format!("{base}/v1/leases/{id}/release"), &holder).await;
}

async fn post(client: &HttpClient, url: &str, body: &Value) -> Value {
    let request = axum::http::Request::post(url)
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .expect("a request");
    let response = client.request(request).await.expect("an answer");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).expect("JSON")
}
