//! One of everything: a script of commands, each under its own idempotency key, that can be broken off anywhere and told
//! again from the start. What was answered before must be answered the same.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chrono::TimeDelta;
use lease_events::id::{EnvironmentId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{Effect, ReleaseStatus};
use lease_events::seam::Clock;
use lease_ledger::commands::caller::Caller;
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::environment::probe::ProbeEnvironment;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::execute::ExecuteRequest;
use lease_ledger::commands::heartbeat::HeartbeatRequest;
use lease_ledger::commands::realize::RealizeRequest;
use lease_ledger::commands::release_run::ReleaseRunRequest;
use lease_ledger::commands::renew::RenewRequest;
use lease_ledger::commands::resume::ResumeRequest;
use lease_ledger::commands::secret::Source;
use lease_ledger::commands::secret::set::SetSecret;
use lease_ledger::commands::waive::WaiveRequest;
use lease_ledger::drivers::Workspace;
use lease_ledger::drivers::sandbox::fake::Trouble;
use serde_json::{Value, json};

use super::audit::log;
use crate::support::{Bench, acquire_request, caller, company, fake, operator, release_request, run};

/// What was answered: by key, the lease and its status; and the log as it was at the last answer.
#[derive(Default)]
pub(super) struct Answers {
    leases: Mutex<BTreeMap<String, LeaseId>>,
    pub(super) log: Mutex<Vec<lease_events::record::RecordedEvent>>,
}

impl Answers {
    /// An answer came: the same as before, where there was one.
    async fn came(&self, bench: &Bench, key: &str, lease: LeaseId) {
        let before = self.leases.lock().expect("nobody panics").insert(key.to_owned(), lease);
        assert!(before.is_none_or(|before| before == lease), "{key} answered {before:?}, and now {lease}");
        let log = log(bench).await;
        *self.log.lock().expect("nobody panics") = log;
    }
}

fn keyed(key: &str) -> Caller {
    caller().with_key(key)
}

struct Told<'a> {
    bench: &'a Bench,
    answers: &'a Answers,
}

impl Told<'_> {
    async fn environment(&self, name: &str, config: Value) -> Option<EnvironmentId> {
        let request =
            CreateEnvironment { company_id: company(), name: name.to_owned(), driver: "sandbox".to_owned(), config };
        let environment = self.bench.ledger.create_environment(keyed(&format!("create {name}")), request).await;
        Some(environment.expect("the environment is valid").environment_id)
    }

    async fn acquire(&self, environment: EnvironmentId, number: u32, lasts: Option<TimeDelta>) -> Option<LeaseState> {
        let mut request = acquire_request(environment, Some(run(number)));
        // The same request each time: a moment that does not move.
        request.requested_expires_at =
            lasts.map(|lasts| chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("a moment") + lasts);
        let key = format!("acquire {number}");
        let answer = self.bench.ledger.acquire(keyed(&key), request).await.ok()?;
        self.answers.came(self.bench, &key, answer.lease.lease_id).await;
        Some(answer.lease)
    }

    async fn told(&self, key: &str, result: Result<LeaseState, CommandError>) {
        if let Ok(lease) = result {
            self.answers.came(self.bench, key, lease.lease_id).await;
        }
    }

    async fn release(&self, lease: &LeaseState, number: u32) {
        let request = release_request(lease.lease_id, Some(operator()), ReleaseStatus::Released);
        let key = format!("release {number}");
        self.told(&key, self.bench.ledger.release(keyed(&key), request).await).await;
    }

    async fn work(&self, lease: &LeaseState) {
        let (ledger, lease_id) = (&self.bench.ledger, lease.lease_id);
        let (company_id, authority, if_revision) = (None, Some(operator()), None);
        let workspace = Workspace::default();
        let realize = RealizeRequest { company_id, lease_id, authority: authority.clone(), if_revision, workspace };
        self.told("realize", ledger.realize(keyed("realize"), realize).await).await;
        let execute = ExecuteRequest {
            company_id,
            lease_id,
            authority: authority.clone(),
            command: "write".to_owned(),
            args: vec!["notes".to_owned(), "kept".to_owned()],
            cwd: None,
            env: Vec::new(),
            stdin: None,
            timeout_ms: None,
        };
        let (output, _kept) = tokio::sync::mpsc::channel(8);
        let executed = ledger.execute(keyed("execute"), execute, output).await;
        self.told("execute", executed.map(|answer| answer.lease)).await;
        let expires_at = chrono::DateTime::from_timestamp(1_798_761_600, 0).expect("a moment");
        let renew = RenewRequest { company_id, lease_id, authority: authority.clone(), if_revision, expires_at };
        self.told("renew", ledger.renew(keyed("renew"), renew).await).await;
        let resume = ResumeRequest { company_id, lease_id, authority, if_revision };
        self.told("resume", ledger.resume(keyed("resume"), resume).await).await;
    }
}

