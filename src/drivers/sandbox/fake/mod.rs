//! The `fake` provider: sandboxes that are only records, for tests, benchmarks and trying things out. Deterministic;
//! it starts no process and takes time only where a knob says so (tokio's time, so that a paused clock works).
//!
//! It holds its records in memory ([`FakeProvider::in_memory`]) or in a folder that several processes share
//! ([`FakeProvider::on_disk`]). Its knobs stand in the config ([`knobs`]), or are injected once for the next call
//! ([`FakeProvider::inject`]). What its `execute` understands stands in [`script`].

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lease_events::failure::Fault;
use lease_events::id::LeaseId;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{Effect, ReceiptState, ReleaseStatus, WorkspaceKind};
use lease_events::seam::Clock;
use serde_json::{Map, Value};

use self::knobs::Knobs;
pub use self::knobs::Trouble;
pub use self::shelf::Thing;
use self::shelf::{Shelf, ShelfError};
use super::provider::{Abilities, Call, SandboxProvider};
use super::{lease_of, not_ours, provider_lease_id, stale_token};
use crate::drivers::{
    Acquired, Command, Execution, Held, InvalidConfig, Listed, Outcome, OutputSink, ProbeReport, ProbeScope, Realized,
    RemotePlace, Resumed, SyncStrategy, Workspace,
};

pub mod knobs;
pub mod script;

mod shelf;

const KEY: &str = "fake";
const CWD: &str = "/workspace";

/// The provider. Clones share everything, so that a test keeps one to look into it.
#[derive(Clone)]
pub struct FakeProvider {
    shelf: Arc<Shelf>,
    clock: Arc<dyn Clock>,
    calls: Arc<Mutex<Calls>>,
}

#[derive(Default)]
struct Calls {
    counts: BTreeMap<Effect, u64>,
    injected: BTreeMap<Effect, VecDeque<Trouble>>,
}

impl FakeProvider {
    /// Holds its records in memory.
    #[must_use]
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        Self::on(Shelf::in_memory(), clock)
    }

    /// Holds its records in a folder, one file a sandbox, and notes every effect in `journal.ndjson` beside them.
    /// Several processes may share it.
    pub fn on_disk(folder: &Path, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Ok(Self::on(Shelf::on_disk(folder)?, clock))
    }

    fn on(shelf: Shelf, clock: Arc<dyn Clock>) -> Self {
        Self { shelf: Arc::new(shelf), clock, calls: Arc::default() }
    }

    /// What it holds now.
    pub fn held(&self) -> std::io::Result<Vec<Thing>> {
        self.shelf.all()
    }

    /// How often an operation was called on this instance, whatever came of it.
    #[must_use]
    pub fn calls(&self, effect: Effect) -> u64 {
        self.state().counts.get(&effect).copied().unwrap_or_default()
    }

    /// Gives the next call of an operation on this instance trouble, once, before what the config says. Several wait
    /// in line.
    pub fn inject(&self, effect: Effect, trouble: Trouble) {
        self.state().injected.entry(effect).or_default().push_back(trouble);
    }

    /// Loses the sandbox of a lease, as if somebody had removed it behind the ledger's back.
    pub fn forget(&self, lease: LeaseId) {
        // A record that cannot be removed stays, and the next operation finds it.
        let _ = self.shelf.remove(lease, |_| Ok(()));
    }

    fn state(&self) -> MutexGuard<'_, Calls> {
        // Counts and queues are whole after every statement.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call, takes its time, makes its trouble; `happen` is the effect.
    async fn call<T>(
        &self,
        effect: Effect,
        call: Call<'_>,
        happen: impl AsyncFnOnce() -> Outcome<T>,
        gone: impl FnOnce() -> Option<T>,
    ) -> Outcome<T> {
        let knobs = match Knobs::parse(call.config) {
            Ok(knobs) => knobs,
            Err(invalid) => return Outcome::Refused(Fault::new("invalid-config", invalid.to_string())),
        };
        let injected = {
            let mut state = self.state();
            *state.counts.entry(effect).or_default() += 1;
            state.injected.get_mut(&effect).and_then(VecDeque::pop_front)
        };
        let delay = knobs.delay(effect);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let trouble = injected.unwrap_or_else(|| knobs.trouble(effect));
        let fault =
            || Fault::new(&format!("fake-{trouble}"), format!("The fake provider was told: {effect} {trouble}."));
        match trouble {
            Trouble::None => happen().await,
            Trouble::NotDone => Outcome::NotDone(fault()),
            Trouble::Refused => Outcome::Refused(fault()),
            Trouble::Unknown => Outcome::Unknown(fault()),
            Trouble::UnknownAfter => match happen().await {
                Outcome::Done(_) => Outcome::Unknown(fault()),
                other => other,
            },
            // The sandbox went by itself: it is off the shelf, and the operation finds out.
            Trouble::Gone => match gone() {
                Some(value) => Outcome::Done(value),
                None => Outcome::Refused(fault()),
            },
        }
    }

    fn make(&self, call: Call<'_>, knobs: &Knobs) -> Outcome<Acquired> {
        let scope = call.scope;
        let thing = Thing {
            ledger_id: scope.ledger_id,
            lease_id: scope.lease_id,
            company_id: scope.company_id,
            run_id: scope.run_id,
            attempt: scope.attempt,
            fencing_token: scope.fencing_token,
            created_at: self.clock.now(),
            expires_at: knobs.expires_in.and_then(|after| Some(self.clock.now() + TimeDelta::from_std(after).ok()?)),
            files: BTreeMap::new(),
        };
        match self.shelf.create(&thing) {
            Ok(true) => Outcome::Done(acquired(&thing)),
            // The same lease: the same sandbox, whichever attempt made it.
            Ok(false) => {
                self.change(call, &scope.lease_id, |thing| acquired(thing)).map_gone("It was removed meanwhile.")
            }
            Err(error) => Outcome::NotDone(Fault::new("fake-shelf", format!("The record could not be kept: {error}."))),
        }
    }

    /// Changes a record after its label and token were looked at. `None` where it is not there.
    fn change<T>(&self, call: Call<'_>, lease: &LeaseId, change: impl FnOnce(&mut Thing) -> T) -> Outcome<Option<T>> {
        shelved(self.shelf.update(*lease, |thing| {
            check(call, thing)?;
            thing.fencing_token = call.scope.fencing_token;
            Ok(change(thing))
        }))
    }

    fn remove(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt> {
        let lease = match lease_of(held, KEY) {
            Ok(lease) => lease,
            Err(fault) => return Outcome::Refused(fault),
        };
        let removed = shelved(self.shelf.remove(lease, |thing| check(call, thing)));
        removed.map(|found| receipt(held, if found.is_some() { ReceiptState::Destroyed } else { ReceiptState::Gone }))
    }

    /// Something on the provider's side removed the sandbox.
    fn lose(&self, held: &Held) {
        if let Ok(lease) = lease_of(held, KEY) {
            self.forget(lease);
        }
    }

    /// Works on the record that `held` names.
    fn on_held<T>(&self, call: Call<'_>, held: &Held, work: impl FnOnce(&mut Thing) -> T) -> Outcome<Option<T>> {
        match lease_of(held, KEY) {
            Ok(lease) => self.change(call, &lease, work),
            Err(fault) => Outcome::Refused(fault),
        }
    }
}

