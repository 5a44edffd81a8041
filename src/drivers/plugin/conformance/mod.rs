//! The conformance kit for provider authors: runs a worker through a list of cases, and says what it may be trusted with.
//!
//! - [`case`]: the cases, and the facts that they show.
//! - [`subject`]: what is checked. `kit`, `cleanup`, `switch`: what the cases work with.
//! - `schema`, `acquire`, `listing`, `ends`, `strangers`, `errors`, `restart`, `execute`: the cases, one family a file.
//!
//! **Invariants:** the worker is called through the same bridge as by the ledger, so that what is shown is what the
//! ledger will see. The ledger enforces just what was shown (`workers::trust`). What the check made it removes, also
//! where it is interrupted, and it says what it could not remove.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lease_events::id::{CompanyId, EnvironmentId, LedgerId};
use lease_events::seam::Ids;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::case::{Case, CaseReport, Verdict};
pub use self::cleanup::Left;
use self::kit::{Kit, Stop, Tried};
use self::subject::{Subject, Values};
use self::switch::Switch;
use super::Bridge;
use super::bridge::{CALL_TIMEOUT, LIST, VISIBILITY_DELAY};
use super::schema as config_schema;
use crate::drivers::InvalidConfig;
use crate::drivers::sandbox::plugin_backed::SHARED_KEYS;
use crate::workers::host_services::PluginServices;
use crate::workers::manifest::{DriverDeclaration, DriverKind};
use crate::workers::process::Launcher;
use crate::workers::registry::{InstalledPlugin, Registry, RegistryError};
use crate::workers::supervisor::Timings;
use crate::workers::trust::{self, Checked, Trust};
use crate::workers::{Need, NotRunning, WorkerHost, WorkerHostParts};

pub mod case;
pub mod subject;

mod acquire;
mod cleanup;
mod ends;
mod errors;
mod execute;
mod kit;
mod listing;
mod restart;
mod schema;
mod strangers;
mod switch;

#[cfg(test)]
mod tests;

/// The methods of workers that cases ask for.
mod method {
    pub(super) const VALIDATE: &str = "environmentValidateConfig";
    pub(super) const ACQUIRE: &str = "environmentAcquireLease";
    pub(super) const RESUME: &str = "environmentResumeLease";
    pub(super) const RELEASE: &str = "environmentReleaseLease";
    pub(super) const DESTROY: &str = "environmentDestroyLease";
    pub(super) const REALIZE: &str = "environmentRealizeWorkspace";
    pub(super) const EXECUTE: &str = "environmentExecute";
    pub(super) const LIST: &str = super::LIST;
}

/// How long a check waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the worker to start: 15 s, as it may take to initialize.
    pub start: Duration,
    /// For the answer to a call, beyond the config's own time-out: 30 s.
    pub call: Duration,
    /// For the answer that is to come late: 50 ms, below what any provider takes.
    pub late: Duration,
    /// Before a worker is killed that is about to acquire: 50 ms, for the request to reach it.
    pub before_kill: Duration,
    /// For a listing to show what is there, and not to show what is gone: a minute, as is assumed where nobody checked.
    pub visibility: Duration,
    /// Before a killed worker is started again: 100 ms, then doubled. The ledger's own second would only be waited for.
    pub restart: Duration,
    /// For a worker to end by itself: 10 s, as the ledger waits.
    pub shutdown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            start: Timings::default().initialize,
            call: CALL_TIMEOUT,
            late: Duration::from_millis(50),
            before_kill: Duration::from_millis(50),
            visibility: VISIBILITY_DELAY,
            restart: Duration::from_millis(100),
            shutdown: Timings::default().shutdown,
        }
    }
}

