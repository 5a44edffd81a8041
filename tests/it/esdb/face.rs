//! The face over a ledger, as the Rust client sees it: histories, filters, links, live; and no write.

use std::sync::Arc;
use std::time::Duration;

use lease_events::lease::vocabulary::ReleaseStatus;
use lease_events::record::{Position as At, RecordedEvent};
use lease_events::seam::SystemIds;
use lease_ledger::esdb::{FaceParts, ReadOnly, serve};
use lease_stores::kurrentdb::eventstore::{
    AppendToStreamOptions, Client, DeleteStreamOptions, Error, EventData, ExpectedRevision, Position, ReadAllOptions,
    ReadStream, ReadStreamOptions, ResolvedEvent, StreamPosition, SubscribeToAllOptions, SubscribeToStreamOptions,
    Subscription, SubscriptionEvent, SubscriptionFilter, TombstoneStreamOptions,
};
use lease_stores::kurrentdb::metadata;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, fake, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// A ledger whose history is served, and a client of it.
struct Served {
    bench: Bench,
    client: Client,
    stop: CancellationToken,
}

impl Served {
    async fn start() -> Self {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stop = CancellationToken::new();
        let parts = FaceParts {
            store: Arc::clone(bench.ledger.event_store()),
            metadata: Arc::new(|event| metadata::shown(event).into_bytes().into()),
            writes: Arc::new(ReadOnly),
            members: Vec::new(),
            ids: Arc::new(SystemIds),
            stop: stop.clone(),
        };
        tokio::spawn(serve(listener, parts));
        let settings = format!("esdb://{address}?tls=false").parse().expect("a connection string");
        Self { bench, client: Client::new(settings).expect("a client"), stop }
    }

    /// One lease, acquired and released.
    async fn one_lease(&self, number: u32) -> Vec<RecordedEvent> {
        let environment = self.bench.environment(&format!("e{number}"), fake(json!({}))).await;
        let lease = self.bench.acquire(environment.environment_id, run(number)).await.expect("it is given").lease;
        self.bench.release(&lease, ReleaseStatus::Released).await.expect("it is released");
        self.bench.ledger.history(lease.lease_id, None).await.expect("the lease is there")
    }

    async fn log(&self) -> Vec<RecordedEvent> {
        self.bench.ledger.events(At::START, 4_096).await.expect("memory can be read")
    }

    async fn stream(&self, name: &str, options: &ReadStreamOptions) -> Vec<ResolvedEvent> {
        collect(self.client.read_stream(name, options).await.expect("it is answered")).await
    }

    async fn all(&self, options: &ReadAllOptions) -> Vec<ResolvedEvent> {
        collect(self.client.read_all(options).await.expect("it is answered")).await
    }
}

async fn collect(mut answer: ReadStream) -> Vec<ResolvedEvent> {
    let mut events = Vec::new();
    while let Some(event) = answer.next().await.expect("no error") {
        events.push(event);
    }
    events
}

/// What a client got is what is stored: every field, every byte.
#[track_caller]
fn assert_same<'a>(got: &[ResolvedEvent], stored: impl IntoIterator<Item = &'a RecordedEvent>) {
    let stored: Vec<_> = stored.into_iter().collect();
    assert_eq!(got.len(), stored.len());
    for (got, stored) in got.iter().zip(stored) {
        let event = got.event.as_ref().expect("an event");
        assert_eq!(event.id, stored.event_id.0);
        assert_eq!((event.stream_id.as_str(), event.revision), (stored.stream_id.as_str(), stored.stream_revision));
        assert_eq!((event.position.commit, event.position.prepare), (stored.position.0, stored.position.0));
        assert_eq!((event.event_type.as_str(), event.is_json), (&*stored.event_type, true));
        assert_eq!(&event.data[..], stored.data.as_bytes());
        let shown = std::str::from_utf8(&event.custom_metadata).expect("UTF-8");
        let (stamp, own) = metadata::unstamped(shown).expect("a ledger's stamp");
        assert_eq!((stamp.company_id, stamp.schema_version), (stored.company_id, stored.schema_version));
        assert_eq!((stamp.recorded_at, own), (stored.recorded_at, Arc::clone(&stored.metadata)));
    }
}