#[async_trait]
impl SandboxProvider for FakeProvider {
    fn key(&self) -> &str {
        KEY
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_acquire: true,
            can_list: true,
            can_confirm_absence: true,
            supports_reuse: true,
            visibility_delay: Duration::ZERO,
            workspace_kind: WorkspaceKind::Derived,
        }
    }

    async fn validate(&self, config: &Map<String, Value>) -> Result<Map<String, Value>, InvalidConfig> {
        Knobs::parse(config).map(|_| config.iter().filter(|(_, value)| !value.is_null()).map(own).collect())
    }

    async fn probe(&self, _: &ProbeScope, _: &Map<String, Value>) -> ProbeReport {
        let summary = "The fake provider is always there; its sandboxes are only records.".to_owned();
        ProbeReport { ok: true, summary, diagnostics: Vec::new() }
    }

    async fn acquire(&self, call: Call<'_>, _: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        let happen = async || match Knobs::parse(call.config) {
            Ok(knobs) => self.make(call, &knobs),
            Err(invalid) => Outcome::Refused(Fault::new("invalid-config", invalid.to_string())),
        };
        self.call(Effect::Acquire, call, happen, || None).await
    }

    async fn resume(&self, call: Call<'_>, held: &Held) -> Outcome<Resumed> {
        let happen = async || {
            let found = self.on_held(call, held, |thing| acquired(thing));
            found.map(|found| found.map_or(Resumed::Gone, Resumed::Same))
        };
        let gone = || {
            self.lose(held);
            Some(Resumed::Gone)
        };
        self.call(Effect::Resume, call, happen, gone).await
    }

    async fn release(&self, call: Call<'_>, held: &Held, _: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        let happen = async || {
            if !keep {
                return self.remove(call, held);
            }
            let found = self.on_held(call, held, |_| ());
            found.map(|found| receipt(held, if found.is_some() { ReceiptState::Kept } else { ReceiptState::Gone }))
        };
        self.call(Effect::Release, call, happen, || Some(self.gone(held))).await
    }

    async fn destroy(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt> {
        self.call(Effect::Destroy, call, async || self.remove(call, held), || Some(self.gone(held))).await
    }

    async fn realize(&self, call: Call<'_>, held: &Held, _: &Workspace) -> Outcome<Realized> {
        let happen = async || {
            let found = self.on_held(call, held, |_| ()).map_gone("The sandbox is gone.");
            found.map(|()| {
                let id = held.provider_lease_id.clone().unwrap_or_default();
                let summary = format!("Sandbox workspace realized at {id}:{CWD}.");
                let remote = RemotePlace { path: Some(CWD.to_owned()), sandbox_id: Some(id), ..RemotePlace::default() };
                let sync = SyncStrategy::ProviderDefined;
                Realized { cwd: CWD.to_owned(), sync, summary, remote, metadata: Map::new() }
            })
        };
        self.call(Effect::Realize, call, happen, || None).await
    }

    async fn execute(&self, call: Call<'_>, held: &Held, command: Command, output: OutputSink) -> Outcome<Execution> {
        let happen = async || {
            let files = self.on_held(call, held, |thing| thing.files.clone()).map_gone("The sandbox is gone.");
            let mut files = match files {
                Outcome::Done(files) => files,
                other => return other.map(|_| Execution::default()),
            };
            let before = files.clone();
            let outcome = script::run(&command, &mut files, &output).await;
            if files == before {
                return outcome;
            }
            match self.on_held(call, held, |thing| thing.files = files).map_gone("The sandbox is gone.") {
                Outcome::Done(()) => outcome,
                other => other.map(|()| Execution::default()),
            }
        };
        self.call(Effect::Execute, call, happen, || None).await
    }

    async fn list(&self, _: &ProbeScope, _: &Map<String, Value>) -> Outcome<Vec<Listed>> {
        let listed = |thing: Thing| Listed {
            provider_lease_id: thing.provider_lease_id(),
            ledger_id: Some(thing.ledger_id),
            lease_id: Some(thing.lease_id),
            created_at: Some(thing.created_at),
        };
        match self.shelf.all() {
            Ok(things) => Outcome::Done(things.into_iter().map(listed).collect()),
            Err(error) => {
                Outcome::NotDone(Fault::new("fake-shelf", format!("The records could not be read: {error}.")))
            }
        }
    }
}

