//! Over real connections: listening, clients that go away, and a stop that waits for what is under way.

use std::time::Duration;

use lease_events::record::Position;
use lease_ledger::http::{ServeError, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::acquire;
use crate::support::{Bench, fake};

/// A ledger that listens.
struct Server {
    bench: Bench,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start() -> Self {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, bench.ledger.clone(), shutdown.clone()));
        Self { bench, address, shutdown, task }
    }

    async fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.address).await.expect("it listens"))
    }

    /// Waits until the log has grown to `position`.
    async fn at(&self, position: u64) {
        let ledger = &self.bench.ledger;
        while ledger.head().await.expect("the store answers") < Position(position) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Writes a request of HTTP/1.1.
async fn send(connection: &mut BufReader<TcpStream>, method: &str, path: &str, further: &str, body: &str) {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         {further}\r\n{body}",
        body.len()
    );
    connection.write_all(text.as_bytes()).await.expect("the connection is open");
}

/// Reads the head of an answer; answers its first line and the length of its body.
async fn read_head(connection: &mut BufReader<TcpStream>) -> (String, Option<usize>) {
    let (mut status, mut length) = (String::new(), None);
    connection.read_line(&mut status).await.expect("an answer");
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await.expect("a head");
        if line == "\r\n" {
            return (status, length);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
}

async fn read_json(connection: &mut BufReader<TcpStream>) -> (String, Value) {
    let (status, length) = read_head(connection).await;
    let mut body = vec![0; length.expect("a length")];
    connection.read_exact(&mut body).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let refused = serve(listener, Bench::new().ledger, CancellationToken::new()).await.expect_err("refused");
    assert!(refused.to_string().contains("can be reached from other machines"), "{refused}");
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    for _ in 0..2 {
        send(&mut connection, "GET", "/v1/ledger", "", "").await;
        let (status, ledger) = read_json(&mut connection).await;
        assert_eq!((&*status, &ledger["position"]), ("HTTP/1.1 200 OK\r\n", &json!(0)));
    }
    send(&mut connection, "GET", "/v1/ledger", "Host: evil.example\r\n", "").await;
    let (status, _) = read_head(&mut connection).await;
    assert!(status.starts_with("HTTP/1.1 4"), "{status}");
}

#[tokio::test]
async fn a_client_that_hangs_up_breaks_no_acquire_off() {
    let server = Server::start().await;
    let environment = server.bench.environment("slow", fake(json!({ "acquireDelayMs": 150 }))).await;
    let mut connection = server.connect().await;
    let body = acquire(environment.environment_id, 1).to_string();
    send(&mut connection, "POST", "/v1/leases", "", &body).await;
    server.at(2).await;
    drop(connection);
    server.at(3).await;
    assert_eq!(server.bench.held(), 1);
    let (_, listed) = {
        let mut connection = server.connect().await;
        send(&mut connection, "GET", "/v1/leases?open=true", "", "").await;
        read_json(&mut connection).await
    };
    assert_eq!(listed["leases"][0]["status"], "active");
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_ends_endless_streams() {
    let server = Server::start().await;
    let environment = server.bench.environment("slow", fake(json!({ "acquireDelayMs": 150 }))).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET", "/v1/events", "Accept: text/event-stream\r\n", "").await;
    read_head(&mut stream).await;
    let mut acquiring = server.connect().await;
    let body = acquire(environment.environment_id, 1).to_string();
    send(&mut acquiring, "POST", "/v1/leases", "", &body).await;
    server.at(2).await;

    server.shutdown.cancel();
    let (status, acquired) = read_json(&mut acquiring).await;
    assert_eq!((&*status, &acquired["how"]), ("HTTP/1.1 201 Created\r\n", &json!("fresh")));
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the stream ends by itself");
    assert!(rest.contains("event: environment-created") && rest.ends_with("0\r\n\r\n"), "{rest}");
    server.task.await.expect("no panic").expect("no fault");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}
