//! The audit of a world at rest: the log as it stands on disk, against the provider's own folder and what clients were told.
//!
//! 1. The provider holds exactly what the ledger says: each thing is one lease's, and no lease holds what is not there.
//! 2. Every event that was acknowledged is there, where it was, and the log has no gap.
//! 3. No sandbox ever had two holders, and the tokens of one sandbox only grow.
//! 4. No command has written twice what it wrote. That its key is answered the same is asked by whoever has the keys.
//! 5. The projections say what the log says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use lease_events::codec::decode;
use lease_events::fold::StreamState;
use lease_events::id::LeaseId;
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::record::{ActorKind, Metadata, Position, RecordedEvent};
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::store::{Direction, EventStore, READ_EVENTS_MAX};
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use serde_json::Value;

use super::program::{Answer, Ask, Server};
use super::sites::Site;

/// What the log says, folded.
pub(super) struct Told {
    pub(super) log: Vec<RecordedEvent>,
    pub(super) leases: BTreeMap<LeaseId, LeaseState>,
    /// Who holds, keeps or owes which sandbox.
    holders: BTreeMap<String, LeaseId>,
}

/// Reads the log of this store, beside whoever serves it.
pub(super) fn read(store: &Path) -> Vec<RecordedEvent> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let options = SqliteOptions { path: store.to_owned(), clock, ids, hook: None };
        let store = SqliteStore::open(options).await.expect("the store opens");
        let mut log: Vec<RecordedEvent> = Vec::new();
        loop {
            let after = log.last().map_or(Position::START, |last| last.position);
            let page = store.read_all(after, Direction::Forwards, READ_EVENTS_MAX).await.expect("the log");
            if page.is_empty() {
                store.close().await;
                return log;
            }
            log.extend(page);
        }
    })
}

/// Folds the log event by event, and asks after each whether a sandbox has two holders (3), and whether tokens grow.
pub(super) fn fold(log: Vec<RecordedEvent>) -> Result<Told, String> {
    let mut leases: BTreeMap<LeaseId, LeaseState> = BTreeMap::new();
    let mut holders: BTreeMap<String, LeaseId> = BTreeMap::new();
    let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
    for (recorded, position) in log.iter().zip(1..) {
        if recorded.position.0 != position {
            return Err(format!("position {} stands where {position} should", recorded.position.0));
        }
        if recorded.stream_id.category() != "lease" {
            continue;
        }
        let event: LeaseEvent = decode(recorded).map_err(|error| error.to_string())?;
        let id: LeaseId = recorded.stream_id.as_str()["lease-".len()..].parse().expect("a lease's stream");
        let state = LeaseState::apply(leases.remove(&id), recorded).map_err(|error| error.to_string())?;
        holders.retain(|_, holder| *holder != id);
        if let Some(name) = state.provider_lease_id().filter(|_| holds(&state)) {
            if let Some(other) = holders.insert(name.to_owned(), id) {
                return Err(format!("position {position}: {other} and {id} both hold {name}"));
            }
            let token = state.fencing_token().unwrap_or_default();
            let is_holding = matches!(event, LeaseEvent::ProviderAcquired(_) | LeaseEvent::Resumed(_));
            let before = if is_holding { tokens.insert(name.to_owned(), token) } else { None };
            if before.is_some_and(|before| before >= token) {
                return Err(format!("position {position}: the token of {name} went from {before:?} to {token}"));
            }
        }
        leases.insert(id, state);
    }
    Ok(Told { log, leases, holders })
}

/// Whether the lease says that something of it is at the provider.
fn holds(lease: &LeaseState) -> bool {
    lease.status.is_open() || lease.keeps_something()
}

impl Told {
    /// The provider holds exactly what the ledger says (1). That `lost` is gone the ledger need not have noticed; `later` is
    /// of leases that are on record as unknown.
    pub(super) fn check_things(
        &self,
        site: Site,
        data: &Path,
        lost: &BTreeSet<String>,
        later: &BTreeSet<String>,
    ) -> Result<(), String> {
        let things = site.things(data);
        let said: BTreeSet<String> = self.holders.keys().cloned().collect();
        let leaked: Vec<&String> = things.difference(&said).filter(|name| !later.contains(*name)).collect();
        let missing: Vec<&String> = said.difference(&things).filter(|name| !lost.contains(*name)).collect();
        if leaked.is_empty() && missing.is_empty() {
            return Ok(());
        }
        let stories: Vec<String> = leaked.iter().chain(&missing).map(|name| self.story(name)).collect();
        Err(format!("no lease holds {leaked:?}; {missing:?} is not there\n{}", stories.join("\n")))
    }