/// Tells the script from the start. Commands that recovery has overtaken may be refused; what they are about is asked
/// of the audit.
pub(super) async fn tell(bench: &Bench, answers: &Answers) -> Option<()> {
    let told = Told { bench, answers };
    let ledger = &bench.ledger;
    let plain = told.environment("plain", fake(json!({ "acquireDelayMs": 20, "releaseDelayMs": 5 }))).await?;
    let shared = told.environment("shared", fake(json!({ "reuseLease": true, "resumeDelayMs": 10 }))).await?;
    let source = Source::Value("a value of some length".to_owned().into());
    let secret = SetSecret { company_id: company(), name: "token".to_owned(), source };
    ledger.set_secret(keyed("secret"), secret).await.expect("a secret is kept");
    let probe = ProbeEnvironment { company_id: company(), environment_id: plain };
    let _ = ledger.probe_environment(keyed("probe"), probe).await;

    let alive = HeartbeatRequest { company_id: company(), run_id: run(8), time_to_live_ms: 60_000 };
    let _ = ledger.heartbeat(keyed("heartbeat"), alive).await;

    // A sandbox that is worked in, kept, taken over, and taken over again in vain.
    if let Some(first) = told.acquire(shared, 1, None).await {
        told.work(&first).await;
        told.release(&first, 1).await;
    }
    if let Some(second) = told.acquire(shared, 2, None).await {
        told.release(&second, 2).await;
    }
    bench.provider.inject(Effect::Resume, Trouble::Refused);
    told.acquire(shared, 3, None).await;
    let ended = ReleaseRunRequest { company_id: company(), run_id: run(3), status: ReleaseStatus::Released };
    let _ = ledger.release_run(keyed("release run 3"), ended).await;

    // One that is destroyed, one that expires, one whose release fails and is waived.
    if let Some(third) = told.acquire(plain, 4, None).await {
        let (company_id, authority, if_revision) = (None, Some(operator()), None);
        let request = DestroyRequest { company_id, lease_id: third.lease_id, authority, if_revision };
        told.told("destroy", ledger.destroy(keyed("destroy"), request).await).await;
    }
    told.acquire(plain, 5, Some(TimeDelta::hours(2))).await;
    if let Some(sixth) = told.acquire(plain, 6, None).await {
        bench.provider.inject(Effect::Release, Trouble::NotDone);
        told.release(&sixth, 6).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if let Some(seventh) = told.acquire(plain, 7, None).await {
        // The sandbox goes by itself, and the provider cannot be asked about it.
        bench.provider.inject(Effect::Release, Trouble::Unknown);
        told.release(&seventh, 7).await;
        let reason = "it was seen to be gone".to_owned();
        let request = WaiveRequest { company_id: None, lease_id: seventh.lease_id, reason, if_revision: None };
        bench.provider.forget(seventh.lease_id);
        told.told("waive", ledger.waive(keyed("waive"), request).await).await;
    }
    assert!(bench.clock.now() > chrono::DateTime::UNIX_EPOCH);
    Some(())
}
