//! The worker host's own tests, on workers that are no processes and on paused time: each moment is exact. Real
//! workers are in the drivers' tests.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use lease_events::seam::SystemIds;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::calls::CallError;
use super::connection::Call;
use super::host_services::PluginServices;
use super::manifest::Manifest;
use super::process::{Launched, Launcher, WorkerProcess};
use super::registry::{InstalledPlugin, NewPlugin, Registry, StartCommand};
use super::rpc::{RpcError, code};
use super::supervisor::Timings;
use super::trust::{Checked, Trust};
use super::{Need, NotRunning, WorkerHost, WorkerHostParts, WorkerState};

/// The other end of a worker that is no process: what the host wrote, and a pen to answer with.
struct Puppet {
    requests: BufReader<DuplexStream>,
    answers: DuplexStream,
    exit: Option<oneshot::Sender<()>>,
}

impl Puppet {
    async fn next(&mut self) -> Value {
        let mut line = String::new();
        self.requests.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    async fn write(&mut self, line: &str) {
        self.answers.write_all(line.as_bytes()).await.unwrap();
        self.answers.write_all(b"\n").await.unwrap();
    }

    async fn answer(&mut self, request: &Value, result: Value) {
        self.write(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string()).await;
    }

    async fn initialize(&mut self) {
        let request = self.next().await;
        assert_eq!(request["method"], "initialize");
        self.answer(&request, json!({ "ok": true, "supportedMethods": ["environmentProbe"] })).await;
    }

    fn crash(&mut self) {
        self.exit.take().unwrap().send(()).unwrap();
    }
}

/// Hands out puppets.
struct Stage {
    puppets: mpsc::UnboundedSender<Puppet>,
    launches: AtomicUsize,
    refusals: Mutex<VecDeque<io::ErrorKind>>,
}

struct PuppetProcess(Option<oneshot::Receiver<()>>);

#[async_trait]
impl WorkerProcess for PuppetProcess {
    async fn ended(&mut self) -> String {
        if let Some(exit) = &mut self.0 {
            let _ = exit.await;
            self.0 = None;
        }
        "it exited with 1".to_owned()
    }

    fn terminate(&mut self) {}

    async fn kill(&mut self) -> bool {
        true
    }
}

#[async_trait]
impl Launcher for Stage {
    async fn launch(&self, _: &InstalledPlugin) -> io::Result<Launched> {
        self.launches.fetch_add(1, Ordering::SeqCst);
        if let Some(kind) = self.refusals.lock().unwrap().pop_front() {
            return Err(kind.into());
        }
        let (stdin, requests) = duplex(1_024 * 1_024);
        let (answers, stdout) = duplex(1_024 * 1_024);
        let (exit, exited) = oneshot::channel();
        self.puppets.send(Puppet { requests: BufReader::new(requests), answers, exit: Some(exit) }).unwrap();
        Ok(Launched {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(tokio::io::empty()),
            process: Box::new(PuppetProcess(Some(exited))),
        })
    }
}

struct Theatre {
    host: Arc<WorkerHost>,
    stage: Arc<Stage>,
    puppets: mpsc::UnboundedReceiver<Puppet>,
    _folder: tempfile::TempDir,
}

fn theatre() -> Theatre {
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds)));
    let manifest = json!({
        "id": "p", "apiVersion": 1, "version": "1.0.0", "displayName": "P", "capabilities": [],
        "entrypoints": { "worker": "w.mjs" },
    });
    let manifest = Manifest::parse(manifest).unwrap();
    let start = StartCommand::node(&manifest, folder.path());
    registry.install(NewPlugin { manifest, start, grants: None, config: None }).unwrap();
    let (sender, puppets) = mpsc::unbounded_channel();
    let stage = Arc::new(Stage { puppets: sender, launches: AtomicUsize::new(0), refusals: Mutex::default() });
    let host = WorkerHost::new(WorkerHostParts {
        services: Arc::new(PluginServices::new(Arc::clone(&registry))),
        registry,
        launcher: Arc::clone(&stage) as _,
        timings: Timings::default(),
        instance_id: "test".to_owned(),
    });
    Theatre { host, stage, puppets, _folder: folder }
}

