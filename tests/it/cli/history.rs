//! `lease history`: the story in its order, and the recorded events byte for byte.

use std::sync::Arc;

use lease_events::id::LeaseId;
use lease_events::record::StreamId;
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::{Direction, EventStore};
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Home, text};

const STEPS: [&str; 7] = [
    "requested",
    "provider-acquired",
    "realized",
    "command-started",
    "command-executed",
    "release-requested",
    "released",
];

#[derive(Deserialize)]
struct Line {
    data: Box<RawValue>,
    metadata: Box<RawValue>,
}

#[test]
fn the_story_tells_each_step_in_order_and_what_comes_next() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "--", "true"]).code, 0);
    let story = home.done(&["lease", "history", text(&home.only_lease(), "id")]);
    let lines: Vec<&str> = story.lines().collect();
    let steps: Vec<&str> = lines[1..lines.len() - 1]
        .iter()
        .map(|line| STEPS.into_iter().find(|step| line.contains(&format!("  {step} "))).expect("a known step"))
        .collect();
    assert_eq!(steps, STEPS, "{story}");
    assert!(lines[1].contains("environment \"bubblewrap\" (sandbox, bubblewrap) was asked for by run"), "{story}");
    assert!(lines[4].contains("command true was started"), "{story}");
    assert!(lines[5].contains("command true ran for") && lines[5].contains("and exited with 0"), "{story}");
    assert!(lines[7].contains("because its holder gave it back"), "{story}");
    assert_eq!(lines[8], "Next: nothing; the lease is released, and nothing of it is owed.");
}

#[test]
fn json_is_what_is_stored_byte_for_byte() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "--", "echo", "an argument"]).code, 0);
    let id = text(&home.only_lease(), "id").to_owned();
    let printed = home.done(&["--json", "lease", "history", &id]);
    let path = home.folder.path().join("ledger.db");
    let stream = StreamId::lease(id.parse::<LeaseId>().expect("an id"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stored = runtime.block_on(async {
        let options = SqliteOptions { path, clock: Arc::new(SystemClock), ids: Arc::new(SystemIds), hook: None };
        let store = SqliteStore::open(options).await.expect("the ledger's file");
        let stored = store.read_stream(&stream, 0, Direction::Forwards, 100).await.expect("its events");
        store.close().await;
        stored
    });
    assert_eq!(stored.len(), STEPS.len());
    let lines: Vec<Line> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<(&str, &str)> = lines.iter().map(|line| (line.data.get(), line.metadata.get())).collect();
    let kept: Vec<(&str, &str)> = stored.iter().map(|event| (&*event.data, &*event.metadata)).collect();
    assert_eq!(told, kept);
    assert!(!printed.contains("an argument"), "arguments are not on record");
}

#[test]
fn a_lease_is_shown_as_it_was() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "--driver", "local", "--", "true"]).code, 0);
    let id = text(&home.only_lease(), "id").to_owned();
    let events = home.json(&["lease", "history", &id]);
    let acquired = events[1]["position"].to_string();
    assert_eq!(home.json(&["lease", "show", &id, "--at", &acquired])[0]["lease"]["status"], "active");
    assert_eq!(home.json(&["lease", "show", &id])[0]["lease"]["status"], "released");
    // The whole log has the lease's events, as they are.
    let before = events[0]["position"].as_u64().expect("a number") - 1;
    assert_eq!(home.json(&["events", "--after", &before.to_string()]), events);
}
