//! A server of the protocol for tests: the ledger's own face over a memory store, with appends taken.

pub(crate) mod appends;
mod messages;

use std::net::SocketAddr;
use std::sync::Arc;

use lease_events::seam::{SystemClock, SystemIds};
use lease_ledger::esdb::{FaceParts, Member, serve};
use lease_stores::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::appends::Appends;

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
}

impl Server {
    /// One of its own.
    pub(crate) async fn start() -> Self {
        Self::on(&memory()).await
    }

    /// One over these events.
    pub(crate) async fn on(appends: &(Arc<MemoryStore>, Appends)) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), appends, Vec::new()).await
    }

    /// One at this address, that tells of these members.
    pub(crate) async fn at(
        address: SocketAddr,
        (store, appends): &(Arc<MemoryStore>, Appends),
        members: Vec<Member>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let stop = CancellationToken::new();
        let parts = FaceParts {
            store: store.clone(),
            metadata: appends.metadata(),
            writes: Arc::new(appends.clone()),
            members,
            ids: Arc::new(SystemIds),
            stop: stop.clone(),
        };
        tokio::spawn(serve(listener, parts));
        Self { address, stop }
    }

    pub(crate) fn url(&self) -> String {
        url(self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where clients find a server at this address.
pub(crate) fn url(address: SocketAddr) -> String {
    format!("esdb://{address}?tls=false")
}

/// What a server keeps.
pub(crate) fn memory() -> (Arc<MemoryStore>, Appends) {
    let store = MemoryStore::new(Arc::new(SystemClock), None);
    (Arc::clone(&store), Appends::new(store))
}
