//! The face's methods, and who answers each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::body::Incoming;
use lease_events::seam::Ids;
use lease_events::store::{Direction, EventStore};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::BoxBody;
use tonic::codec::ProstCodec;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tower::service_fn;

use super::answer::{Answer, Answers, Ended, answer};
use super::category::CategoryIndex;
use super::event::{MetadataOf, Speller};
use super::messages::features::{SupportedMethod, SupportedMethods};
use super::messages::gossip::{ClusterInfo, EndPoint, MemberInfo, State};
use super::messages::streams::{ReadReq, ReadResp};
use super::messages::{Empty, Uuid};
use super::query::{Asked, Extent, Query};
use super::reading::Reader;
use super::refusal::{Refusal, busy, read_only};

/// The service of streams, as paths spell it.
pub const STREAMS: &str = "/event_store.client.streams.Streams/";
const GOSSIP: &str = "/event_store.client.gossip.Gossip/Read";
const FEATURES: &str = "/event_store.client.server_features.ServerFeatures/GetSupportedMethods";

/// What clients are told that they speak to: the last version before the second protocol, which is not spoken here.
const SERVER_VERSION: &str = "23.10.0";
/// Longest request, in bytes: names, prefixes and expressions.
const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Reads and subscriptions at once, of all clients.
const ANSWERS_MAX: usize = 512;

/// Who answers the calls that change a stream: the ledger refuses them.
#[async_trait]
pub trait Writes: Send + Sync {
    /// The methods of [`STREAMS`] that there are besides `read`, lower-case.
    fn methods(&self) -> &'static [&'static str];

    /// Answers a call of the method of [`STREAMS`] with this name.
    async fn call(&self, method: &str, request: http::Request<Incoming>) -> http::Response<BoxBody>;
}

/// Nobody writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOnly;

#[async_trait]
impl Writes for ReadOnly {
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    async fn call(&self, method: &str, _request: http::Request<Incoming>) -> http::Response<BoxBody> {
        match method {
            "Append" | "BatchAppend" | "Delete" | "Tombstone" => read_only().into_http(),
            _ => not_spoken().into_http(),
        }
    }
}

/// A node of a cluster, as gossip tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it is the one that writes.
    pub is_leader: bool,
    /// Whether it is there.
    pub is_alive: bool,
}

/// What the face is made of.
pub struct FaceParts {
    /// What is read.
    pub store: Arc<dyn EventStore>,
    /// How an event's metadata is shown.
    pub metadata: MetadataOf,
    /// Who answers the calls that change a stream.
    pub writes: Arc<dyn Writes>,
    /// What gossip tells; where it is empty, the address at which the face is served.
    pub members: Vec<Member>,
    /// Names subscriptions and this node.
    pub ids: Arc<dyn Ids>,
    /// Ends the answers that would never end by themselves.
    pub stop: CancellationToken,
}

/// The methods over one store.
pub(super) struct Face {
    parts: FaceParts,
    index: CategoryIndex,
    instance: uuid::Uuid,
    answers: Arc<Semaphore>,
}

impl Face {
    pub(super) fn new(parts: FaceParts) -> Arc<Self> {
        let (index, instance) = (CategoryIndex::new(Arc::clone(&parts.store)), parts.ids.fresh());
        Arc::new(Self { parts, index, instance, answers: Arc::new(Semaphore::new(ANSWERS_MAX)) })
    }

    /// Answers one call.
    pub(super) async fn call(self: Arc<Self>, request: http::Request<Incoming>) -> http::Response<BoxBody> {
        let path = request.uri().path().to_owned();
        tracing::debug!(%path, "called by an EventStoreDB client");
        match path.as_str() {
            FEATURES => unary(self.features(), request).await,
            GOSSIP => unary(self.gossip(), request).await,
            path => match path.strip_prefix(STREAMS) {
                Some("Read") => self.answer_reads(request).await,
                Some(method) => self.parts.writes.call(method, request).await,
                None => not_spoken().into_http(),
            },
        }
    }

