//! The `KurrentDB` store: the contract through the real client, and what it makes of a bad network and dead nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lease_events::record::Position;
use lease_events::seam::{Ids, SystemClock, SystemIds};
use lease_events::store::{Direction, EventStore, Expected};
use lease_stores::contract::{Place, append, stream};
use lease_stores::kurrentdb::{KurrentOptions, KurrentStore};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use super::cluster::Cluster;
use super::renamed::Renamed;
use crate::protocol::{Server, memory, url};
use crate::proxy::{Mode, Proxy};

/// Names a real server, which the contract then runs against.
const REAL_SERVER: &str = "LEASE_LEDGER_TEST_ESDB_URL";

/// A place for each case: a server of its own, or on a real one streams of a category of their own.
#[derive(Default)]
struct Somewhere(OnceCell<(String, Option<Server>)>);

#[async_trait]
impl Place for Somewhere {
    async fn open(&self) -> Arc<dyn EventStore> {
        let begin = async || match std::env::var(REAL_SERVER) {
            Ok(_) => (format!("contract{}", SystemIds.fresh().simple()), None),
            Err(_) => ("contract".to_owned(), Some(Server::start().await)),
        };
        let (category, server) = self.0.get_or_init(begin).await;
        if let Some(server) = server {
            return open(&server.url());
        }
        let url = std::env::var(REAL_SERVER).expect("it was there before");
        Arc::new(Renamed { store: open_on(&url, category), category: category.clone() })
    }
}

mod contract {
    lease_stores::store_contract!(super::Somewhere::default());
}

fn open(url: &str) -> Arc<dyn EventStore> {
    open_on(url, "contract")
}

fn open_on(url: &str, category: &str) -> Arc<dyn EventStore> {
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let options = KurrentOptions { url: url.to_owned(), clock, ids, categories: vec![category.to_owned()] };
    KurrentStore::open(options).expect("a connection string")
}

/// A server behind a proxy, and a store that knows the proxy only.
async fn behind_a_proxy() -> (Server, Proxy, Arc<dyn EventStore>) {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address).await;
    let store = open(&url(proxy.address));
    (server, proxy, store)
}

/// Both events of stream "a" are there, once each.
async fn assert_two_events(url: &str) {
    let log = open(url).read_all(Position::START, Direction::Forwards, 10).await.expect("it can be read");
    assert_eq!(log.iter().map(|event| event.stream_revision).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_was_lost_counts_once() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address).await;
    let store = open(&url(proxy.address));
    let direct = open(&server.url());
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    let mut arrivals = direct.subscribe(Position(1)).await.expect("it can be subscribed to");

    proxy.set(Mode::Mute);
    let sending = store.append(append("a", Expected::Exact(0), &["two"]));
    let losing = async {
        arrivals.next().await.expect("no end").expect("it is stored");
        // Its answer is swallowed; now the connection goes too.
        proxy.set(Mode::Cut);
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.set(Mode::Pass);
    };
    let (appended, ()) = tokio::join!(sending, losing);
    let appended = appended.expect("it was stored");
    assert!(!appended.repeated, "it was this call that wrote it, though at its first try");
    assert_two_events(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_network_is_outlived_by_appends_reads_and_subscriptions() {
    let (server, proxy, store) = behind_a_proxy().await;
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    let mut subscription = store.subscribe(Position::START).await.expect("it can be subscribed to");
    subscription.next().await.expect("no end").expect("the first event");

    proxy.set(Mode::Cut);
    let known = stream("a");
    let (appended, read, followed, ()) = tokio::join!(
        store.append(append("a", Expected::Exact(0), &["two"])),
        store.read_stream(&known, 0, Direction::Forwards, 1),
        subscription.next(),
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            proxy.set(Mode::Pass);
        }
    );
    assert!(!appended.expect("the network is back").repeated);
    assert_eq!(read.expect("the network is back").len(), 1);
    assert_eq!(followed.expect("no end").expect("the second event").stream_revision, 1);
    assert_two_events(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_only_makes_it_slow() {
    let (server, proxy, store) = behind_a_proxy().await;
    proxy.set(Mode::Delay(Duration::from_millis(50)));
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.expect("the stream is new");
    assert_two_events(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_at_first_is_found_when_it_comes() {
    let held = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = held.local_addr().expect("it is bound");
    drop(held);
    let store = open(&url(address));
    let (appended, _server) = tokio::join!(store.append(append("a", Expected::NoStream, &["one", "two"])), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Server::at(address, &memory(), Vec::new()).await
    });
    assert!(!appended.expect("the server has come").repeated);
    assert_two_events(&url(address)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_node_is_found_when_the_connected_one_dies() {
    let cluster = Cluster::start().await;
    let store = open(&cluster.url());
    store.append(append("a", Expected::NoStream, &["one"])).await.expect("the stream is new");
    let living = cluster.fail_over().await;
    let appended = store.append(append("a", Expected::Exact(0), &["two"])).await;
    assert!(!appended.expect("the other node takes it").repeated);
    assert_two_events(&living.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lives_beside_the_tls_of_the_sql_stores() {
    // Both bring TLS libraries of their own, and each process has one provider of its algorithms.
    let options = "postgres://nobody@127.0.0.1:1/none?sslmode=require";
    let refused = <sqlx::PgConnection as sqlx::Connection>::connect(options).await;
    assert!(refused.is_err(), "nothing listens there");
    let server = Server::start().await;
    let store = open(&server.url());
    store.append(append("a", Expected::NoStream, &["one", "two"])).await.expect("the client works");
    assert_two_events(&server.url()).await;
}

#[tokio::test]
async fn a_password_is_not_in_the_refusal_of_a_connection_string() {
    let options = |url: &str| KurrentOptions {
        url: url.to_owned(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        categories: Vec::new(),
    };
    for url in ["esdb://admin:changeit@:x", "changeit", "http://changeit@localhost:2113"] {
        let refused = KurrentStore::open(options(url)).err().expect("it is none").to_string();
        assert!(refused.contains("give esdb://HOST:PORT") && !refused.contains("changeit"), "{refused}");
    }
}
