//! One connection to one running worker: calls out, answers in, and the worker's own requests and news.
//!
//! **Invariants:** the reader never waits for the worker to read, so that neither side can block the other for ever.
//! Every call ends: by its answer, its deadline, or the end of the connection. Nothing that the worker says is logged
//! with a secret value that it was given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::calls::{CallError, Calls, Claim, LateAnswer, Taken, Waiting};
use super::host_services::{HostRequest, HostServices};
use super::invocation::{self, Invocations, LogChunk};
use super::line::{self, Line};
use super::log::WorkerLog;
use super::rpc::{self, Message, RpcError, code};
use crate::secrets::redact::Redactor;

/// Most lines that wait to be written: a worker that reads slower holds its callers up, not the host's memory.
const OUTGOING_LINES_MAX: usize = 64;
/// Most requests of one worker that are served at once; what comes beyond is answered with an error.
const HOST_REQUESTS_MAX: usize = 64;
/// Longest time that one request of a worker may take to be served: as a call the other way.
const HOST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a worker's output is taken from its pipe at once: as much as a pipe holds.
const READ_BUFFER_BYTES: usize = 64 * 1_024;

/// What is asked of a worker.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// Its params.
    pub params: Value,
    /// Longest time to wait for the answer, the way through the queue included.
    pub deadline: Duration,
    /// For which company; none for calls of the host's own, which bear no invocation.
    pub company_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Where live output goes.
    pub log: Option<mpsc::Sender<LogChunk>>,
    /// By what a late answer is to be known.
    pub tag: Value,
    /// The secret values in `params`: they are taken out of errors, late answers and logs.
    pub secrets: Vec<SecretString>,
}

impl Call {
    /// A call of the host's own: for no company.
    #[must_use]
    pub fn new(method: &'static str, params: Value, deadline: Duration) -> Self {
        let (company_id, traceparent, log, tag, secrets) = (None, None, None, Value::Null, Vec::new());
        Self { method, params, deadline, company_id, traceparent, log, tag, secrets }
    }
}

/// A line on its way out.
struct Outgoing {
    bytes: Vec<u8>,
    /// Absent for answers of ours: nobody can give those up.
    claim: Option<Arc<Claim>>,
}

/// A connection. Dropping it ends its tasks.
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    plugin_key: String,
    calls: Mutex<Calls>,
    invocations: Mutex<Invocations>,
    log: Arc<WorkerLog>,
    /// The worker's output is at its end, or it reads no more.
    over: CancellationToken,
}

/// The three streams of a worker, and what the connection needs of its host.
pub(super) struct Ends<I, O, E> {
    pub(super) stdin: I,
    pub(super) stdout: O,
    pub(super) stderr: E,
    pub(super) services: Arc<dyn HostServices>,
    pub(super) late_answers: mpsc::Sender<LateAnswer>,
}

impl Connection {
    /// Starts to read and write.
    pub(super) fn open<I, O, E>(plugin_key: &str, ends: Ends<I, O, E>) -> Self
    where
        I: AsyncWrite + Send + Unpin + 'static,
        O: AsyncRead + Send + Unpin + 'static,
        E: AsyncRead + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared {
            plugin_key: plugin_key.to_owned(),
            calls: Mutex::new(Calls::new(plugin_key, ends.late_answers)),
            invocations: Mutex::default(),
            log: Arc::new(WorkerLog::new(plugin_key)),
            over: CancellationToken::new(),
        });
        let (outgoing, lines) = mpsc::channel(OUTGOING_LINES_MAX);
        let serving = Serving {
            shared: Arc::clone(&shared),
            services: ends.services,
            outgoing: outgoing.downgrade(),
            permits: Arc::new(Semaphore::new(HOST_REQUESTS_MAX)),
        };
        let tasks = vec![
            tokio::spawn(write(ends.stdin, lines, Arc::clone(&shared))),
            tokio::spawn(read(ends.stdout, serving)),
            tokio::spawn(read_log(ends.stderr, Arc::clone(&shared.log))),
        ];
        Self { shared, outgoing, tasks }
    }

    /// Asks the worker, and waits for its answer until the deadline. Whoever drops the future stops waiting; the
    /// answer is then a late one.
    pub async fn call(&self, call: Call) -> Result<Value, CallError> {
        let id = self.shared.calls().fresh_id();
        let mut request = json!({ "jsonrpc": "2.0", "id": id, "method": call.method, "params": call.params });
        let invocation_id = format!("invocation-{id}");
        if let Some(company_id) = &call.company_id {
            request["paperclipInvocation"] =
                invocation::metadata(&invocation_id, company_id, call.traceparent.as_deref());
        }
        let bytes = line::encode(&request).map_err(|error| CallError::NotSent { because: error.to_string() })?;
        drop(request);
        let redactor = Redactor::of(&call.secrets);
        self.shared.log.hide(&redactor);
        let claim = Arc::new(Claim::default());
        let (answer, answered) = oneshot::channel();
        let (method, tag) = (call.method.to_owned(), call.tag);
        let waiting = Waiting { method, tag, redactor, claim: Arc::clone(&claim), answer };
        self.shared.calls().wait(id, waiting)?;
        if call.company_id.is_some() {
            self.shared.invocations().open(&invocation_id, call.company_id, call.log);
        }
        let _route = OpenRoute { shared: &self.shared, id, invocation_id };
        let exchange = async {
            // A writer that is gone has closed the calls: the answer says so.
            let _ = self.outgoing.send(Outgoing { bytes, claim: Some(claim) }).await;
            answered.await
        };
        match tokio::time::timeout(call.deadline, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Unavailable {
                plugin_key: self.shared.plugin_key.clone(),
                because: "the connection was dropped".to_owned(),
                sent: true,
            }),
            Err(_) => Err(CallError::TimedOut {
                plugin_key: self.shared.plugin_key.clone(),
                method: call.method.to_owned(),
                after: call.deadline,
                sent: self.shared.calls().give_up(id),
            }),
        }
    }

    /// Waits until the worker's output is at its end.
    pub(super) async fn over(&self) {
        self.shared.over.cancelled().await;
    }

    /// Rejects what waits, and takes no more.
    pub(super) fn close(&self, because: &str) {
        self.shared.calls().close(&self.shared.log.redacted(because));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Takes a call's traces away, however its future ends.
struct OpenRoute<'a> {
    shared: &'a Shared,
    id: u64,
    invocation_id: String,
}