fn of_category<'a>(log: &'a [RecordedEvent], category: &'a str) -> impl DoubleEndedIterator<Item = &'a RecordedEvent> {
    log.iter().filter(move |event| event.stream_id.category() == category)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leases_stream_is_its_history_both_ways() {
    let served = Served::start().await;
    served.one_lease(1).await;
    let history = served.one_lease(2).await;
    let name = history[0].stream_id.as_str();
    let options = ReadStreamOptions::default;
    assert_same(&served.stream(name, &options()).await, &history);
    let from_second = options().position(StreamPosition::Position(1));
    assert_same(&served.stream(name, &from_second).await, &history[1..]);
    assert_same(&served.stream(name, &from_second.clone().max_count(1)).await, &history[1..2]);
    assert_same(&served.stream(name, &from_second.backwards()).await, history[..2].iter().rev());
    let last = options().position(StreamPosition::End).backwards().max_count(1);
    assert_same(&served.stream(name, &last).await, history.last());
    assert!(served.stream(name, &options().position(StreamPosition::Position(99))).await.is_empty());
    for absent in ["lease-absent", "nonsense", "$streams", "$ce-absent"] {
        let mut answer = served.client.read_stream(absent, &options()).await.expect("it is answered");
        assert!(matches!(answer.next().await, Err(Error::ResourceNotFound)), "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_read_both_ways() {
    let served = Served::start().await;
    for number in 0..20 {
        served.one_lease(number).await;
    }
    let log = served.log().await;
    // More than a page of the face.
    assert!(log.len() > 70, "{}", log.len());
    let options = ReadAllOptions::default;
    let fifth = StreamPosition::Position(Position { commit: 5, prepare: 5 });
    assert_same(&served.all(&options()).await, &log);
    assert_same(&served.all(&options().position(StreamPosition::End)).await, log.iter().rev());
    // Forwards from a position takes it in, backwards leaves it out.
    assert_same(&served.all(&options().position(fifth)).await, &log[4..]);
    assert_same(&served.all(&options().position(fifth).backwards()).await, log[..4].iter().rev());
    assert_same(&served.all(&options().max_count(3)).await, &log[..3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_categorys_links_count_its_events() {
    let served = Served::start().await;
    for number in 0..20 {
        served.one_lease(number).await;
    }
    let log = served.log().await;
    let leases: Vec<RecordedEvent> = of_category(&log, "lease").cloned().collect();
    let options = || ReadStreamOptions::default().resolve_link_tos();
    let links = served.stream("$ce-lease", &options()).await;
    assert_same(&links, &leases);
    for (number, resolved) in (0..).zip(&links) {
        let link = resolved.get_original_event();
        assert_eq!((link.stream_id.as_str(), link.revision, link.event_type.as_str()), ("$ce-lease", number, "$>"));
    }
    for number in [0, 1, 17, leases.len() - 1] {
        let at = options().position(StreamPosition::Position(number as u64));
        assert_same(&served.stream("$ce-lease", &at).await, &leases[number..]);
        assert_same(&served.stream("$ce-lease", &at.clone().max_count(2)).await, leases[number..].iter().take(2));
        assert_same(&served.stream("$ce-lease", &at.backwards()).await, leases[..=number].iter().rev());
    }
    let end = options().position(StreamPosition::End).backwards();
    assert_same(&served.stream("$ce-lease", &end).await, leases.iter().rev());
    let unresolved = served.stream("$ce-lease", &ReadStreamOptions::default().max_count(1)).await;
    let link = unresolved[0].event.as_ref().expect("the link itself");
    assert_eq!(&link.data[..], format!("0@{}", leases[0].stream_id).as_bytes());
}

/// The events of a subscription until it has caught up, and then `more` of them.
async fn follow(mut subscription: Subscription, more: usize, act: impl Future<Output = ()>) -> Vec<ResolvedEvent> {
    let (mut events, mut live, mut has_caught_up) = (Vec::new(), 0, false);
    tokio::pin!(act);
    let mut acted = false;
    while !has_caught_up || live < more {
        let next = tokio::time::timeout(PATIENCE, subscription.next_subscription_event());
        match next.await.expect("it arrives in time").expect("no error") {
            SubscriptionEvent::EventAppeared(event) => {
                live += usize::from(has_caught_up);
                events.push(event);
            }
            SubscriptionEvent::CaughtUp => has_caught_up = true,
            _ => {}
        }
        if has_caught_up && !acted {
            acted = true;
            act.as_mut().await;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_go_on_from_what_is_there_to_what_comes() {
    let served = &Served::start().await;
    let first = served.one_lease(1).await;
    let head = served.log().await.len();
    let name = first[0].stream_id.as_str();

    let all = served.client.subscribe_to_all(&SubscribeToAllOptions::default()).await;
    let act = async { drop(served.one_lease(2).await) };
    let followed = follow(all, first.len(), act).await;
    assert_same(&followed, served.log().await.iter().take(followed.len()));

    let filter = SubscriptionFilter::on_event_type().regex("^lease-re(leased|quested)$");
    let from = StreamPosition::Position(Position { commit: 1, prepare: 1 });
    let options = SubscribeToAllOptions::default().filter(filter).position(from);
    let act = async { drop(served.one_lease(3).await) };
    let followed = follow(served.client.subscribe_to_all(&options).await, 2, act).await;
    let types = ["lease-requested", "lease-released"];
    let log = served.log().await;
    assert_same(&followed, log[1..].iter().filter(|event| types.contains(&&*event.event_type)));

    let options = SubscribeToStreamOptions::default().resolve_link_tos().start_from(StreamPosition::Position(2));
    let act = async { drop(served.one_lease(4).await) };
    let followed = follow(served.client.subscribe_to_stream("$ce-lease", &options).await, 3, act).await;
    let log = served.log().await;
    assert_same(&followed, of_category(&log, "lease").skip(3).take(followed.len()));

    let options = SubscribeToStreamOptions::default().start_from(StreamPosition::Position(0));
    let followed = follow(served.client.subscribe_to_stream(name, &options).await, 0, async {}).await;
    assert_same(&followed, &first[1..]);

    let end = SubscribeToAllOptions::default().position(StreamPosition::End);
    let seen = served.log().await.len();
    let act = async { drop(served.one_lease(5).await) };
    let followed = follow(served.client.subscribe_to_all(&end).await, 3, act).await;
    assert_same(&followed, served.log().await[seen..].iter().take(followed.len()));
    assert!(head < seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_takes_nothing_still_tells_how_far_it_is() {
    let served = Served::start().await;
    for number in 0..8 {
        served.one_lease(number).await;
    }
    let filter = SubscriptionFilter::on_stream_name().add_prefix("nothing-").max(10);
    let mut subscription = served.client.subscribe_to_all(&SubscribeToAllOptions::default().filter(filter)).await;
    let mut checkpoints = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, subscription.next_subscription_event()).await;
        match next.expect("it arrives in time").expect("no error") {
            SubscriptionEvent::Checkpoint(position) => checkpoints.push(position.commit),
            SubscriptionEvent::EventAppeared(event) => panic!("{event:?}"),
            SubscriptionEvent::CaughtUp => break,
            _ => {}
        }
    }
    let count = served.log().await.len() as u64 / 10;
    assert_eq!(checkpoints, (1..=count).map(|number| number * 10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_and_the_refusal_says_access_denied() {
    let served = Served::start().await;
    let history = served.one_lease(1).await;
    let name = history[0].stream_id.as_str();
    let event = EventData::json("lease-forged", &json!({})).expect("JSON");
    for expected in [ExpectedRevision::Any, ExpectedRevision::NoStream] {
        let options = AppendToStreamOptions::default().expected_revision(expected);
        let refused = served.client.append_to_stream(name, &options, event.clone()).await;
        assert!(matches!(refused, Err(Error::AccessDenied)), "{refused:?}");
    }
    assert!(matches!(
        served.client.delete_stream(name, &DeleteStreamOptions::default()).await,
        Err(Error::AccessDenied)
    ));
    assert!(matches!(
        served.client.tombstone_stream(name, &TombstoneStreamOptions::default()).await,
        Err(Error::AccessDenied)
    ));
    assert_same(&served.stream(name, &ReadStreamOptions::default()).await, &history);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_subscriptions_with_an_error() {
    let served = Served::start().await;
    served.one_lease(1).await;
    let mut subscription = served.client.subscribe_to_all(&SubscribeToAllOptions::default()).await;
    subscription.next().await.expect("the first event");
    served.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error) = subscription.next().await {
                return error;
            }
        }
    });
    assert!(matches!(ended.await.expect("it ends in time"), Error::ServerError(_)));
}
