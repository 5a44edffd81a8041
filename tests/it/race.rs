//! 64 acquires at once that all match one reusable lease, on the embedded store with all its threads: exactly one gets
//! it, in the library and at the API, 50 times in a row (W2; field: paperclip#5954, agent-sandbox#418).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use lease_events::id::EnvironmentId;
use lease_events::id::RunId;
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_events::seam::{Clock, Ids, SystemClock, SystemIds};
use lease_ledger::commands::acquire::AcquiredHow;
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::drivers::sandbox::fake::FakeProvider;
use lease_ledger::ledger::Ledger;
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::{http, wiring};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{acquire_request, caller, company, drivers, fake, release_request};

/// How many want it at once, and how often.
const RIVALS: usize = 64;
const ROUNDS: usize = 50;

struct Embedded {
    ledger: Ledger,
    ids: Arc<dyn Ids>,
    _folder: tempfile::TempDir,
}

impl Embedded {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let provider = FakeProvider::in_memory(Arc::clone(&clock));
        let path = folder.path().join("ledger.db");
        let secrets = SecretSettings::default();
        let opened = wiring::open_sqlite(&path, clock, Arc::clone(&ids), &secrets, |_, _| Ok(drivers(&provider)));
        let ledger = opened.await.expect("opened");
        Self { ledger, ids, _folder: folder }
    }

    fn run(&self) -> RunId {
        RunId(self.ids.fresh())
    }

    /// An environment with one sandbox that a run has left.
    async fn one_reusable(&self, round: usize) -> EnvironmentId {
        let request = CreateEnvironment {
            company_id: company(),
            name: format!("round {round}"),
            driver: "sandbox".to_owned(),
            config: fake(json!({ "reuseLease": true })),
        };
        let environment = self.ledger.create_environment(caller(), request).await.expect("created").environment_id;
        let request = acquire_request(environment, Some(self.run()));
        let lease = self.ledger.acquire(caller(), request).await.expect("acquired").lease;
        let authority = Some(Authority::Holder { fencing_token: 1 });
        let released = release_request(lease.lease_id, authority, ReleaseStatus::Released);
        self.ledger.release(caller(), released).await.expect("released");
        environment
    }
}

/// One got what was left, and no two hold the same.
fn check(answers: &[(bool, String)], round: usize) {
    let reused = answers.iter().filter(|(reused, _)| *reused).count();
    let held: BTreeSet<&String> = answers.iter().map(|(_, held)| held).collect();
    assert_eq!((answers.len(), reused, held.len()), (RIVALS, 1, RIVALS), "round {round}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_library_exactly_one_gets_it() {
    let embedded = Embedded::open().await;
    for round in 0..ROUNDS {
        let environment = embedded.one_reusable(round).await;
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                let (ledger, request) = (embedded.ledger.clone(), acquire_request(environment, Some(embedded.run())));
                tokio::spawn(async move { ledger.acquire(caller(), request).await.expect("acquired") })
            })
            .collect();
        let mut answers = Vec::new();
        for rival in rivals {
            let answer = rival.await.expect("no panic");
            let held = answer.lease.provider_lease_id().expect("a sandbox").to_owned();
            answers.push((answer.how == AcquiredHow::Reused, held));
        }
        check(&answers, round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_api_exactly_one_gets_it() {
    let embedded = Embedded::open().await;
    let router = http::router(embedded.ledger.clone());
    for round in 0..ROUNDS {
        let environment = embedded.one_reusable(round).await;
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                let body = json!({ "companyId": company(), "environmentId": environment, "runId": embedded.run() });
                let request = Request::post("/v1/leases")
                    .header("host", "localhost")
                    .header("content-type", "application/json")
                    .body(Body::from(body.to_string()))
                    .expect("a request");
                let router = router.clone();
                tokio::spawn(async move {
                    let response = router.oneshot(request).await.expect("infallible");
                    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
                    serde_json::from_slice::<Value>(&bytes).expect("JSON")
                })
            })
            .collect();
        let mut answers = Vec::new();
        for rival in rivals {
            let answer = rival.await.expect("no panic");
            let held = answer["lease"]["providerLeaseId"].as_str().unwrap_or_else(|| panic!("a sandbox: {answer}"));
            answers.push((answer["how"] == "reused", held.to_owned()));
        }
        check(&answers, round);
    }
}
