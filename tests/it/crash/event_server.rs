//! A server of `KurrentDB`'s protocol that outlives the ledgers on it, and its log as it stands there.

use std::fmt;
use std::sync::{Arc, LazyLock};

use lease_events::record::{CATEGORIES, Position, RecordedEvent};
use lease_events::store::{Direction, EventStore, READ_EVENTS_MAX};
use lease_ledger::esdb::MetadataOf;
use lease_stores::kurrentdb::metadata::{Stamp, unstamped};
use lease_stores::memory::MemoryStore;
use tokio::runtime::Runtime;

use crate::protocol::{Server, memory, url};
use crate::proxy::{Mode, Proxy};

/// What the servers of the tests run on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().expect("a runtime")
});

/// A server, until it is dropped.
pub(crate) struct EventServer {
    server: Server,
    events: Arc<MemoryStore>,
    metadata: MetadataOf,
    /// The network before it, where that is disturbed.
    network: Option<Proxy>,
}

impl fmt::Debug for EventServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventServer").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl EventServer {
    pub(crate) fn start() -> Self {
        let appends = memory();
        let server = RUNTIME.block_on(Server::on(&appends));
        let (events, appends) = appends;
        Self { server, events, metadata: appends.metadata(), network: None }
    }

    /// One that is reached through a network that [`Self::disturb`] changes.
    pub(crate) fn start_behind_a_network() -> Self {
        let own = Self::start();
        let network = Some(RUNTIME.block_on(Proxy::to(own.server.address)));
        Self { network, ..own }
    }

    /// What the network does from now on.
    pub(crate) fn disturb(&self, mode: Mode) {
        self.network.as_ref().expect("it was started behind one").set(mode);
    }

    pub(crate) fn url(&self) -> String {
        self.network.as_ref().map_or_else(|| self.server.url(), |network| url(network.address))
    }

    /// The ledger's events on it, numbered in their order: what its mirror must come to.
    pub(crate) async fn log(&self) -> Vec<RecordedEvent> {
        let mut log: Vec<RecordedEvent> = Vec::new();
        let mut after = Position::START;
        loop {
            let page =
                self.events.read_all(after, Direction::Forwards, READ_EVENTS_MAX).await.expect("memory can be read");
            let Some(last) = page.last() else { return log };
            after = last.position;
            let ours = page.iter().filter(|event| CATEGORIES.contains(&event.stream_id.category()));
            for event in ours {
                let position = Position(log.len() as u64 + 1);
                log.push(RecordedEvent { position, ..self.as_sent(event) });
            }
        }
    }

    /// The event as its ledger wrote it, which the server keeps in a metadata of its own.
    fn as_sent(&self, event: &RecordedEvent) -> RecordedEvent {
        let sent = (self.metadata)(event);
        let (stamp, metadata) = unstamped(std::str::from_utf8(&sent).expect("a text")).expect("a ledger's");
        let Stamp { company_id, schema_version, recorded_at, .. } = stamp;
        RecordedEvent { company_id, schema_version, recorded_at, metadata, ..event.clone() }
    }
}
