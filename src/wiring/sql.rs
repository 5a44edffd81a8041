//! Ledgers in a SQL store, with the projections beside the events; and such stores as mirrors of a log elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::seam::{Clock, Ids};
use lease_events::store::EventStore;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::postgres::{OwnerTimings, PostgresDuties, PostgresOptions, PostgresStore};
use lease_stores::sealed::{PostgresSealed, SealedStore, SqliteSealed};
use lease_stores::sql::SqlStore;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};

use super::{OpenError, Parts, PostgresUrl, Seams, variable};
use crate::commands::owners::Owners;
use crate::drivers::Drivers;
use crate::drivers::secrets::SecretResolver;
use crate::ledger::Ledger;
use crate::processes::owner_files::OwnerFiles;
use crate::recovery::duties::{Duties, Turn};
use crate::secrets::SecretProviders;
use crate::secrets::settings::SecretSettings;

/// How often an owner of a database says that it lives, in its time to live.
const SIGNS_OF_LIFE: u32 = 5;

/// Whose log a store's events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its own.
    Log,
    /// That of a server, which it follows.
    #[cfg_attr(not(feature = "kurrentdb"), expect(dead_code, reason = "only a ledger on KurrentDB has a mirror"))]
    Mirror,
}

impl Role {
    /// Opens a file that is to have it.
    pub(super) async fn sqlite(self, options: SqliteOptions) -> Result<Arc<SqliteStore>, OpenError> {
        Ok(match self {
            Self::Log => SqliteStore::open(options).await?,
            Self::Mirror => SqliteStore::open_any(options).await?,
        })
    }

    /// Opens a database that is to have it.
    pub(super) async fn postgres(self, options: PostgresOptions) -> Result<Arc<PostgresStore>, OpenError> {
        Ok(match self {
            Self::Log => PostgresStore::open(options).await?,
            Self::Mirror => PostgresStore::open_any(options).await?,
        })
    }
}

/// A SQL store that was opened for a ledger.
pub(super) struct SqlHome {
    pub(super) ledger_id: LedgerId,
    pub(super) store: Arc<dyn SqlStore>,
    sealed: Arc<dyn SealedStore>,
    projections: Arc<SqlProjections>,
    /// Where several processes share it.
    shared: Option<Arc<PostgresStore>>,
}

impl SqlHome {
    /// A file. `ids` names the ledger where it is new.
    pub(super) async fn sqlite(path: &Path, role: Role, seams: &Seams, ids: Arc<dyn Ids>) -> Result<Self, OpenError> {
        let projections = SqlProjections::new_standard(Database::Sqlite);
        let (clock, hook) = (Arc::clone(&seams.clock), Some(projections.clone() as _));
        let options = SqliteOptions { path: path.to_owned(), clock, ids, hook };
        let store = role.sqlite(options).await?;
        let sealed = Arc::new(SqliteSealed::new(Arc::clone(&store)));
        Ok(Self { ledger_id: store.ledger_id(), store, sealed, projections, shared: None })
    }

    /// A database. `ids` names the ledger where it is new.
    pub(super) async fn postgres(
        url: &PostgresUrl,
        role: Role,
        owner_time_to_live: Duration,
        seams: &Seams,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, OpenError> {
        let projections = SqlProjections::new_standard(Database::Postgres);
        let options = PostgresOptions {
            url: url.expose().to_owned(),
            owner: seams.owner.clone(),
            timings: OwnerTimings { renew_every: owner_time_to_live / SIGNS_OF_LIFE, time_to_live: owner_time_to_live },
            clock: Arc::clone(&seams.clock),
            ids,
            hook: Some(projections.clone()),
        };
        let store = role.postgres(options).await?;
        let sealed = Arc::new(PostgresSealed::new(Arc::clone(&store)));
        let (ledger_id, shared) = (store.ledger_id(), Some(Arc::clone(&store)));
        Ok(Self { ledger_id, store, sealed, projections, shared })
    }

    /// A ledger that appends to `events`, which are in this store, with its projections, which it catches up from then on.
    /// Who is dead, a database that is shared knows, and [`Seams::owners`] is not asked.
    pub(super) async fn ledger(
        self,
        events: Arc<dyn EventStore>,
        seams: Seams,
        secrets: &SecretSettings,
        drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
    ) -> Result<Ledger, OpenError> {
        let Self { ledger_id, store, sealed, projections, shared } = self;
        let read_model = SqlReadModel::attach(projections, store).await?;
        let follower = Arc::clone(&read_model);
        let secrets = SecretProviders::granted(secrets, sealed, Arc::clone(&seams.clock), Arc::new(variable))?;
        let seams = match &shared {
            Some(shared) => Seams { owners: shared.clone(), ..seams },
            None => seams,
        };
        let ledger = Parts { ledger_id, store: events, read_model, secrets, seams }.join(drivers)?;
        ledger.in_background(|stopping| async move { follower.follow(stopping.cancelled()).await });
        Ok(match shared {
            Some(shared) => ledger.sharing(Arc::new(shared.duties())).overtaken_once(shared.fenced()),
            None => ledger,
        })
    }
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
    let home = SqlHome::sqlite(path, Role::Log, &seams, Arc::clone(&seams.ids)).await?;
    let events = home.store.clone();
    home.ledger(events, seams, secrets, drivers).await
}

/// A ledger in a PostgreSQL database, beside any number of others on it. `owner_time_to_live` as in
/// [`Settings`](super::Settings); who is dead, the database knows, and [`Seams::owners`] is not asked.
pub async fn open_postgres_with(
    url: &PostgresUrl,
    owner_time_to_live: Duration,
    seams: Seams,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let ids = Arc::clone(&seams.ids);
    let home = SqlHome::postgres(url, Role::Log, owner_time_to_live, &seams, ids).await?;
    let events = home.store.clone();
    home.ledger(events, seams, secrets, drivers).await
}

/// Declares this process an owner on the store of this file.
pub(super) fn declare_owner(store: &Path, seams: &Seams) -> Result<Arc<dyn Owners>, OpenError> {
    let mut folder = store.as_os_str().to_owned();
    folder.push(".owners");
    let folder = PathBuf::from(folder);
    let declared = OwnerFiles::declare(&folder, &seams.owner, seams.clock.now());
    Ok(Arc::new(declared.map_err(|cause| OpenError::Folder { path: folder, cause })?))
}

impl Owners for OwnerFiles {
    fn is_dead(&self, owner: &str) -> bool {
        self.is_dead(owner)
    }
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
