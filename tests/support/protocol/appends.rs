//! Appends over the wire, for the protocol server of the tests: expected revisions and repetitions are the memory store's.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use lease_events::id::{CompanyId, EventId};
use lease_events::record::{NewEvent, RecordedEvent, StreamId};
use lease_events::seam::{Ids, SystemIds};
use lease_events::store::{Append, AppendError, Appended, Direction, EventStore, Expected as At};
use lease_ledger::esdb::messages::Empty;
use lease_ledger::esdb::{MetadataOf, Writes};
use lease_stores::memory::MemoryStore;
use prost::Message;
use prost::bytes::Bytes;
use tonic::body::BoxBody;
use tonic::codec::ProstCodec;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

use super::messages::{
    AppendContent, AppendOptions, AppendReq, AppendResp, AppendResult, BatchAppendReq, BatchAppendResp, BatchCurrent,
    BatchExpected, BatchResult, BatchWrongExpectedVersion, Current, Current206, Expected, Expected206, Expects,
    LogPosition, Packed, ProposedMessage, RpcStatus, Success, WrongExpectedVersion,
};

/// Takes appends into a memory store. What clients send as metadata is kept beside it, since it may be longer than a ledger's.
#[derive(Clone)]
pub(crate) struct Appends {
    store: Arc<MemoryStore>,
    metadata: Arc<Mutex<HashMap<String, Bytes>>>,
}

/// What an append came to: done, or at another revision.
type Taken = Result<Appended, Option<u64>>;

impl Appends {
    pub(crate) fn new(store: Arc<MemoryStore>) -> Self {
        Self { store, metadata: Arc::default() }
    }

    /// The metadata that came with an event.
    pub(crate) fn metadata(&self) -> MetadataOf {
        let kept = Arc::clone(&self.metadata);
        Arc::new(move |event: &RecordedEvent| {
            kept.lock().expect("no panic").get(&*event.metadata).cloned().unwrap_or_default()
        })
    }

    async fn take(&self, options: &AppendOptions, messages: Vec<ProposedMessage>) -> Result<Taken, Status> {
        let name = options.stream_identifier.clone().unwrap_or_default().stream_name;
        let name = String::from_utf8_lossy(&name).into_owned();
        let stream = StreamId::parse(&name).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let events = messages.into_iter().map(|message| self.event(message));
        let events: Vec<NewEvent> = events.collect::<Result<_, _>>().map_err(Status::invalid_argument)?;
        loop {
            let last = self.store.read_stream(&stream, u64::MAX, Direction::Backwards, 1).await;
            let last = last.expect("memory can be read").first().map(|event| event.stream_revision);
            let expected = match options.expects {
                Some(Expects::Revision(revision)) => At::Exact(revision),
                Some(Expects::NoStream(_)) => At::NoStream,
                Some(Expects::StreamExists(_)) if last.is_none() => return Ok(Err(None)),
                Some(Expects::Any(_) | Expects::StreamExists(_)) | None => At::after(last),
            };
            let is_exact = matches!(options.expects, Some(Expects::Revision(_) | Expects::NoStream(_)));
            match self.store.append(Append { stream: stream.clone(), expected, events: events.clone() }).await {
                Ok(appended) => return Ok(Ok(appended)),
                // Another came between the look and the append.
                Err(AppendError::WrongExpectedRevision { .. }) if !is_exact => {}
                Err(AppendError::WrongExpectedRevision { actual, .. }) => return Ok(Err(actual)),
                Err(error) => return Err(Status::invalid_argument(error.to_string())),
            }
        }
    }

    fn event(&self, message: ProposedMessage) -> Result<NewEvent, String> {
        let wrong = |what: &str| format!("The event has no valid {what}.");
        let key = SystemIds.fresh().to_string();
        self.metadata.lock().expect("no panic").insert(key.clone(), message.custom_metadata);
        Ok(NewEvent {
            event_id: EventId(message.id.and_then(|id| id.read()).ok_or_else(|| wrong("id"))?),
            event_type: interned(message.metadata.get("type").ok_or_else(|| wrong("type"))?),
            schema_version: 1,
            company_id: CompanyId::derived(&["protocol server"]),
            data: std::str::from_utf8(&message.data).map_err(|_| wrong("text"))?.into(),
            metadata: key.into(),
        })
    }

    async fn append(self, mut requests: Streaming<AppendReq>) -> Result<Response<AppendResp>, Status> {
        let (mut options, mut messages) = (None, Vec::new());
        while let Some(request) = requests.message().await? {
            match request.content {
                Some(AppendContent::Options(given)) => options = Some(given),
                Some(AppendContent::Message(message)) => messages.push(message),
                None => return Err(Status::invalid_argument("An append has options and messages.")),
            }
        }
        let options = options.ok_or_else(|| Status::invalid_argument("An append begins with its options."))?;
        let result = match self.take(&options, messages).await? {
            Ok(appended) => AppendResult::Success(success(&appended)),
            Err(actual) => AppendResult::WrongExpectedVersion(wrong_version(&options, actual)),
        };
        Ok(Response::new(AppendResp { result: Some(result) }))
    }

