//! Wiring: the only file that names a concrete store, driver or projection executor, and joins them to a ledger.

mod homes;
#[cfg(feature = "kurrentdb")]
mod kurrent;
mod memory;
mod sql;
mod store_url;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use lease_events::id::LedgerId;
use lease_events::seam::crash::{CrashSeam, NoCrash};
use lease_events::seam::{Clock, Ids, SystemClock, SystemIds};
use lease_events::store::EventStore;
use lease_projections::read_model::ReadModel;
use tokio::sync::mpsc;

use crate::commands::Context;
use crate::commands::locks::KeyedLocks;
pub use crate::commands::owe::CareSettings;
use crate::commands::owners::{Owners, ToldOwners};
use crate::commands::secret::resolve::SecretReads;
use crate::drivers::local::LocalDriver;
use crate::drivers::plugin::{Bridge, PluginDriver, conformance, late_lease};
use crate::drivers::sandbox::SandboxDriver;
use crate::drivers::sandbox::bubblewrap::{self, BubblewrapProvider};
use crate::drivers::sandbox::fake::{self, FakeProvider};
use crate::drivers::sandbox::plugin_backed::PluginProviders;
use crate::drivers::secrets::SecretResolver;
use crate::drivers::ssh::SshDriver;
use crate::drivers::{Drivers, EnvironmentDriver};
use crate::ledger::Ledger;
use crate::processes::crash::{CRASH_AT, InvalidCrashAt, KillAt};
use crate::secrets::SecretProviders;
use crate::secrets::key::KeyError;
use crate::secrets::process::forbid_dumps;
use crate::secrets::redact::Redactor;
use crate::secrets::settings::SecretSettings;
use crate::workers::calls::LateAnswer;
use crate::workers::host_services::PluginServices;
use crate::workers::process::{SystemLauncher, end_orphans};
use crate::workers::registry::Registry;
use crate::workers::supervisor::Timings;
use crate::workers::{WorkerHost, WorkerHostParts};

pub use self::homes::{ROLES, StoreStatus, attach, home_for, home_of, migrate, status_of};
#[cfg(feature = "kurrentdb")]
pub use self::kurrent::open_kurrent_with;
pub use self::memory::{MemoryHome, open_in_memory};
use self::sql::declare_owner;
pub use self::sql::{open_postgres_with, open_sqlite, open_sqlite_with};
pub use self::store_url::{InvalidStoreUrl, KurrentUrl, PostgresUrl, StoreUrl};

/// What a ledger is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the events are kept.
    pub store: StoreUrl,
    /// Where the projections and sealed secrets of a ledger on KurrentDB are kept: a file or a database. Those of other
    /// ledgers are beside their events. Default: `projections.db` in the data folder.
    pub projections: StoreUrl,
    /// Where built-in providers keep what they make.
    pub data_dir: PathBuf,
    /// Where secrets come from.
    pub secrets: SecretSettings,
    /// The variables of this process that a plugin may be granted; any but the ledger's own where absent. A server names
    /// them, since not only the operator can speak to it.
    pub plugin_variables: Option<Vec<String>>,
    /// How owed cleanup is tried again, and what is never destroyed by the ledger itself.
    pub care: CareSettings,
    /// How long a sign of life of this process counts for the others on its database: whoever is silent for longer is taken
    /// for dead, and what it left is taken over. Default: 10 seconds.
    pub owner_time_to_live: Duration,
}

impl Settings {
    /// A ledger on this store, with every default; providers keep what they make below `data_dir`.
    #[must_use]
    pub fn new(store: StoreUrl, data_dir: PathBuf) -> Self {
        let projections = StoreUrl::Sqlite(data_dir.join(PROJECTIONS_FILE));
        Self {
            store,
            projections,
            data_dir,
            secrets: SecretSettings::default(),
            plugin_variables: None,
            care: CareSettings::default(),
            owner_time_to_live: OWNER_TIME_TO_LIVE,
        }
    }
}

/// The file in the data folder that is the default of [`Settings::projections`].
const PROJECTIONS_FILE: &str = "projections.db";

/// The default of [`Settings::owner_time_to_live`]: a paused machine of a cloud comes back in less, mostly.
pub const OWNER_TIME_TO_LIVE: Duration = Duration::from_secs(10);

