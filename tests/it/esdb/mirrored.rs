//! The store that a ledger on `KurrentDB` runs on: the contract through the real client, with its mirror in a file and in a
//! database; who may be its mirror; and a network and a mirror that fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::record::Position;
use lease_events::seam::{Ids, SystemClock, SystemIds};
use lease_events::store::{AppendError, Direction, EventStore, Expected};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::{Place, append, stream};
use lease_stores::kurrentdb::{
    Identity, KurrentOptions, KurrentStore, MirrorError, MirroredOptions, MirroredStore, eventstore,
};
use lease_stores::postgres::PostgresStore;
use lease_stores::sqlite::{self, SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::cluster::Cluster;
use crate::protocol::{Server, url};
use crate::proxy::{Mode, Proxy};

/// A server of the case's own, and its mirror in a file.
struct InAFile {
    server: OnceCell<Server>,
    folder: TempDir,
}

impl InAFile {
    fn new() -> Self {
        Self { server: OnceCell::new(), folder: tempfile::tempdir().expect("a folder") }
    }

    async fn server(&self) -> &Server {
        self.server.get_or_init(Server::start).await
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mirror.db")
    }
}

#[async_trait]
impl Place for InAFile {
    async fn open(&self) -> Arc<dyn EventStore> {
        open(&self.server().await.url(), &self.path(), false).await.expect("it opens")
    }
}

/// A server of the case's own, and its mirror in a database.
#[derive(Default)]
struct InADatabase {
    server: OnceCell<Server>,
    database: PostgresPlace,
}

#[async_trait]
impl Place for InADatabase {
    async fn open(&self) -> Arc<dyn EventStore> {
        let server = server(&self.server.get_or_init(Server::start).await.url());
        let identity = Identity::find(&server).await.expect("it can be read");
        let options = self.database.options();
        let mirror =
            PostgresStore::open_any(lease_stores::postgres::PostgresOptions { ids: named(identity), ..options });
        let mirror = mirror.await.expect("it opens");
        let ledger_id = mirror.ledger_id();
        let options = MirroredOptions { server, identity, mirror, ledger_id, attach: false };
        MirroredStore::open(options).await.expect("it opens")
    }
}

mod contract_with_a_file {
    lease_stores::store_contract!(super::InAFile::new());
}

mod contract_with_a_database {
    lease_stores::store_contract!(super::InADatabase::default());
}

fn server(url: &str) -> Arc<KurrentStore> {
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let categories = vec!["contract".to_owned()];
    KurrentStore::open(KurrentOptions { url: url.to_owned(), clock, ids, categories }).expect("a connection string")
}

/// Gives a new mirror the id of the ledger that is there already.
struct Named(LedgerId);

impl Ids for Named {
    fn fresh(&self) -> Uuid {
        self.0.0
    }
}

fn named(identity: Option<Identity>) -> Arc<dyn Ids> {
    identity.map_or_else(|| Arc::new(SystemIds) as _, |identity| Arc::new(Named(identity.ledger_id)) as _)
}

async fn file(path: &Path, ids: Arc<dyn Ids>) -> Arc<SqliteStore> {
    let options = SqliteOptions { path: path.to_owned(), clock: Arc::new(SystemClock), ids, hook: None };
    SqliteStore::open_any(options).await.expect("a file")
}

async fn open(url: &str, path: &Path, attach: bool) -> Result<Arc<MirroredStore>, MirrorError> {
    let server = server(url);
    let identity = Identity::find(&server).await?;
    let mirror = file(path, named(identity)).await;
    let ledger_id = mirror.ledger_id();
    MirroredStore::open(MirroredOptions { server, identity, mirror, ledger_id, attach }).await
}

/// The mirror of `path` holds these revisions of stream "a", and nothing else.
async fn assert_log(path: &Path, revisions: &[u64]) {
    let log = file(path, Arc::new(SystemIds)).await.read_all(Position::START, Direction::Forwards, 10).await;
    let log = log.expect("it can be read");
    assert_eq!(log.iter().map(|event| event.stream_revision).collect::<Vec<_>>(), revisions);
    assert_eq!(
        log.iter().map(|event| event.position.0).collect::<Vec<_>>(),
        (1..=revisions.len() as u64).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_lost_is_made_anew_and_the_old_one_is_fenced_off() {
    let place = InAFile::new();
    let address = place.server().await.url();
    let first = open(&address, &place.path(), false).await.expect("the first mirror is the ledger's own");
    first.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");

    let second = place.folder.path().join("second.db");
    let refused = open(&address, &second, false).await.err().expect("there is another mirror");
    assert!(refused.to_string().contains("lease-ledger store attach"), "{refused}");
    let again = open(&address, &second, true).await.expect("it is told to take its place");
    assert_eq!(again.head().await, Ok(Position(1)), "what was there before is followed");

    // The old one finds out by itself, and says so.
    let mut replaced = first.replaced();
    tokio::time::timeout(Duration::from_secs(10), replaced.wait_for(|replaced| *replaced))
        .await
        .expect("soon")
        .expect("it lives");
    let late = first.append(append("a", Expected::Exact(0), &["two"])).await;
    assert!(matches!(late, Err(AppendError::Fenced { .. })), "{late:?}");
    again.append(append("a", Expected::Exact(0), &["two"])).await.expect("it is the ledger's own");
    again.close().await;
    assert_log(&second, &[0, 1]).await;
    let refused = open(&address, &place.path(), false).await.err().expect("it is not the ledger's own any more");
    assert!(matches!(refused, MirrorError::Elsewhere { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_ledger_of_its_own_nor_another_ledgers_mirror_becomes_a_mirror() {
    let (place, other) = (InAFile::new(), InAFile::new());
    let own = place.folder.path().join("ledger.db");
    let ledger = file(&own, Arc::new(SystemIds)).await;
    ledger.append(append("a", Expected::NoStream, &["one"])).await.expect("a ledger");
    let refused = open(&place.server().await.url(), &own, false).await.err().expect("it has a log");
    assert!(matches!(refused, MirrorError::NotAMirror), "{refused}");
    assert_log(&own, &[0]).await;

    place.open().await.close().await;
    other.open().await.close().await;
    let refused = open(&place.server().await.url(), &other.path(), true).await.err().expect("it is another's");
    assert!(matches!(refused, MirrorError::OtherLedger { .. }), "{refused}");

    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let options = SqliteOptions { path: place.path(), clock, ids, hook: None };
    let refused = SqliteStore::open(options).await.err().expect("it is no ledger");
    assert!(matches!(refused, sqlite::OpenError::Mirror { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_took_while_no_ledger_ran_is_followed_at_the_start() {
    let place = InAFile::new();
    let store = place.open().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    store.close().await;
    // The answer of this one is lost together with the process that waited for it.
    let sent = append("a", Expected::Exact(0), &["two"]);
    server(&place.server().await.url()).append(sent.clone()).await.expect("the server takes it");
    let store = place.open().await;
    assert_eq!(store.head().await, Ok(Position(2)));
    let again = store.append(sent).await.expect("it is there");
    assert!(again.repeated);
    assert_eq!(again.position(), Position(2));
    store.close().await;
    assert_log(&place.path(), &[0, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_and_a_cut_network_lose_and_double_nothing() {
    let place = InAFile::new();
    let proxy = Proxy::to(place.server().await.address).await;
    let store = open(&url(proxy.address), &place.path(), false).await.expect("it opens");
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    for (mode, expected, name) in [(Mode::Mute, Expected::Exact(0), "two"), (Mode::Cut, Expected::Exact(1), "three")] {
        proxy.set(mode);
        let known = stream("a");
        let (appended, read, ()) = tokio::join!(
            store.append(append("a", expected, &[name])),
            store.read_stream(&known, 0, Direction::Forwards, 10),
            async {
                tokio::time::sleep(Duration::from_millis(700)).await;
                // A connection that was muted is of no more use.
                proxy.set(Mode::Cut);
                tokio::time::sleep(Duration::from_millis(200)).await;
                proxy.set(Mode::Pass);
            }
        );
        let appended = appended.expect("the network is back");
        assert!(!appended.repeated, "{mode:?}: it was this call that wrote it");
        assert!(!read.expect("the network is back").is_empty());
    }
    store.close().await;
    assert_log(&place.path(), &[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_cannot_be_written_is_said_before_the_server_is_asked() {
    let place = InAFile::new();
    let store = open(&place.server().await.url(), &place.path(), false).await.expect("it opens");
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    let aside = place.folder.path().join("aside.db");
    std::fs::rename(place.path(), &aside).expect("a file");
    // The first that finds out does not know what became of it: the server has it.
    let first = store.append(append("a", Expected::Exact(0), &["two"])).await;
    assert!(matches!(first, Err(AppendError::OutcomeUnknown { .. })), "{first:?}");
    let second = store.append(append("b", Expected::NoStream, &["three"])).await;
    assert!(matches!(second, Err(AppendError::Unavailable { .. })), "{second:?}");

    std::fs::rename(&aside, place.path()).expect("a file");
    let known = stream("a");
    tokio::time::timeout(Duration::from_secs(20), async {
        while store.read_stream(&known, 0, Direction::Forwards, 10).await.map_or(0, |events| events.len()) < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it is followed again by itself");
    store.append(append("b", Expected::NoStream, &["three"])).await.expect("it was never sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_node_is_followed_when_the_connected_one_dies() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mirror.db");
    let cluster = Cluster::start().await;
    let store = open(&cluster.url(), &path, false).await.expect("it opens");
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    let _living = cluster.fail_over().await;
    let appended = store.append(append("a", Expected::Exact(0), &["two"])).await;
    assert!(!appended.expect("the other node takes it").repeated);
    store.close().await;
    assert_log(&path, &[0, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_on_the_server_is_passed_over() {
    let place = InAFile::new();
    let address = place.server().await.url();
    let store = open(&address, &place.path(), false).await.expect("it opens");
    let others = address.parse().expect("a connection string");
    let others = eventstore::Client::new(others).expect("a client");
    for name in ["ledger-of-somebody", "$$ledger-identity", "orders-1"] {
        let event = eventstore::EventData::json("made", &serde_json::json!({})).expect("JSON");
        others.append_to_stream(name, &eventstore::AppendToStreamOptions::default(), event).await.expect("taken");
    }
    let appended = store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    assert_eq!(appended.position(), Position(1));
    store.close().await;
    assert_log(&place.path(), &[0]).await;
}
