//! A stop of the real server: under load, beyond its bound, and at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lease_events::seam::{Ids, SystemIds};
use lease_ledger::workers::manifest::Manifest;
use lease_ledger::workers::registry::{NewPlugin, Registry, StartCommand};
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use super::{Home, Running, text};

/// One request over a connection of its own; `None` where nobody answers.
fn post(url: &str, path: &str, body: &Value) -> Option<(u16, String, Value)> {
    let address = url.strip_prefix("http://")?;
    let mut connection = TcpStream::connect(address).ok()?;
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_lowercase(), serde_json::from_str(body).ok()?))
}

/// A server with an environment whose acquires take `delay_ms`.
fn served(home: &Home, delay_ms: u32, arguments: &[&str]) -> (Running, String, Value) {
    let delay = format!("acquireDelayMs={delay_ms}");
    home.done(&["environment", "create", "e", "--driver", "sandbox", "--config", "provider=fake", "--config", &delay]);
    let environment = home.json(&["environment", "list"]).remove(0);
    let (server, url) = home.serve(arguments);
    (server, url, environment)
}

fn acquire(url: &str, environment: &Value) -> Option<(u16, String, Value)> {
    let body = json!({
        "companyId": environment["companyId"], "environmentId": environment["id"], "runId": SystemIds.fresh().to_string(),
    });
    post(url, "/v1/leases", &body)
}

/// Waits until the server is at work on something.
fn until_under_way(home: &Home) {
    let begun = Instant::now();
    while home.json(&["lease", "list"]).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing begins");
    }
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let home = Home::new();
    let (mut server, url, environment) = served(&home, 100, &[]);
    let stopped = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (url, environment, stopped) = (url.clone(), environment.clone(), stopped.clone());
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                // Until nobody listens any more.
                while let Some(answer) = acquire(&url, &environment) {
                    answers.push((stopped.load(Ordering::SeqCst), answer));
                }
                answers
            })
        })
        .collect();
    until_under_way(&home);
    stopped.store(true, Ordering::SeqCst);
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));

    let answers = callers.into_iter().flat_map(|caller| caller.join().expect("no panic"));
    let (mut acquired, mut refused) = (Vec::new(), 0);
    for (was_stopped, (status, head, body)) in answers {
        if status == 201 {
            acquired.push(text(&body["lease"], "id").to_owned());
            continue;
        }
        assert_eq!((status, text(&body, "code"), was_stopped), (503, "stopping", true), "{body}");
        assert!(head.contains("\r\nretry-after: 1"), "{head}");
        assert_eq!(
            text(&body, "detail"),
            "The ledger is stopping and takes no more commands; try again when it is back."
        );
        refused += 1;
    }
    assert!(!acquired.is_empty() && refused > 0, "{} acquired, {refused} refused", acquired.len());
    let leases = home.json(&["lease", "list"]);
    assert!(leases.iter().all(|lease| text(lease, "status") == "active"), "all that was begun was finished");
    let listed: Vec<&str> = leases.iter().map(|lease| text(lease, "id")).collect();
    assert!(acquired.iter().all(|lease| listed.contains(&lease.as_str())), "{acquired:?} of {listed:?}");
}

/// The processes whose command lines hold this text.
fn processes_with(mark: &str) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").expect("Linux").filter_map(|entry| {
        let bytes = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    });
    lines.filter(|line| line.contains(mark)).collect()
}

#[test]
fn a_stop_leaves_no_worker() {
    let home = Home::new();
    // It stands in the worker's command line, and in nobody else's.
    let mark = format!("mark-of-{}", SystemIds.fresh());
    let worker = crate::tidy::root().join("tests/plugins/bad-worker.mjs");
    let manifest = json!({
        "id": "bad", "apiVersion": 1, "version": "1.0.0", "displayName": "Bad", "author": "x",
        "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "bad-worker.mjs" },
        "environmentDrivers": [{ "driverKey": "bad", "displayName": "Bad", "configSchema": { "properties": {} } }],
    });
    let start = StartCommand {
        program: "node".to_owned(),
        args: vec![worker.to_str().expect("UTF-8").to_owned(), "none".to_owned(), mark.clone()],
        directory: None,
    };
    let registry = Registry::new(home.folder.path().join("plugins.json"), Arc::new(SystemIds));
    let manifest = Manifest::parse(manifest).expect("a manifest");
    registry.install(NewPlugin { manifest, start, grants: None, config: None }).expect("installed");

    let (mut server, _) = home.serve(&[]);
    let config = ["--config", "pluginKey=bad", "--config", "driverKey=bad"];
    home.done(&[&["environment", "create", "e", "--driver", "plugin"][..], &config].concat());
    home.done(&["lease", "acquire", "e"]);
    assert_eq!(processes_with(&mark).len(), 1);
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[test]
fn what_outlasts_the_bound_is_left_to_the_next_start() {
    let home = Home::new();
    let (mut server, url, environment) = served(&home, 60_000, &["--stop-within", "200ms"]);
    let caller = std::thread::spawn(move || acquire(&url, &environment));
    until_under_way(&home);
    let asked = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert!(caller.join().expect("no panic").is_none(), "nothing was acknowledged");
    let lease = home.only_lease();
    assert_eq!((text(&lease, "status"), text(&lease["nextAction"], "action")), ("requested", "settle-acquire"));
}

#[test]
fn a_second_signal_stops_at_once() {
    let home = Home::new();
    let (mut server, url, environment) = served(&home, 60_000, &["--stop-within", "1h"]);
    let _caller = std::thread::spawn(move || acquire(&url, &environment));
    until_under_way(&home);
    let pid = Pid::from_child(&server.child);
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(test_kill_process(pid).is_ok(), "it waits for what is under way");
    server.signal(Signal::TERM);
    assert_eq!(server.code(), Some(1));
    assert_eq!(text(&home.only_lease(), "status"), "requested");
}