impl Theatre {
    async fn running(&mut self) -> (super::Running, Puppet) {
        let (running, puppet) = tokio::join!(self.host.running("p", Need::Work), async {
            let mut puppet = self.puppets.recv().await.unwrap();
            puppet.initialize().await;
            puppet
        });
        (running.unwrap(), puppet)
    }
}

fn probe(deadline: Duration) -> Call {
    Call::new("environmentProbe", json!({}), deadline)
}

fn a_minute() -> Call {
    probe(Duration::from_mins(1))
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_up_is_found_at_the_next_look_until_the_last() {
    for (up_at, found_at) in [(0, 100), (4_899, 4_900), (4_901, 5_000), (4_999, 5_000), (5_001, 5_000)] {
        let mut theatre = theatre();
        let started = Instant::now();
        let up = async {
            let mut puppet = theatre.puppets.recv().await.unwrap();
            tokio::time::sleep_until(started + Duration::from_millis(up_at)).await;
            puppet.initialize().await;
            puppet
        };
        let wait = async { (theatre.host.running("p", Need::Work).await, started.elapsed()) };
        let ((found, after), _puppet) = tokio::join!(wait, up);
        assert_eq!(found.is_ok(), up_at <= 5_000, "{up_at}");
        // Tokio's timers are exact to the millisecond, and round up.
        let late = after.checked_sub(Duration::from_millis(found_at)).unwrap();
        assert!(late <= Duration::from_millis(1), "{up_at}: {after:?}");
        if let Err(error) = found {
            let sentence = "The worker of plugin \"p\" is not available: it is still starting.";
            assert_eq!((error.to_string().as_str(), error.code()), (sentence, "worker-unavailable"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_state_has_its_own_sentence() {
    let mut theatre = theatre();
    let started = Instant::now();
    let missing = theatre.host.running("q", Need::Work).await.err().unwrap();
    assert!(matches!(&missing, NotRunning::Missing { .. }), "{missing}");
    theatre.host.registry().set_enabled("p", false).unwrap();
    let not_ready = theatre.host.running("p", Need::Work).await.err().unwrap();
    assert!(matches!(&not_ready, NotRunning::NotReady { .. }), "{not_ready}");
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody waits for what will not come");
    assert_eq!(theatre.stage.launches.load(Ordering::SeqCst), 0);
    assert_eq!(theatre.host.status("p").state, WorkerState::Stopped);
    // What is there already is settled all the same.
    let settling = theatre.host.running("p", Need::Settle);
    let (settled, _puppet) = tokio::join!(settling, async {
        let mut puppet = theatre.puppets.recv().await.unwrap();
        puppet.initialize().await;
        puppet
    });
    assert!(settled.is_ok());
    theatre.host.registry().set_enabled("p", true).unwrap();
    let running = theatre.host.running("p", Need::Work).await.unwrap();
    assert_eq!(theatre.stage.launches.load(Ordering::SeqCst), 1, "to be enabled or not is no other worker");
    assert!(running.supports("environmentProbe") && !running.supports("environmentListLeases"));
    // What a check shows of it changes no worker.
    let plugin = theatre.host.registry().get("p").unwrap().unwrap();
    let digest = super::trust::digest(&plugin);
    let checked = Checked { digest, checked_at: DateTime::UNIX_EPOCH, failed: Vec::new(), trust: Trust::default() };
    theatre.host.registry().record_check("p", "boxes", checked).unwrap();
    assert!(Arc::ptr_eq(&theatre.host.running("p", Need::Work).await.ok().unwrap().connection, &running.connection));
}

#[tokio::test(start_paused = true)]
async fn a_crash_rejects_what_is_in_flight_and_the_waits_double_until_it_is_given_up() {
    let mut theatre = theatre();
    let (running, mut puppet) = theatre.running().await;
    let call = tokio::spawn(async move { running.connection.call(a_minute()).await });
    puppet.next().await;
    puppet.crash();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Unavailable { sent: true, .. }), "{error}");

    let mut waits = Vec::new();
    let mut before = Instant::now();
    for _ in 0..9 {
        let mut puppet = theatre.puppets.recv().await.unwrap();
        waits.push(before.elapsed().as_secs());
        puppet.initialize().await;
        before = Instant::now();
        puppet.crash();
    }
    // What a dead worker wrote is still read to its end before the wait begins: the pen is dropped with the puppet.
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(theatre.stage.launches.load(Ordering::SeqCst), 10);
    let error = theatre.host.running("p", Need::Work).await.err().unwrap().to_string();
    assert!(error.contains("it crashed 10 times within 600s; the last time it exited with 1"), "{error}");
    let status = theatre.host.status("p");
    assert_eq!((status.state, status.restarts), (WorkerState::GivenUp, 9));
    assert_eq!(status.last_error.as_deref(), Some("it exited with 1"));
    assert_eq!(status.methods.as_deref(), Some(&["environmentProbe".to_owned()][..]), "as it last told");
    // An operator may start it again.
    theatre.host.stop("p").await;
    theatre.running().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_be_started_says_why() {
    let mut theatre = theatre();
    theatre.stage.refusals.lock().unwrap().extend([io::ErrorKind::NotFound; 3]);
    let error = theatre.host.running("p", Need::Work).await.err().unwrap().to_string();
    assert!(error.contains("\"node\" could not be started"), "{error}");
    let (_, _puppet) = theatre.running().await;
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_calls_in_any_order_and_an_id_of_the_other_direction_is_no_answer() {
    let mut theatre = theatre();
    let (running, mut puppet) = theatre.running().await;
    let (first, second) = (running.connection.call(a_minute()), running.connection.call(a_minute()));
    let play = async {
        let (one, two) = (puppet.next().await, puppet.next().await);
        // Its own request under the id of a call that waits.
        puppet.write(&json!({ "jsonrpc": "2.0", "id": one["id"], "method": "state.get" }).to_string()).await;
        let refusal = puppet.next().await;
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&one["id"], &json!(code::UNKNOWN_METHOD)));
        for noise in
            ["garbage", "[]", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"?\"}}", ""]
        {
            puppet.write(noise).await;
        }
        puppet.answer(&two, json!("second")).await;
        puppet.answer(&two, json!("again")).await;
        puppet.answer(&one, json!("first")).await;
    };
    let (first, second, ()) = tokio::join!(first, second, play);
    assert_eq!((first.unwrap(), second.unwrap()), (json!("first"), json!("second")));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_handed_on_without_its_secret() {
    let mut theatre = theatre();
    let mut late = theatre.host.take_late_answers().unwrap();
    let (running, mut puppet) = theatre.running().await;
    let call = Call { tag: json!("lease 7"), secrets: vec!["hunter-2".into()], ..probe(Duration::from_secs(3)) };
    let error = running.connection.call(call).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { sent: true, .. }));
    // One whose caller went away is late too.
    let abandoned = Call { tag: json!("lease 8"), ..a_minute() };
    tokio::time::timeout(Duration::from_secs(1), running.connection.call(abandoned)).await.unwrap_err();
    let (one, two) = (puppet.next().await, puppet.next().await);
    puppet.answer(&one, json!({ "token": "hunter-2!" })).await;
    puppet.answer(&one, json!("twice")).await;
    let error = json!({ "jsonrpc": "2.0", "id": two["id"], "error": { "code": -32002, "message": "no" } });
    puppet.write(&error.to_string()).await;
    let answer = late.recv().await.unwrap();
    assert_eq!((answer.tag, answer.answer), (json!("lease 7"), Ok(json!({ "token": "[secret]!" }))));
    let answer = late.recv().await.unwrap();
    assert_eq!((answer.tag, answer.answer), (json!("lease 8"), Err(RpcError::new(-32_002, "no"))));
    assert!(late.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_never_written_is_known_not_to_have_been() {
    let mut theatre = theatre();
    let (running, puppet) = theatre.running().await;
    // The pipe holds a MiB: the first call fills it, and the second waits behind.
    let large = Call { params: json!("x".repeat(2 * 1_024 * 1_024)), ..probe(Duration::from_secs(2)) };
    let (first, second) =
        tokio::join!(running.connection.call(large), running.connection.call(probe(Duration::from_secs(1))));
    assert!(matches!(first.unwrap_err(), CallError::TimedOut { sent: true, .. }));
    assert!(matches!(second.unwrap_err(), CallError::TimedOut { sent: false, .. }));
    let too_long = Call { params: json!("x".repeat(super::line::LINE_BYTES_MAX)), ..a_minute() };
    assert!(matches!(running.connection.call(too_long).await.unwrap_err(), CallError::NotSent { .. }));
    drop(puppet);
}