/// What a check needs of the outside.
#[derive(Clone)]
pub struct Means {
    /// Starts the worker.
    pub launcher: Arc<dyn Launcher>,
    /// Makes ids.
    pub ids: Arc<dyn Ids>,
    /// How long it waits.
    pub patience: Patience,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The manifest cannot be read or is not valid.
    #[error("The manifest {} cannot be used: {}.", .path.display(), .cause.trim_end_matches('.'))]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What was seen.
        cause: String,
    },
    /// It declares no driver.
    #[error("The plugin \"{plugin_key}\" declares no environment driver; there is nothing to check.")]
    NoDriver {
        /// The plugin.
        plugin_key: String,
    },
    /// It declares several.
    #[error("The plugin \"{plugin_key}\" declares several drivers; name one with --driver: {known}.")]
    WhichDriver {
        /// The plugin.
        plugin_key: String,
        /// Their keys.
        known: String,
    },
    /// It does not declare that one.
    #[error("The plugin \"{plugin_key}\" declares no driver \"{driver_key}\"; it declares: {known}.")]
    UnknownDriver {
        /// The plugin.
        plugin_key: String,
        /// As given.
        driver_key: String,
        /// Those that there are.
        known: String,
    },
    /// Its worker may not see that variable.
    #[error(transparent)]
    Grant(RegistryError),
    /// The driver does not take the config.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// The worker does not run.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The plugin.
    pub plugin_key: String,
    /// Its version.
    pub version: String,
    /// The driver.
    pub driver_key: String,
    /// The cases that were run, in order.
    pub cases: Vec<CaseReport>,
    /// What it may be trusted with.
    pub trust: Trust,
    /// What could not be removed.
    pub left: Vec<Left>,
    /// Whether all cases were run.
    pub complete: bool,
    /// Of what: what a record of it is bound to.
    #[serde(skip)]
    digest: String,
}

impl Report {
    /// The cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|one| one.verdict == Verdict::Failed)
    }

    /// Keeps it with the installed plugin, in the place of the one before; from then on the ledger trusts the driver
    /// with what was shown. Refused where what is installed is not what was checked.
    pub fn record(&self, registry: &Registry, at: DateTime<Utc>) -> Result<(), RegistryError> {
        let checked = Checked {
            digest: self.digest.clone(),
            checked_at: at,
            failed: self.failed().map(|one| one.case.name().to_owned()).collect(),
            trust: self.trust.clone(),
        };
        registry.record_check(&self.plugin_key, &self.driver_key, checked).map(drop)
    }
}

/// Runs a worker of its own through all cases. Where `stop` is cancelled it runs no further one, cleans up, and reports.
pub async fn check(subject: Subject, means: &Means, stop: &CancellationToken) -> Result<Report, CheckError> {
    let driver = subject::driver(&subject.plugin, subject.driver_key.as_deref())?;
    let (version, digest) = (subject.plugin.manifest.version.clone(), trust::digest(&subject.plugin));
    let (workers, kit) = match open(subject, driver, means).await {
        Ok(opened) => opened,
        Err((workers, error)) => {
            workers.stop_all().await;
            return Err(error);
        }
    };
    let mut cases = Vec::with_capacity(Case::ALL.len());
    for case in Case::ALL {
        let since = Instant::now();
        let Some(tried) = stop.run_until_cancelled(run(&kit, case)).await else { break };
        let (verdict, told) = match tried {
            Ok(()) => (Verdict::Passed, None),
            Err(Stop::Failed(sentence)) => (Verdict::Failed, Some(sentence)),
            Err(Stop::NotOffered(sentence)) => (Verdict::NotOffered, Some(sentence)),
        };
        tracing::info!(case = case.name(), verdict = verdict.word(), "a case is over");
        let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        cases.push(CaseReport { case, verdict, told, took_ms });
    }
    let left = kit.clean().await;
    workers.stop_all().await;
    let visibility = *kit.visibility.lock().unwrap_or_else(PoisonError::into_inner);
    let trust = case::trust(&cases, visibility);
    let complete = cases.len() == Case::ALL.len();
    let Kit { plugin_key, driver, .. } = kit;
    Ok(Report { plugin_key, version, driver_key: driver.driver_key, cases, trust, left, complete, digest })
}