impl Drop for OpenRoute<'_> {
    fn drop(&mut self) {
        self.shared.invocations().close(&self.invocation_id);
        self.shared.calls().give_up(self.id);
    }
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Whole after every statement.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn invocations(&self) -> MutexGuard<'_, Invocations> {
        self.invocations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(mut stdin: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Outgoing>, shared: Arc<Shared>) {
    while let Some(Outgoing { bytes, claim }) = lines.recv().await {
        if claim.is_some_and(|claim| !claim.write()) {
            continue;
        }
        let written = async {
            stdin.write_all(&bytes).await?;
            stdin.flush().await
        };
        if written.await.is_err() {
            shared.over.cancel();
            return;
        }
    }
}

/// What the reader needs.
struct Serving {
    shared: Arc<Shared>,
    services: Arc<dyn HostServices>,
    /// Weak: the queue closes when the connection goes, not when the reader does.
    outgoing: mpsc::WeakSender<Outgoing>,
    permits: Arc<Semaphore>,
}

async fn read(stdout: impl AsyncRead + Unpin, serving: Serving) {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, stdout);
    let log = Arc::clone(&serving.shared.log);
    loop {
        match line::next(&mut reader).await {
            Ok(Some(Line::Text(line))) if line.iter().all(u8::is_ascii_whitespace) => {}
            Ok(Some(Line::Text(line))) => match rpc::parse(&line) {
                Ok(message) => serving.take(message),
                Err(why) => log.dropped(line.len() as u64, why),
            },
            Ok(Some(Line::Dropped(length))) => log.dropped(length, "it is longer than a line may be"),
            Ok(None) | Err(_) => break,
        }
    }
    serving.shared.over.cancel();
}

impl Serving {
    fn take(&self, message: Message) {
        let log = &self.shared.log;
        match message {
            Message::Answer { id, answer } => {
                // The lock is not held while it is logged.
                let taken = self.shared.calls().answer(id, answer);
                match taken {
                    Taken::Delivered => {}
                    Taken::Late => log.note("an answer came after its caller had stopped waiting"),
                    Taken::Lost => log.note("a late answer was dropped, since nobody drains them"),
                    Taken::Unasked => log.note("an answer was dropped: nobody asked, or it came twice"),
                }
            }
            Message::Request { id, method, params, invocation } => {
                let company_id = self.shared.invocations().company_of(invocation.as_deref());
                self.serve(id, HostRequest { plugin_key: self.shared.plugin_key.clone(), method, params, company_id });
            }
            Message::Notification { method, params, invocation } => match method.as_str() {
                "execute.log" => {
                    let _ = self.shared.invocations().log(invocation.as_deref(), params);
                }
                "log" => log.said(&params),
                _ => {}
            },
            // Which request it was cannot be told: that call ends by its deadline.
            Message::Unread(error) => log.unread(&error),
        }
    }

    /// Serves a request beside the reader, and answers it.
    fn serve(&self, id: Value, request: HostRequest) {
        let Some(outgoing) = self.outgoing.upgrade() else { return };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let busy = RpcError::new(code::INTERNAL, format!("{HOST_REQUESTS_MAX} requests are under way already."));
            if let Ok(bytes) = line::encode(&rpc::answer(&id, Err(busy)))
                && outgoing.try_send(Outgoing { bytes, claim: None }).is_err()
            {
                self.shared.log.note("a request was not answered: the worker does not read its answers");
            }
            return;
        };
        let services = Arc::clone(&self.services);
        let over = self.shared.over.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let serving = tokio::time::timeout(HOST_REQUEST_TIMEOUT, services.serve(request));
            let answer = serving.await.unwrap_or_else(|_| {
                Err(RpcError::new(code::TIMEOUT, format!("It took longer than {HOST_REQUEST_TIMEOUT:?}.")))
            });
            let bytes = line::encode(&rpc::answer(&id, answer)).or_else(|error| {
                line::encode(&rpc::answer(&id, Err(RpcError::new(code::INTERNAL, error.to_string()))))
            });
            if let Ok(bytes) = bytes {
                // A worker that is gone reads no answer.
                let _ = over.run_until_cancelled(outgoing.send(Outgoing { bytes, claim: None })).await;
            }
        });
    }
}

async fn read_log(stderr: impl AsyncRead + Unpin, log: Arc<WorkerLog>) {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, stderr);
    while let Ok(Some(line)) = line::next(&mut reader).await {
        match line {
            Line::Text(text) => log.stderr(&String::from_utf8_lossy(&text)),
            Line::Dropped(length) => log.dropped(length, "it is longer than a line may be"),
        }
    }
}
