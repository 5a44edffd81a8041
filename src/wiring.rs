//! Wiring: the only file that names a concrete store, driver or projection executor, and joins them to a ledger.

mod homes;
mod store_url;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use lease_events::id::LedgerId;
use lease_events::seam::crash::{CrashSeam, NoCrash};
use lease_events::seam::{Clock, Ids, SystemClock, SystemIds};
use lease_events::store::EventStore;
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_projections::read_model::ReadModel;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::memory::MemoryStore;
use lease_stores::postgres::{OwnerTimings, PostgresDuties, PostgresOptions, PostgresStore};
use lease_stores::sealed::{MemorySealed, PostgresSealed, SealedStore, SqliteSealed};
use lease_stores::sql::SqlStore;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
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
use crate::processes::owner_files::OwnerFiles;
use crate::recovery::duties::{Duties, Turn};
use crate::secrets::SecretProviders;
use crate::secrets::key::{KeyError, KeySource};
use crate::secrets::process::forbid_dumps;
use crate::secrets::redact::Redactor;
use crate::secrets::settings::SecretSettings;
use crate::workers::calls::LateAnswer;
use crate::workers::host_services::PluginServices;
use crate::workers::process::{SystemLauncher, end_orphans};
use crate::workers::registry::Registry;
use crate::workers::supervisor::Timings;
use crate::workers::{WorkerHost, WorkerHostParts};

pub use self::homes::{ROLES, StoreStatus, home_for, home_of, migrate, status_of};
pub use self::store_url::{InvalidStoreUrl, PostgresUrl, StoreUrl};

/// How often an owner of a database says that it lives, in its time to live.
const SIGNS_OF_LIFE: u32 = 5;

/// What a ledger is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the events are kept.
    pub store: StoreUrl,
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
        Self {
            store,
            data_dir,
            secrets: SecretSettings::default(),
            plugin_variables: None,
            care: CareSettings::default(),
            owner_time_to_live: OWNER_TIME_TO_LIVE,
        }
    }
}

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

impl Owners for OwnerFiles {
    fn is_dead(&self, owner: &str) -> bool {
        self.is_dead(owner)
    }
}