/// The worker, started, and the config in its normal form.
async fn open(
    subject: Subject,
    driver: DriverDeclaration,
    means: &Means,
) -> Result<(Arc<WorkerHost>, Kit), (Arc<WorkerHost>, CheckError)> {
    let Subject { plugin, driver_key: _, mut config, mut other_config } = subject;
    let fields = config_schema::secret_fields(driver.config_schema.as_ref());
    let mut values = Values::default();
    values.take(&mut config, &fields, means.ids.as_ref());
    if let Some(other) = &mut other_config {
        values.take(other, &fields, means.ids.as_ref());
    }
    let plugin_key = plugin.key().to_owned();
    let switch = Arc::new(Switch::new(Arc::clone(&means.launcher)));
    let patience = means.patience;
    let timings = Timings {
        shutdown: patience.shutdown,
        terminate: patience.shutdown.min(Timings::default().terminate),
        restart_first: patience.restart,
        start_wait: patience.start,
        ..Timings::default()
    };
    // Also one that is disabled: what is to be enabled is checked first.
    let plugin = InstalledPlugin { enabled: true, ..plugin };
    let registry = Arc::new(Registry::fixed(plugin, Arc::clone(&means.ids)));
    let workers = WorkerHost::new(WorkerHostParts {
        services: Arc::new(PluginServices::new(Arc::clone(&registry))),
        registry,
        launcher: Arc::clone(&switch) as Arc<dyn Launcher>,
        timings,
        instance_id: means.ids.fresh().to_string(),
    });
    let bridge = Bridge::new(Arc::clone(&workers), Arc::new(values));
    let normal = async {
        workers.running(&plugin_key, Need::Work).await?;
        let config = normal_form(&bridge, &plugin_key, &driver, config).await?;
        let other = match other_config {
            Some(other) => Some(normal_form(&bridge, &plugin_key, &driver, other).await?),
            None => None,
        };
        Ok::<_, CheckError>((config, other))
    };
    let (config, other_config) = match normal.await {
        Ok(configs) => configs,
        Err(error) => return Err((workers, error)),
    };
    // The host is new, so nobody took them before.
    let late = workers.take_late_answers().unwrap_or_else(|| tokio::sync::mpsc::channel(1).1);
    let kit = Kit {
        bridge,
        switch,
        plugin_key,
        driver,
        config,
        other_config,
        patience,
        ids: Arc::clone(&means.ids),
        ledger_id: LedgerId(means.ids.fresh()),
        company_id: CompanyId(means.ids.fresh()),
        environment_id: EnvironmentId(means.ids.fresh()),
        late: tokio::sync::Mutex::new(late),
        made: Mutex::default(),
        pending: Mutex::default(),
        visibility: Mutex::default(),
    };
    Ok((workers, kit))
}

/// The config as an environment would keep it. The keys that the `sandbox` driver shares with its providers are not
/// their own to judge.
async fn normal_form(
    bridge: &Bridge,
    plugin_key: &str,
    driver: &DriverDeclaration,
    config: Map<String, Value>,
) -> Result<Map<String, Value>, InvalidConfig> {
    let shared: &[&str] = if driver.kind == DriverKind::SandboxProvider { &SHARED_KEYS } else { &[] };
    let (shared_config, own): (Map<_, _>, Map<_, _>) =
        config.into_iter().partition(|(key, _)| shared.contains(&key.as_str()));
    let mut normal = bridge.validate(plugin_key, driver, &own, shared).await?;
    normal.extend(shared_config);
    Ok(normal)
}

async fn run(kit: &Kit, case: Case) -> Tried {
    match case {
        Case::DeclaredSchema => schema::declared(kit).await,
        Case::DuplicateAcquire => acquire::duplicate(kit).await,
        Case::LateSuccess => acquire::late(kit).await,
        Case::LostReply => acquire::lost_reply(kit).await,
        Case::Listing => listing::listing(kit).await,
        Case::DuplicateRelease => ends::duplicate_release(kit).await,
        Case::ReleaseKeeps => ends::release_keeps(kit).await,
        Case::DuplicateDestroy => ends::duplicate_destroy(kit).await,
        Case::DestroyRemoves => ends::destroy_removes(kit).await,
        Case::ConfirmsAbsence => ends::confirms_absence(kit).await,
        Case::NotGoneForOthers => strangers::not_gone_for_others(kit).await,
        Case::OtherCredentials => strangers::other_credentials(kit).await,
        Case::OtherLedger => strangers::other_ledger(kit).await,
        Case::StaleToken => strangers::stale_token(kit).await,
        Case::ErrorCodes => errors::codes(kit).await,
        Case::Restart => restart::knows_what_was_made(kit).await,
        Case::ExecuteEnv => execute::env(kit).await,
        Case::ExecuteStdin => execute::stdin(kit).await,
        Case::ExecuteExitCode => execute::exit_code(kit).await,
        Case::ExecuteTimeout => execute::timeout(kit).await,
        Case::ExecuteSeparators => execute::separators(kit).await,
        Case::CleansUp => listing::cleans_up(kit).await,
    }
}
