//! Streams: the log as it grows, and commands as they run. Nothing is missed, nothing comes twice.

use axum::body::Body;
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Api, id, json_body, lines, request};

const SSE: (&str, &str) = ("Accept", "text/event-stream");
const NDJSON: (&str, &str) = ("Accept", "application/x-ndjson");

/// A streamed body, read message by message.
struct Messages {
    body: Body,
    unread: String,
    end: &'static str,
}

impl Messages {
    async fn open(api: &Api, path: &str, headers: &[(&str, &str)], end: &'static str) -> Self {
        let response = api.open(request(Method::GET, path, headers, Body::empty())).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), unread: String::new(), end }
    }

    async fn next(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.unread.split_once(self.end) {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.unread = rest;
                return message;
            }
            let frame = self.body.frame().await.expect("the stream goes on").expect("a frame");
            let data = frame.into_data().expect("data");
            self.unread.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
    }
}

/// The id, type and data of a server-sent event.
fn parse(message: &str) -> (u64, String, Value) {
    let field = |name: &str| {
        let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name}: {message}"))
    };
    let data = serde_json::from_str(field("data")).expect("data is JSON");
    (field("id").parse().expect("a position"), field("event").to_owned(), data)
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_back_misses_and_repeats_nothing() {
    let (api, environment) = Api::with_environment(json!({})).await;
    api.acquire(environment, 1).await;
    let mut seen = Vec::new();
    let mut first = Messages::open(&api, "/v1/events", &[SSE], "\n\n").await;
    for _ in 0..2 {
        let (position, event_type, data) = parse(&first.next().await);
        assert_eq!((&data["position"], &data["type"]), (&json!(position), &json!(event_type)));
        seen.push(position);
    }
    drop(first);
    api.acquire(environment, 2).await;

    let last = seen.last().expect("seen").to_string();
    // What was seen goes before `after`, which a browser's EventSource repeats each time.
    let mut again = Messages::open(&api, "/v1/events?after=0", &[SSE, ("Last-Event-ID", &last)], "\n\n").await;
    while seen.len() < usize::try_from(api.head().await).expect("small") {
        seen.push(parse(&again.next().await).0);
    }
    // What comes while the stream is open comes too.
    api.acquire(environment, 3).await;
    while seen.len() < usize::try_from(api.head().await).expect("small") {
        seen.push(parse(&again.next().await).0);
    }
    assert_eq!(seen, (1..=api.head().await).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_that_it_is_there() {
    let (api, _) = Api::with_environment(json!({})).await;
    let mut messages = Messages::open(&api, "/v1/events?after=1", &[SSE], "\n\n").await;
    let began = tokio::time::Instant::now();
    assert!(messages.next().await.starts_with(':'), "a comment");
    assert_eq!(began.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_in_pages() {
    let (api, environment) = Api::with_environment(json!({})).await;
    api.acquire(environment, 1).await;
    let page = api.get("/v1/events?limit=2").await;
    assert_eq!(page.header("content-type"), "application/x-ndjson");
    let positions = |body: &[u8]| lines(body).iter().map(|event| event["position"].clone()).collect::<Vec<_>>();
    assert_eq!(positions(&page.body), [1, 2]);
    assert_eq!(positions(&api.get("/v1/events?after=2&limit=1").await.body), [3]);
    assert_eq!(api.get("/v1/events?after=99").await.body.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_follows_goes_on() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let mut follow = Messages::open(&api, "/v1/events?follow=true", &[], "\n").await;
    let position = |line: String| serde_json::from_str::<Value>(&line).expect("JSON")["position"].clone();
    assert_eq!(position(follow.next().await), 1);
    api.acquire(environment, 1).await;
    assert_eq!(position(follow.next().await), 2);
    assert_eq!(position(follow.next().await), 3);
}

#[tokio::test(start_paused = true)]
async fn a_last_event_id_that_is_none_is_refused() {
    let api = Api::new();
    let headers = [SSE, ("Last-Event-ID", "yesterday")];
    let answer = api.send(request(Method::GET, "/v1/events", &headers, Body::empty())).await;
    assert_eq!(answer.problem(400, "malformed-header")["field"], "Last-Event-ID");
}

#[tokio::test(start_paused = true)]
async fn a_commands_output_is_streamed_and_ends_with_its_result() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let path = format!("/v1/leases/{}/execute", id(&api.acquire(environment, 1).await));
    let echo = json!({ "fencingToken": 1, "command": "cat", "stdin": "a\nb" });
    let answer = api.post_with(&path, &[NDJSON], &echo).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let told = lines(&answer.body);
    assert_eq!(told[0], json!({ "stream": "stdout", "data": STANDARD.encode("a\nb") }));
    assert_eq!((told.len(), &told[1]["result"]["exitCode"]), (2, &json!(0)));

    let stale = json!({ "fencingToken": 9, "command": "cat" });
    api.post_with(&path, &[NDJSON], &stale).await.problem(409, "stale-fencing-token");
}

#[tokio::test(start_paused = true)]
async fn much_output_is_cut_and_said_so() {
    let (api, environment) = Api::with_environment(json!({})).await;
    let path = format!("/v1/leases/{}/execute", id(&api.acquire(environment, 1).await));
    let yes = json!({ "fencingToken": 1, "command": "yes" });
    let whole = api.post(&path, &yes).await.json();
    assert_eq!(whole["stdout"].as_str().expect("stdout").len(), 1024 * 1024);
    assert_eq!(whole["limit"], "output");
    // The stream tells every byte that came.
    let streamed = lines(&api.send(request(Method::POST, &path, &[NDJSON], json_body(&yes))).await.body);
    let bytes: usize = streamed
        .iter()
        .filter_map(|line| line["data"].as_str())
        .map(|data| STANDARD.decode(data).expect("base64").len())
        .sum();
    assert!(bytes >= 1024 * 1024, "{bytes}");
}
