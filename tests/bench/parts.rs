//! What the benchmarks share: a ledger on a SQLite file whose store can be looked into, and figures.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lease_events::id::{CompanyId, EnvironmentId, RunId};
use lease_events::seam::crash::NoCrash;
use lease_events::seam::{Clock, Ids, SystemClock, SystemIds};
use lease_ledger::commands::Context;
use lease_ledger::commands::acquire::AcquireRequest;
use lease_ledger::commands::caller::Caller;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::locks::KeyedLocks;
use lease_ledger::commands::owe::CareSettings;
use lease_ledger::commands::owners::ToldOwners;
use lease_ledger::drivers::sandbox::SandboxDriver;
use lease_ledger::drivers::sandbox::fake::FakeProvider;
use lease_ledger::drivers::{Drivers, EnvironmentDriver};
use lease_ledger::ledger::Ledger;
use lease_ledger::secrets::SecretProviders;
use lease_ledger::secrets::ledger::LedgerSecrets;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::sealed::MemorySealed;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use serde_json::Value;

/// A ledger on a file, its store, and the company that uses it.
pub(crate) struct Parts {
    pub(crate) ledger: Ledger,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) company: CompanyId,
}

/// A ledger in `folder`, with the fake provider in memory.
pub(crate) async fn open(folder: &Path) -> Parts {
    let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let projections = SqlProjections::new_standard(Database::Sqlite);
    let options = SqliteOptions {
        path: folder.join("ledger.db"),
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        hook: Some(projections.clone()),
    };
    let store = SqliteStore::open(options).await.expect("a store");
    let read_model = SqlReadModel::attach(projections, store.clone()).await.expect("projections");
    let provider = FakeProvider::in_memory(Arc::clone(&clock));
    let sandbox = SandboxDriver::new([Arc::new(provider) as _]);
    let sealed = Arc::new(MemorySealed::default());
    let secrets = SecretProviders::new(LedgerSecrets::new(sealed, Arc::clone(&clock), None), []);
    let ledger = Ledger::new(Context {
        ledger_id: store.ledger_id(),
        store: store.clone(),
        read_model,
        drivers: Drivers::new([Arc::new(sandbox) as Arc<dyn EnvironmentDriver>]),
        secrets,
        clock,
        ids,
        owner: "bench".to_owned(),
        owners: Arc::<ToldOwners>::default(),
        care: CareSettings::default(),
        crash: Arc::new(NoCrash),
        locks: KeyedLocks::default(),
    });
    Parts { ledger, store, company: CompanyId::derived(&["bench"]) }
}

impl Parts {
    /// An environment with this config.
    pub(crate) async fn environment(&self, name: &str, config: Value) -> EnvironmentId {
        let request =
            CreateEnvironment { company_id: self.company, name: name.to_owned(), driver: "sandbox".to_owned(), config };
        self.ledger.create_environment(Caller::service("bench"), request).await.expect("an environment").environment_id
    }

    /// The plainest acquire of a run.
    pub(crate) fn acquire(&self, environment_id: EnvironmentId, run_id: RunId) -> AcquireRequest {
        AcquireRequest {
            company_id: self.company,
            environment_id,
            run_id: Some(run_id),
            issue_id: None,
            agent_id: None,
            execution_workspace_id: None,
            execution_workspace_mode: None,
            adapter_type: None,
            requested_expires_at: None,
        }
    }
}

/// A fresh run.
pub(crate) fn fresh_run() -> RunId {
    RunId(SystemIds.fresh())
}

/// The value that this share of the sorted times stays below.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list of a few thousand times"
    )]
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// A count per second.
#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
pub(crate) fn rate(count: u64, within: Duration) -> f64 {
    count as f64 / within.as_secs_f64()
}

/// The resident memory of this process, in MiB.
pub(crate) fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1_024
}
