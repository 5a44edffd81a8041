//! Ledgers on a KurrentDB server: their streams are there, their projections and secrets in a SQL store that mirrors it.

use std::sync::Arc;
use std::time::Duration;

use lease_events::id::LedgerId;
use lease_events::seam::{Clock, Ids, SystemClock, SystemIds};
use lease_events::store::ReadError;
use lease_stores::copy::Home;
use lease_stores::kurrentdb::{Identity, KurrentOptions, KurrentStore, MirroredOptions, MirroredStore};
use lease_stores::sql::SqlStore;
use tokio::time::Instant;

use super::homes::{Attach, Named, sql_home};
use super::sql::{Role, SqlHome, declare_owner};
use super::{KurrentUrl, OpenError, Seams, Settings, StoreUrl, make_folder_of};
use crate::drivers::Drivers;
use crate::drivers::secrets::SecretResolver;
use crate::ledger::Ledger;
use crate::secrets::settings::SecretSettings;

/// How long opening waits for a server that is not there yet: one that starts with the same machine takes less.
const REACH_WITHIN: Duration = Duration::from_mins(1);

/// The pause between two tries: what refuses at once would otherwise be asked all the time.
const REACH_PAUSE: Duration = Duration::from_secs(1);

/// A server, and what it says of its ledger.
struct Server {
    store: Arc<KurrentStore>,
    identity: Option<Identity>,
}

impl Server {
    /// Waits until it is there.
    async fn reach(url: &KurrentUrl, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self, OpenError> {
        let options = KurrentOptions { url: url.expose().to_owned(), clock, ids, categories: Vec::new() };
        let store = KurrentStore::open(options)?;
        let since = Instant::now();
        loop {
            match Identity::find(&store).await {
                Ok(identity) => return Ok(Self { store, identity }),
                Err(error @ ReadError::Unavailable { .. }) if since.elapsed() < REACH_WITHIN => {
                    tracing::warn!(%error, server = %url, "the KurrentDB server does not answer yet; it is tried again");
                    tokio::time::sleep(REACH_PAUSE).await;
                }
                Err(error) => return Err(OpenError::Mirror(error.into())),
            }
        }
    }

    /// What names the ledger in a new mirror: the server, where it holds one already.
    fn naming(&self, ids: &Arc<dyn Ids>) -> Arc<dyn Ids> {
        match &self.identity {
            Some(identity) => Arc::new(Named(identity.ledger_id)),
            None => Arc::clone(ids),
        }
    }

    /// Follows the server into the mirror, which becomes the ledger's own where the server has no other, or `attach` says so.
    async fn follow(
        self,
        ledger_id: LedgerId,
        mirror: Arc<dyn SqlStore>,
        attach: bool,
    ) -> Result<Arc<MirroredStore>, OpenError> {
        let Self { store: server, identity } = self;
        let options = MirroredOptions { server, identity, mirror: Arc::clone(&mirror), ledger_id, attach };
        match MirroredStore::open(options).await {
            Ok(store) => Ok(store),
            Err(error) => {
                mirror.close().await;
                Err(error.into())
            }
        }
    }
}

/// A ledger on a server, with its projections in `projections`: a file that this machine's processes share, or a database that
/// any number of them do. `owner_time_to_live` as in [`Settings`](super::Settings).
pub async fn open_kurrent_with(
    url: &KurrentUrl,
    projections: &StoreUrl,
    owner_time_to_live: Duration,
    seams: Seams,
    secrets: &SecretSettings,
    drivers: impl FnOnce(Arc<dyn SecretResolver>, LedgerId) -> Result<Drivers, OpenError>,
) -> Result<Ledger, OpenError> {
    let server = Server::reach(url, Arc::clone(&seams.clock), Arc::clone(&seams.ids)).await?;
    let ids = server.naming(&seams.ids);
    let (home, seams) = match projections {
        StoreUrl::Sqlite(path) => {
            make_folder_of(path)?;
            let owners = declare_owner(path, &seams)?;
            let seams = Seams { owners, ..seams };
            (SqlHome::sqlite(path, Role::Mirror, &seams, ids).await?, seams)
        }
        StoreUrl::Postgres(url) => {
            (SqlHome::postgres(url, Role::Mirror, owner_time_to_live, &seams, ids).await?, seams)
        }
        StoreUrl::Kurrent(_) | StoreUrl::Memory => return Err(OpenError::NoProjections),
    };
    let events = server.follow(home.ledger_id, Arc::clone(&home.store), false).await?;
    let replaced = events.replaced();
    Ok(home.ledger(events, seams, secrets, drivers).await?.overtaken_once(replaced))
}

/// The mirror of a server, which has all that the server has at this moment, and does not follow it any further.
pub(super) async fn mirror_of(url: &KurrentUrl, settings: &Settings, attach: Attach) -> Result<Home, OpenError> {
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let server = Server::reach(url, Arc::new(SystemClock), Arc::clone(&ids)).await?;
    if attach == Attach::Never && server.identity.is_none() {
        return Err(OpenError::NoLedger { store: url.to_string() });
    }
    let home = sql_home(&settings.projections, Role::Mirror, server.naming(&ids)).await?;
    server.follow(home.ledger_id, Arc::clone(&home.store), attach == Attach::Always).await?;
    Ok(home)
}
