//! A world whose ledger processes die: one store and one provider in memory that stay, and processes on them that end at
//! a crash point. What is dead does nothing any more: neither its commands nor its store get further.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::seam::crash::{CrashPoint, CrashSeam, Fate};
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, ReadError, Subscription,
};
use lease_ledger::commands::owe::CareSettings;
use lease_ledger::commands::owners::ToldOwners;
use lease_ledger::drivers::Drivers;
use lease_ledger::drivers::sandbox::fake::FakeProvider;
use lease_ledger::ledger::Ledger;
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::wiring::{MemoryHome, Seams};

use super::{Bench, CountedIds, SimulatedClock, drivers};

/// The end of one process: it dies at a crash point, the n-th time that it gets there, or when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Doom {
    at: Mutex<Option<CrashPoint>>,
    left: AtomicU32,
    dead: AtomicBool,
    died: tokio::sync::Notify,
    /// It stalls right before it appends an event of this type, until it is told to go on.
    stalls_at: Mutex<Option<&'static str>>,
    /// Its store has fenced it off when it comes to append an event of this type.
    fenced_at: Mutex<Option<&'static str>>,
    stalled: tokio::sync::Notify,
    goes_on: tokio::sync::Notify,
    /// Every point that was reached.
    seen: Mutex<BTreeSet<CrashPoint>>,
}

impl Doom {
    /// It dies at this point, when it gets there for the `nth` time.
    pub(crate) fn at(point: CrashPoint, nth: u32) -> Arc<Self> {
        let doom = Self::default();
        *doom.at.lock().expect("nobody panics") = Some(point);
        doom.left.store(nth, Ordering::SeqCst);
        Arc::new(doom)
    }

    /// It stalls right before its first append of this event type.
    pub(crate) fn stall_at(&self, event_type: &'static str) {
        *self.stalls_at.lock().expect("nobody panics") = Some(event_type);
    }

    /// Its first append of this event type is refused: it was taken for dead.
    pub(crate) fn fence_at(&self, event_type: &'static str) {
        *self.fenced_at.lock().expect("nobody panics") = Some(event_type);
    }

    /// Waits until it stalls.
    pub(crate) async fn stalled(&self) {
        self.stalled.notified().await;
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.goes_on.notify_one();
    }

    /// Whether it has died.
    pub(crate) fn has_struck(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Waits for its death; one at a time.
    pub(crate) async fn struck(&self) {
        while !self.has_struck() {
            self.died.notified().await;
        }
    }

    /// It dies now.
    pub(crate) fn strike(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    /// The points that were reached.
    pub(crate) fn seen(&self) -> BTreeSet<CrashPoint> {
        self.seen.lock().expect("nobody panics").clone()
    }
}

impl CrashSeam for Doom {
    fn reached(&self, point: CrashPoint) -> Fate {
        self.seen.lock().expect("nobody panics").insert(point);
        let is_here = *self.at.lock().expect("nobody panics") == Some(point);
        if is_here && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.strike();
        }
        if self.has_struck() { Fate::Park } else { Fate::GoOn }
    }
}

/// The store as a process sees it: once the process is dead, nothing it asks for happens.
struct MortalStore {
    inner: Arc<dyn EventStore>,
    doom: Arc<Doom>,
}

impl MortalStore {
    async fn live(&self) {
        if self.doom.has_struck() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl EventStore for MortalStore {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.live().await;
        let is_here = |event_type: &str| append.events.iter().any(|event| *event.event_type == *event_type);
        let is_next = |at: &Mutex<Option<&'static str>>| {
            at.lock().expect("nobody panics").take_if(|event_type| is_here(event_type)).is_some()
        };
        if is_next(&self.doom.stalls_at) {
            self.doom.stalled.notify_one();
            self.doom.goes_on.notified().await;
        }
        if is_next(&self.doom.fenced_at) {
            return Err(AppendError::Fenced { owner: "this process".to_owned() });
        }
        self.inner.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.live().await;
        self.inner.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(
        &self,
        after: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.live().await;
        self.inner.read_all(after, direction, limit).await
    }

    async fn head(&self) -> Result<Position, ReadError> {
        self.live().await;
        self.inner.head().await
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        self.inner.subscribe(after).await
    }

    async fn close(&self) {}
}

/// A store, a provider and a clock that outlive the processes on them.
pub(crate) struct World {
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) provider: FakeProvider,
    pub(crate) care: CareSettings,
    ids: Arc<CountedIds>,
    home: MemoryHome,
    owners: Arc<ToldOwners>,
    started: AtomicU32,
}

impl World {
    /// An empty one. Must be called inside a tokio runtime.
    pub(crate) fn new() -> Self {
        let (clock, ids) = (SimulatedClock::start(), Arc::<CountedIds>::default());
        let provider = FakeProvider::in_memory(clock.clone());
        let home = MemoryHome::new(&Seams::of(clock.clone(), ids.clone()));
        let (owners, started) = (Arc::default(), AtomicU32::new(0));
        Self { clock, provider, care: CareSettings::default(), ids, home, owners, started }
    }

    /// A new process on it, with the drivers of tests.
    pub(crate) fn start(&self, doom: &Arc<Doom>) -> Bench {
        self.start_with(doom, drivers(&self.provider))
    }

    /// A new process on it. Whoever started before and has died is known to be dead.
    pub(crate) fn start_with(&self, doom: &Arc<Doom>, drivers: Drivers) -> Bench {
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        let seams = Seams {
            owner: owner(number),
            owners: self.owners.clone(),
            crash: doom.clone(),
            care: self.care,
            ..Seams::of(self.clock.clone(), self.ids.clone())
        };
        let store = Arc::new(MortalStore { inner: self.home.store(), doom: Arc::clone(doom) });
        let ledger: Ledger = self
            .home
            .open_through(store, seams, &SecretSettings::default(), |_, _| Ok(drivers))
            .expect("memory is always there");
        Bench { ledger, clock: self.clock.clone(), provider: self.provider.clone() }
    }

    /// The process that was started last is dead, and known to be.
    pub(crate) fn bury(&self, doom: &Doom) {
        doom.strike();
        self.owners.died(&owner(self.started.load(Ordering::SeqCst).saturating_sub(1)));
    }
}

fn owner(number: u32) -> String {
    format!("process-{number}")
}