/// The sandbox providers that are no plugins'.
const BUILT_IN_PROVIDERS: [&str; 2] = [bubblewrap::KEY, fake::KEY];

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of a provider or store cannot be made.
    #[error("The folder {} cannot be used: {cause}.", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The key that secrets are sealed with is not there, though one is named.
    #[error(transparent)]
    SecretKey(#[from] KeyError),
    /// The crash that a test asks for is none.
    #[error(transparent)]
    CrashAt(#[from] InvalidCrashAt),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] lease_stores::sqlite::OpenError),
    /// The database cannot be opened as a store.
    #[error(transparent)]
    Database(#[from] lease_stores::postgres::OpenError),
    /// The server's address cannot be read.
    #[cfg(feature = "kurrentdb")]
    #[error(transparent)]
    KurrentUrl(#[from] lease_stores::kurrentdb::InvalidKurrentUrl),
    /// The server cannot be followed, or not into these projections.
    #[cfg(feature = "kurrentdb")]
    #[error(transparent)]
    Mirror(#[from] lease_stores::kurrentdb::MirrorError),
    /// This program has no client of `KurrentDB`.
    #[error(
        "this lease-ledger was built without KurrentDB; build it with: cargo install --path . --locked --features kurrentdb"
    )]
    NotBuilt,
    /// The projections of a ledger on `KurrentDB` are to be where they cannot be.
    #[error(
        "the projections of a ledger on KurrentDB are in a file or a database; give sqlite:PATH or postgres://… for them"
    )]
    NoProjections,
    /// Only a ledger on `KurrentDB` has its projections elsewhere.
    #[error("only a ledger on KurrentDB keeps its projections elsewhere; give its esdb:// address as the store")]
    NothingToAttach,
    /// Events are to be written past the ledger that is on a server.
    #[error("a ledger is copied from KurrentDB, never to it; give sqlite:PATH or postgres://… to copy to")]
    NotCopiedTo,
    /// There is no ledger where one must be.
    #[error("{store} holds no ledger")]
    NoLedger {
        /// The store.
        store: String,
    },
    /// An open store cannot be read.
    #[error("the store cannot be read: {cause}")]
    Unreadable {
        /// What was said.
        cause: String,
    },
    /// Something lasting was to be done with a store that is gone when the process ends.
    #[error("memory: keeps nothing; give sqlite:PATH or postgres://…")]
    NotKept,
    /// The projections cannot be prepared.
    #[error(transparent)]
    Projections(#[from] lease_projections::projection::QueryError),
}

/// Opens a ledger on a store, with the built-in drivers. From then on the process leaves no core dump. Recovery is
/// started by [`Ledger::start_recovery`].
pub async fn open(settings: &Settings) -> Result<Ledger, OpenError> {
    forbid_dumps();
    make_folder(&settings.data_dir)?;
    let seams = Seams { care: settings.care, crash: crash_asked_for()?, ..Seams::real() };
    let (clock, ids) = (Arc::clone(&seams.clock), Arc::clone(&seams.ids));
    let mut hosted = None;
    let drivers = |secrets, ledger_id| {
        let workers = hosted.insert(worker_host(settings, &ids, ledger_id));
        built_in_drivers(&settings.data_dir, secrets, workers, &clock, &ids)
    };
    let ledger = match &settings.store {
        StoreUrl::Memory => MemoryHome::new(&seams).open(seams, &settings.secrets, drivers),
        StoreUrl::Sqlite(path) => {
            make_folder_of(path)?;
            let owners = declare_owner(path, &seams)?;
            open_sqlite_with(path, Seams { owners, ..seams }, &settings.secrets, drivers).await
        }
        StoreUrl::Postgres(url) => {
            open_postgres_with(url, settings.owner_time_to_live, seams, &settings.secrets, drivers).await
        }
        #[cfg(feature = "kurrentdb")]
        StoreUrl::Kurrent(url) => {
            let Settings { projections, owner_time_to_live, secrets, .. } = settings;
            open_kurrent_with(url, projections, *owner_time_to_live, seams, secrets, drivers).await
        }
        #[cfg(not(feature = "kurrentdb"))]
        StoreUrl::Kurrent(_) => Err(OpenError::NotBuilt),
    }?;
    Ok(match hosted {
        Some(workers) => hosting(ledger, workers),
        None => ledger,
    })
}

/// What a ledger takes from the world around it, besides its store and drivers.
#[derive(Clone)]
pub struct Seams {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// This process, as in-flight effects name their owner: unique to this process and start.
    pub owner: String,
    /// Which other processes are dead.
    pub owners: Arc<dyn Owners>,
    /// What happens at crash points.
    pub crash: Arc<dyn CrashSeam>,
    /// How owed cleanup is tried again, and what is never destroyed by the ledger itself.
    pub care: CareSettings,
}

impl Seams {
    /// This time and these ids; no owner is known to be dead, and nothing crashes.
    #[must_use]
    pub fn of(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        // A process that comes back under the same number is another owner.
        let owner = format!("{}-{}", std::process::id(), ids.fresh());
        let (owners, crash) = (Arc::<ToldOwners>::default(), Arc::new(NoCrash));
        Self { clock, ids, owner, owners, crash, care: CareSettings::default() }
    }

    fn real() -> Self {
        Self::of(Arc::new(SystemClock), Arc::new(SystemIds))
    }
}

fn crash_asked_for() -> Result<Arc<dyn CrashSeam>, OpenError> {
    match std::env::var(CRASH_AT) {
        Ok(text) => Ok(Arc::new(KillAt::parse(&text)?)),
        Err(_) => Ok(Arc::new(NoCrash)),
    }
}

/// The ledger with its worker host, which ends with it, and ends first what a killed process left of its workers.
fn hosting(ledger: Ledger, workers: Arc<WorkerHost>) -> Ledger {
    if workers.registry().all().is_ok_and(|plugins| !plugins.is_empty()) {
        let (ledger_id, terminate) = (ledger.ledger_id(), workers.timings().terminate);
        ledger.in_background(|stopping| end_orphans(ledger_id, terminate, stopping));
    }
    if let Some(answers) = workers.take_late_answers() {
        let next = |mut answers: mpsc::Receiver<LateAnswer>| async { Some((answers.recv().await?, answers)) };
        let leases = stream::unfold(answers, next).filter_map(|late| std::future::ready(late_lease(&late)));
        ledger.settle_late(leases.boxed());
    }
    let stopped = Arc::clone(&workers);
    ledger.at_stop(async move { stopped.stop_all().await });
    ledger.hosting(workers)
}

/// The drivers that are built in; providers keep what they make below `data_dir`, and plugins are read from there.
pub fn built_in_drivers(
    data_dir: &Path,
    secrets: Arc<dyn SecretResolver>,
    workers: &Arc<WorkerHost>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
) -> Result<Drivers, OpenError> {
    let bubblewrap = BubblewrapProvider::new(&data_dir.join("bubblewrap"), Arc::clone(clock));
    let records = data_dir.join("fake");
    let fake = FakeProvider::on_disk(&records, Arc::clone(clock))
        .map_err(|cause| OpenError::Folder { path: records, cause })?;
    let bridge = Bridge::new(Arc::clone(workers), Arc::clone(&secrets));
    let sandbox = SandboxDriver::new([Arc::new(bubblewrap) as _, Arc::new(fake) as _])
        .with_source(Arc::new(PluginProviders::new(bridge.clone())));
    Ok(Drivers::new([
        Arc::new(LocalDriver::new(Arc::clone(ids))) as Arc<dyn EnvironmentDriver>,
        Arc::new(SshDriver::new(secrets, Arc::clone(ids))),
        Arc::new(sandbox),
        Arc::new(PluginDriver::new(bridge)),
    ]))
}

/// The list of the plugins that are installed in `data_dir`.
pub fn plugin_registry(data_dir: &Path, ids: &Arc<dyn Ids>) -> Registry {
    Registry::new(data_dir.join("plugins.json"), Arc::clone(ids)).with_built_in(&BUILT_IN_PROVIDERS)
}

/// What the check of a plugin is made with: a real worker, under the mark of a ledger that nobody else has.
pub fn check_means(ids: Arc<dyn Ids>) -> conformance::Means {
    let ledger_id = LedgerId(ids.fresh());
    let launcher = Arc::new(SystemLauncher::new(Arc::clone(&ids), ledger_id));
    conformance::Means { launcher, ids, patience: conformance::Patience::default() }
}

/// The worker host for the plugins that are installed in the data folder.
fn worker_host(settings: &Settings, ids: &Arc<dyn Ids>, ledger_id: LedgerId) -> Arc<WorkerHost> {
    let registry = plugin_registry(&settings.data_dir, ids).with_grantable(settings.plugin_variables.clone());
    let registry = Arc::new(registry);
    WorkerHost::new(WorkerHostParts {
        services: Arc::new(PluginServices::new(Arc::clone(&registry))),
        registry,
        launcher: Arc::new(SystemLauncher::new(Arc::clone(ids), ledger_id)),
        timings: Timings::default(),
        instance_id: ledger_id.to_string(),
    })
}

/// What a ledger is joined from, besides its drivers.
struct Parts {
    ledger_id: LedgerId,
    store: Arc<dyn EventStore>,
    read_model: Arc<dyn ReadModel>,
    secrets: SecretProviders,
    seams: Seams,
}

impl Parts {
    fn join(
        self,
        drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
    ) -> Result<Ledger, OpenError> {
        let Self { ledger_id, store, read_model, secrets, seams } = self;
        let Seams { clock, ids, owner, owners, crash, care } = seams;
        let redactor = Arc::<Redactor>::default();
        let reads = SecretReads::new(Arc::clone(&store), Arc::clone(&ids), secrets.clone(), Arc::clone(&redactor));
        let drivers = drivers(Arc::new(reads), ledger_id)?.redacting(&redactor);
        let locks = KeyedLocks::default();
        Ok(Ledger::new(Context {
            ledger_id,
            store,
            read_model,
            drivers,
            secrets,
            clock,
            ids,
            owner,
            owners,
            care,
            crash,
            locks,
        }))
    }
}

/// A variable of this process.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The folder that a file is in.
fn make_folder_of(path: &Path) -> Result<(), OpenError> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => make_folder(folder),
        None => Ok(()),
    }
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(path).map_err(|cause| OpenError::Folder { path: path.to_owned(), cause })
}