impl FakeProvider {
    fn gone(&self, held: &Held) -> Receipt {
        self.lose(held);
        receipt(held, ReceiptState::Gone)
    }
}

impl Thing {
    /// Its name at the provider.
    #[must_use]
    pub fn provider_lease_id(&self) -> String {
        provider_lease_id(KEY, &self.lease_id.to_string())
    }
}

impl<T> Outcome<Option<T>> {
    /// Where nothing was there, the operation was not done, and will not be.
    fn map_gone(self, sentence: &str) -> Outcome<T> {
        match self {
            Self::Done(Some(value)) => Outcome::Done(value),
            Self::Done(None) => Outcome::Refused(Fault::new("gone", sentence)),
            Self::NotDone(fault) => Outcome::NotDone(fault),
            Self::Refused(fault) => Outcome::Refused(fault),
            Self::Unknown(fault) => Outcome::Unknown(fault),
        }
    }
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn acquired(thing: &Thing) -> Acquired {
    let facts = [("remoteCwd", CWD), ("shellCommand", "sh")];
    Acquired {
        provider_lease_id: Some(thing.provider_lease_id()),
        metadata: facts.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
        expires_at: thing.expires_at,
    }
}

fn receipt(held: &Held, state: ReceiptState) -> Receipt {
    Receipt { state, provider_lease_id: held.provider_lease_id.clone() }
}

fn check(call: Call<'_>, thing: &Thing) -> Result<(), Fault> {
    if thing.ledger_id != call.scope.ledger_id {
        return Err(not_ours(&thing.provider_lease_id()));
    }
    if call.scope.fencing_token < thing.fencing_token {
        return Err(stale_token(call.scope.fencing_token, thing.fencing_token));
    }
    Ok(())
}

fn shelved<T>(result: Result<Option<T>, ShelfError>) -> Outcome<Option<T>> {
    match result {
        Ok(found) => Outcome::Done(found),
        Err(ShelfError::Fault(fault)) => Outcome::Refused(fault),
        Err(ShelfError::Io(error)) => {
            Outcome::NotDone(Fault::new("fake-shelf", format!("The record could not be changed: {error}.")))
        }
    }
}

#[cfg(test)]
mod tests;