    /// The history of the lease that a sandbox is named after.
    fn story(&self, name: &str) -> String {
        let lease = name.rsplit('/').next().unwrap_or_default();
        let stream = format!("lease-{lease}");
        let events = self.log.iter().filter(|recorded| recorded.stream_id.as_str() == stream);
        let lines: Vec<String> =
            events.map(|one| format!("  {} {} {}", one.position.0, one.event_type, one.data)).collect();
        format!("{stream}:\n{}", lines.join("\n"))
    }

    /// What was there stays there, byte for byte (2).
    pub(super) fn check_keeps(&self, before: &[RecordedEvent]) -> Result<(), String> {
        if self.log.starts_with(before) {
            return Ok(());
        }
        let lost = before.iter().zip(self.log.iter()).find(|(before, now)| before != now).map(|(before, _)| before);
        Err(format!(
            "an event that was there is not: {lost:?} (the log had {}, and has {})",
            before.len(),
            self.log.len()
        ))
    }

    /// No command stands twice in a stream with the same, however often it was told; a decision may be revised (4).
    pub(super) fn check_once(&self) -> Result<(), String> {
        let (mut seen, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for one in &self.log {
            let metadata: Metadata = serde_json::from_str(&one.metadata).map_err(|error| error.to_string())?;
            if !ids.insert(one.event_id) {
                return Err(format!("position {}: another event has the same id: {one:?}", one.position.0));
            }
            // What the ledger does by itself nobody tells it twice.
            let may_revise = &*one.event_type == "lease-reuse-decided" || metadata.actor.kind == ActorKind::Ledger;
            if !may_revise && !seen.insert((one.stream_id.as_str(), &*one.event_type, metadata.command_id)) {
                return Err(format!("position {}: the same command did it before: {one:?}", one.position.0));
            }
        }
        Ok(())
    }

    /// What an answer names is on record, at the position and revision that it names (2).
    pub(super) fn check_acknowledged(&self, answer: &Answer) -> Result<(), String> {
        let mut named = Vec::new();
        collect(&answer.body, &mut named);
        for (id, revision, position) in named {
            let at = usize::try_from(position).ok().and_then(|position| self.log.get(position.checked_sub(1)?));
            let is_there = at.is_some_and(|recorded| {
                recorded.stream_revision == revision && recorded.stream_id.as_str().ends_with(&id)
            });
            if !is_there {
                return Err(format!("{id} was answered at revision {revision}, position {position}; there is {at:?}"));
            }
        }
        Ok(())
    }
}

/// Every entity in an answer: its id, its revision, its position.
fn collect(body: &Value, named: &mut Vec<(String, u64, u64)>) {
    if let (Some(id), Some(revision), Some(position)) =
        (body["id"].as_str(), body["revision"].as_u64(), body["position"].as_u64())
    {
        named.push((id.to_owned(), revision, position));
    }
    match body {
        Value::Object(object) => object.values().for_each(|value| collect(value, named)),
        Value::Array(array) => array.iter().for_each(|value| collect(value, named)),
        _ => {}
    }
}

/// Every projection says what the log says (5).
pub(super) fn check_projections(server: &Server) -> Result<(), String> {
    let get = |path: &str, method| Ask { method, path: path.to_owned(), key: None, body: Value::Null };
    let listed = server.ask(&get("/v1/projections", "GET")).map_err(|error| error.to_string())?;
    let listed = listed.body["projections"].as_array().cloned().unwrap_or_default();
    if listed.is_empty() {
        return Err("there is no projection".to_owned());
    }
    for projection in listed {
        let path = format!("/v1/projections/{}/verify", projection["name"].as_str().unwrap_or_default());
        let verified = server.ask(&get(&path, "POST")).map_err(|error| error.to_string())?;
        if verified.status != 200 || verified.body["differences"].as_array().is_none_or(|found| !found.is_empty()) {
            return Err(format!("{path}: {}", verified.body));
        }
    }
    Ok(())
}