    fn batches(
        self,
        requests: Streaming<BatchAppendReq>,
    ) -> impl Stream<Item = Result<BatchAppendResp, Status>> + Send {
        let begun: HashMap<Vec<u8>, (AppendOptions, Vec<ProposedMessage>)> = HashMap::new();
        futures_util::stream::unfold((self, requests, begun), |(appends, mut requests, mut begun)| async move {
            loop {
                let request = match requests.message().await {
                    Ok(request) => request?,
                    Err(status) => return Some((Err(status), (appends, requests, begun))),
                };
                let key = request.correlation_id.clone().unwrap_or_default().encode_to_vec();
                let (options, messages) = begun.entry(key.clone()).or_default();
                if let Some(given) = request.options {
                    *options = given;
                }
                messages.extend(request.proposed_messages);
                if request.is_final {
                    let (options, messages) = begun.remove(&key).expect("it was just there");
                    let answer = appends.take(&options, messages).await;
                    let stream_identifier = options.stream_identifier.clone();
                    let answer = answer.map(|taken| BatchAppendResp {
                        correlation_id: request.correlation_id,
                        result: Some(batch_result(&options, taken)),
                        stream_identifier,
                    });
                    return Some((answer, (appends, requests, begun)));
                }
            }
        })
    }
}

#[async_trait]
impl Writes for Appends {
    fn methods(&self) -> &'static [&'static str] {
        &["append", "batchappend"]
    }

    async fn call(&self, method: &str, request: http::Request<Incoming>) -> http::Response<BoxBody> {
        let appends = self.clone();
        match method {
            "Append" => {
                let service =
                    service_fn(move |request: Request<Streaming<_>>| appends.clone().append(request.into_inner()));
                Grpc::new(ProstCodec::<AppendResp, AppendReq>::default()).client_streaming(service, request).await
            }
            "BatchAppend" => {
                let service = service_fn(move |request: Request<Streaming<_>>| {
                    let answers = appends.clone().batches(request.into_inner()).boxed();
                    async move { Ok::<_, Status>(Response::new(answers)) }
                });
                Grpc::new(ProstCodec::<BatchAppendResp, BatchAppendReq>::default()).streaming(service, request).await
            }
            _ => Status::unimplemented("The protocol server of the tests has no such method.").into_http(),
        }
    }
}

fn success(appended: &Appended) -> Success {
    let position = appended.position().0;
    Success {
        current_revision: appended.events.last().map(|event| event.stream_revision),
        position: Some(LogPosition { commit_position: position, prepare_position: position }),
    }
}

fn wrong_version(options: &AppendOptions, actual: Option<u64>) -> WrongExpectedVersion {
    let (expected_20_6, expected) = match options.expects {
        Some(Expects::Revision(revision)) => {
            (Some(Expected206::Revision(revision)), Some(Expected::Revision(revision)))
        }
        Some(Expects::NoStream(empty)) => (None, Some(Expected::NoStream(empty))),
        Some(Expects::StreamExists(empty)) => {
            (Some(Expected206::StreamExists(empty)), Some(Expected::StreamExists(empty)))
        }
        Some(Expects::Any(empty)) => (Some(Expected206::Any(empty)), Some(Expected::Any(empty))),
        None => (None, None),
    };
    WrongExpectedVersion {
        current_20_6: Some(actual.map_or(Current206::NoStream(Empty {}), Current206::Revision)),
        expected_20_6,
        current: Some(actual.map_or(Current::NoStream(Empty {}), Current::Revision)),
        expected,
    }
}

fn batch_result(options: &AppendOptions, taken: Taken) -> BatchResult {
    let actual = match taken {
        Ok(appended) => return BatchResult::Success(success(&appended)),
        Err(actual) => actual,
    };
    let details = BatchWrongExpectedVersion {
        current: Some(actual.map_or(BatchCurrent::NoStream(Empty {}), BatchCurrent::Revision)),
        expected: options.expects.map(|expects| match expects {
            Expects::Revision(revision) => BatchExpected::Revision(revision),
            Expects::NoStream(empty) => BatchExpected::NoStream(empty),
            Expects::Any(empty) => BatchExpected::Any(empty),
            Expects::StreamExists(empty) => BatchExpected::StreamExists(empty),
        }),
    };
    let details = Packed {
        type_url: "type.googleapis.com/event_store.client.WrongExpectedVersion".to_owned(),
        value: details.encode_to_vec().into(),
    };
    let message = "WrongExpectedVersion".to_owned();
    BatchResult::Error(RpcStatus { code: i32::from(Code::FailedPrecondition), message, details: Some(details) })
}

/// Types of events are static where a ledger writes them; those of clients are few, and kept.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().expect("no panic");
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}