/// Declares this process an owner on the store of this file.
fn declare_owner(store: &Path, seams: &Seams) -> Result<Arc<dyn Owners>, OpenError> {
    let mut folder = store.as_os_str().to_owned();
    folder.push(".owners");
    let folder = PathBuf::from(folder);
    let declared = OwnerFiles::declare(&folder, &seams.owner, seams.clock.now());
    Ok(Arc::new(declared.map_err(|cause| OpenError::Folder { path: folder, cause })?))
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

/// A ledger on a SQLite file, with the drivers that `drivers` makes: it is given what they read secrets through, and
/// the ledger that they work for.
pub async fn open_sqlite(
    path: &Path,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    open_sqlite_with(path, Seams::of(clock, ids), secrets, drivers).await
}

/// As [`open_sqlite`], with all seams given.
pub async fn open_sqlite_with(
    path: &Path,
    seams: Seams,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let projections = SqlProjections::new_standard(Database::Sqlite);
    let store = SqliteStore::open(SqliteOptions {
        path: path.to_owned(),
        clock: Arc::clone(&seams.clock),
        ids: Arc::clone(&seams.ids),
        hook: Some(projections.clone()),
    })
    .await?;
    let sealed = Arc::new(SqliteSealed::new(Arc::clone(&store)));
    open_sql(store.ledger_id(), store, sealed, projections, seams, secrets, drivers).await
}

/// A ledger in a PostgreSQL database, beside any number of others on it. `owner_time_to_live` as in [`Settings`]; who is
/// dead, the database knows, and [`Seams::owners`] is not asked.
pub async fn open_postgres_with(
    url: &PostgresUrl,
    owner_time_to_live: Duration,
    seams: Seams,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let projections = SqlProjections::new_standard(Database::Postgres);
    let store = PostgresStore::open(PostgresOptions {
        url: url.expose().to_owned(),
        owner: seams.owner.clone(),
        timings: OwnerTimings { renew_every: owner_time_to_live / SIGNS_OF_LIFE, time_to_live: owner_time_to_live },
        clock: Arc::clone(&seams.clock),
        ids: Arc::clone(&seams.ids),
        hook: Some(projections.clone()),
    })
    .await?;
    let sealed = Arc::new(PostgresSealed::new(Arc::clone(&store)));
    let (duties, fenced) = (store.duties(), store.fenced());
    let seams = Seams { owners: store.clone(), ..seams };
    let ledger = open_sql(store.ledger_id(), store, sealed, projections, seams, secrets, drivers).await?;
    Ok(ledger.sharing(Arc::new(duties)).overtaken_once(fenced))
}

/// A ledger on an open SQL store, with its projections, which it catches up from then on.
async fn open_sql(
    ledger_id: LedgerId,
    store: Arc<dyn SqlStore>,
    sealed: Arc<dyn SealedStore>,
    projections: Arc<SqlProjections>,
    seams: Seams,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let read_model = SqlReadModel::attach(projections, Arc::clone(&store)).await?;
    let follower = Arc::clone(&read_model);
    let secrets = SecretProviders::granted(secrets, sealed, Arc::clone(&seams.clock), Arc::new(variable))?;
    let parts = Parts { ledger_id, store, read_model, secrets, seams };
    let ledger = parts.join(drivers)?;
    ledger.in_background(|stopping| async move { follower.follow(stopping.cancelled()).await });
    Ok(ledger)
}

#[async_trait]
impl Owners for PostgresStore {
    fn is_dead(&self, owner: &str) -> bool {
        self.is_dead(owner)
    }

    async fn look_up(&self, owner: &str) {
        if let Err(error) = self.look_up(owner).await {
            tracing::warn!(owner, %error, "it cannot be found out whether an owner lives; it is taken to");
        }
    }
}

impl Duties for PostgresDuties {
    fn begin(&self, sweep: &'static str) -> Option<Turn> {
        self.begin(sweep).map(Turn::holding)
    }
}

/// A ledger that is gone when the process ends: for trials, and for tests under a simulated clock. Without a key it
/// seals with one that is gone as well.
pub fn open_in_memory(
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let seams = Seams::of(clock, ids);
    MemoryHome::new(&seams).open(seams, secrets, drivers)
}

/// What a ledger in memory keeps: a ledger that is opened on it again finds everything, as another process would on a
/// disk.
#[derive(Clone)]
pub struct MemoryHome {
    ledger_id: LedgerId,
    store: Arc<MemoryStore>,
    read_model: Arc<MemoryReadModel>,
    sealed: Arc<MemorySealed>,
    key: KeySource,
}

impl MemoryHome {
    /// An empty one.
    #[must_use]
    pub fn new(seams: &Seams) -> Self {
        let projections = MemoryProjections::new_standard();
        let store = MemoryStore::new(Arc::clone(&seams.clock), Some(projections.clone()));
        let read_model = MemoryReadModel::attach(projections, store.clone());
        let ledger_id = LedgerId(seams.ids.fresh());
        Self { ledger_id, store, read_model, sealed: Arc::default(), key: KeySource::random() }
    }

    /// A ledger on it.
    pub fn open(
        &self,
        seams: Seams,
        secrets: &SecretSettings,
        drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
    ) -> Result<Ledger, OpenError> {
        self.open_through(self.store.clone(), seams, secrets, drivers)
    }

    /// The store, to be wrapped for [`Self::open_through`].
    #[must_use]
    pub fn store(&self) -> Arc<dyn EventStore> {
        self.store.clone()
    }

    /// A ledger on it that reads and appends through `store`, which wraps this one's.
    pub fn open_through(
        &self,
        store: Arc<dyn EventStore>,
        seams: Seams,
        secrets: &SecretSettings,
        drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
    ) -> Result<Ledger, OpenError> {
        let key = secrets.key.clone().unwrap_or_else(|| self.key.clone());
        let secrets = SecretSettings { key: Some(key), ..secrets.clone() };
        let (sealed, read_model) = (self.sealed.clone(), self.read_model.clone());
        let secrets = SecretProviders::granted(&secrets, sealed, Arc::clone(&seams.clock), Arc::new(variable))?;
        Parts { ledger_id: self.ledger_id, store, read_model, secrets, seams }.join(drivers)
    }
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