    async fn answer_reads(self: Arc<Self>, request: http::Request<Incoming>) -> http::Response<BoxBody> {
        let codec = ProstCodec::<ReadResp, ReadReq>::default();
        let read = service_fn(move |request: Request<ReadReq>| {
            let face = Arc::clone(&self);
            async move { face.read(request.into_inner()).map(Response::new).map_err(|refusal| *refusal) }
        });
        Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX).server_streaming(read, request).await
    }

    fn read(self: Arc<Self>, request: ReadReq) -> Result<Answer, Refusal> {
        let query = Query::read(request)?;
        let place = Arc::clone(&self.answers).try_acquire_owned().map_err(|_| busy(ANSWERS_MAX))?;
        let stop = self.parts.stop.clone();
        Ok(answer(|answers| async move { self.run(query, &answers).await }, stop, place))
    }

    async fn run(&self, query: Query, answers: &Answers) -> Result<(), Ended> {
        let speller = Speller { style: query.style, metadata: Arc::clone(&self.parts.metadata) };
        let reader = Reader { store: &self.parts.store, index: &self.index, speller, answers };
        let (direction, count) = match query.extent {
            Extent::Forwards(count) => (Direction::Forwards, count),
            Extent::Backwards(count) => (Direction::Backwards, count),
            Extent::Subscription => return self.follow(&reader, &query).await.map(|never| match never {}),
        };
        match &query.source {
            Asked::All(filter) => reader.all(filter.as_ref(), query.from, direction, count).await,
            Asked::Category(category) => reader.category(category, query.from, direction, count).await,
            Asked::Stream(name) => reader.stream(name, query.from, direction, count).await,
        }
    }

    async fn follow(&self, reader: &Reader<'_>, query: &Query) -> Result<Infallible, Ended> {
        let id = self.parts.ids.fresh();
        match &query.source {
            Asked::All(filter) => reader.follow_all(id, filter.as_ref(), query.from).await,
            Asked::Category(category) => reader.follow_category(id, category, query.from).await,
            Asked::Stream(name) => reader.follow_stream(id, name, query.from).await,
        }
    }

    fn features(&self) -> SupportedMethods {
        let of = |service: &str, method: &str| SupportedMethod {
            method_name: method.to_owned(),
            service_name: service.to_owned(),
            features: Vec::new(),
        };
        let streams = ["read"].iter().chain(self.parts.writes.methods());
        let mut methods: Vec<_> = streams.map(|method| of("event_store.client.streams.streams", method)).collect();
        methods.push(of("event_store.client.gossip.gossip", "read"));
        methods.push(of("event_store.client.server_features.serverfeatures", "getsupportedmethods"));
        SupportedMethods { methods, event_store_server_version: SERVER_VERSION.to_owned() }
    }

    fn gossip(&self) -> ClusterInfo {
        let members = self.parts.members.iter().map(|member| MemberInfo {
            instance_id: Some(Uuid::structured(self.instance)),
            time_stamp: 0,
            state: if member.is_leader { State::Leader } else { State::Follower }.into(),
            is_alive: member.is_alive,
            http_end_point: Some(EndPoint {
                address: member.address.ip().to_string(),
                port: u32::from(member.address.port()),
            }),
        });
        ClusterInfo { members: members.collect() }
    }
}

async fn unary<M: prost::Message + Default + Clone + 'static>(
    message: M,
    request: http::Request<Incoming>,
) -> http::Response<BoxBody> {
    let answer = service_fn(move |_: Request<Empty>| {
        let message = message.clone();
        async move { Ok::<_, Status>(Response::new(message)) }
    });
    Grpc::new(ProstCodec::<M, Empty>::default())
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .unary(answer, request)
        .await
}

fn not_spoken() -> Status {
    Status::unimplemented("A lease ledger answers reads and subscriptions of streams, gossip and server features.")
}
