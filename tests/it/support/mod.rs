//! What the topics share: a simulated clock and counted ids, and a ledger in memory whose fake provider a test can
//! look into.

pub(crate) mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::environment::EnvironmentState;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_events::seam::{Clock, Ids};
use lease_ledger::commands::acquire::{AcquireAnswer, AcquireRequest};
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::caller::Caller;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::release::ReleaseRequest;
use lease_ledger::drivers::local::LocalDriver;
use lease_ledger::drivers::sandbox::SandboxDriver;
use lease_ledger::drivers::sandbox::fake::FakeProvider;
use lease_ledger::drivers::{Drivers, EnvironmentDriver};
use lease_ledger::ledger::Ledger;
use lease_ledger::queries::AsOf;
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::wiring;
use serde_json::{Value, json};
use uuid::Uuid;

/// A clock that follows tokio's: it moves by itself only where tokio's time is paused and a test waits.
pub(crate) struct SimulatedClock {
    began: tokio::time::Instant,
    skipped_ms: AtomicI64,
}

impl SimulatedClock {
    /// A clock that shows 2026-01-01 now.
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self { began: tokio::time::Instant::now(), skipped_ms: AtomicI64::new(0) })
    }

    /// Lets the wall clock jump, ahead or back; timers do not notice.
    pub(crate) fn skip(&self, by: TimeDelta) {
        self.skipped_ms.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        let began = DateTime::from_timestamp(1_767_225_600, 0).expect("a valid moment");
        let skipped = TimeDelta::milliseconds(self.skipped_ms.load(Ordering::SeqCst));
        began + TimeDelta::from_std(self.began.elapsed()).expect("small") + skipped
    }
}

/// Ids counted from 1.
#[derive(Default)]
pub(crate) struct CountedIds(AtomicU64);

impl Ids for CountedIds {
    fn fresh(&self) -> Uuid {
        Uuid::from_u128((7 << 76) | u128::from(self.0.fetch_add(1, Ordering::SeqCst) + 1))
    }
}

/// A ledger in memory, its clock, and its fake provider.
pub(crate) struct Bench {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) provider: FakeProvider,
}

/// The company of all tests that need only one.
pub(crate) fn company() -> CompanyId {
    CompanyId::derived(&["company"])
}

/// The run of this number.
pub(crate) fn run(number: u32) -> RunId {
    RunId::derived(&[&number.to_string()])
}

/// Who acts in tests.
pub(crate) fn caller() -> Caller {
    Caller::service("test")
}

/// An operator who tests.
pub(crate) fn operator() -> Authority {
    Authority::Operator { reason: "a test".to_owned() }
}

/// The drivers of tests: `local`, and `sandbox` with a fake provider in memory.
pub(crate) fn drivers(provider: &FakeProvider) -> Drivers {
    let sandbox = SandboxDriver::new([Arc::new(provider.clone()) as _]);
    Drivers::new([
        Arc::new(LocalDriver::new(Arc::new(CountedIds::default()))) as Arc<dyn EnvironmentDriver>,
        Arc::new(sandbox),
    ])
}

/// A config of the fake provider, with further keys.
pub(crate) fn fake(further: Value) -> Value {
    let mut config = json!({ "provider": "fake" });
    let (Value::Object(config_keys), Value::Object(further)) = (&mut config, further) else { panic!("an object") };
    config_keys.extend(further);
    config
}

impl Bench {
    /// A fresh one. Must be called inside a tokio runtime.
    pub(crate) fn new() -> Self {
        let clock = SimulatedClock::start();
        let provider = FakeProvider::in_memory(clock.clone());
        let ledger =
            wiring::open_in_memory(clock.clone(), Arc::new(CountedIds::default()), &SecretSettings::default(), |_| {
                Ok(drivers(&provider))
            });
        let ledger = ledger.expect("memory is always there");
        Self { ledger, clock, provider }
    }

    /// Creates an environment of the sandbox driver with this config.
    pub(crate) async fn environment(&self, name: &str, config: Value) -> EnvironmentState {
        self.environment_of("sandbox", name, config).await
    }

    /// Creates an environment.
    pub(crate) async fn environment_of(&self, driver: &str, name: &str, config: Value) -> EnvironmentState {
        let request =
            CreateEnvironment { company_id: company(), name: name.to_owned(), driver: driver.to_owned(), config };
        self.ledger.create_environment(caller(), request).await.expect("the environment is valid")
    }

    /// Acquires for a run.
    pub(crate) async fn acquire(
        &self,
        environment: EnvironmentId,
        run_id: RunId,
    ) -> Result<AcquireAnswer, CommandError> {
        self.ledger.acquire(caller(), acquire_request(environment, Some(run_id))).await
    }

    /// Releases a lease as its holder would.
    pub(crate) async fn release(&self, lease: &LeaseState, status: ReleaseStatus) -> Result<LeaseState, CommandError> {
        let authority = lease.fencing_token().map(|fencing_token| Authority::Holder { fencing_token });
        self.ledger.release(caller(), release_request(lease.lease_id, authority, status)).await
    }

    /// The lease as it is now.
    pub(crate) async fn lease(&self, lease_id: LeaseId) -> LeaseState {
        self.ledger.lease(lease_id, None, AsOf::Now).await.expect("the lease is there")
    }

    /// The types of a lease's events, without their common prefix.
    pub(crate) async fn story(&self, lease_id: LeaseId) -> Vec<String> {
        let events = self.ledger.history(lease_id, None).await.expect("the lease is there");
        events.iter().map(|recorded| recorded.event_type.trim_start_matches("lease-").to_owned()).collect()
    }

    /// Lets hours pass: the wall clock jumps in steps, and between them whatever is due is seen to.
    pub(crate) async fn hours(&self, hours: u32) {
        for _ in 0..hours * 4 {
            self.clock.skip(TimeDelta::minutes(15));
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    /// How many sandboxes the provider holds.
    pub(crate) fn held(&self) -> usize {
        self.provider.held().expect("memory can be read").len()
    }
}

/// The plainest acquire.
pub(crate) fn acquire_request(environment_id: EnvironmentId, run_id: Option<RunId>) -> AcquireRequest {
    AcquireRequest {
        company_id: company(),
        environment_id,
        run_id,
        issue_id: None,
        agent_id: None,
        execution_workspace_id: None,
        execution_workspace_mode: None,
        adapter_type: None,
        requested_expires_at: None,
    }
}

/// The plainest release.
pub(crate) fn release_request(
    lease_id: LeaseId,
    authority: Option<Authority>,
    status: ReleaseStatus,
) -> ReleaseRequest {
    ReleaseRequest { company_id: Some(company()), lease_id, authority, if_revision: None, status }
}
