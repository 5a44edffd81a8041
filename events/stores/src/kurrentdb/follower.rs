//! Follows the server's log into the mirror, and lets others wait for it.
//!
//! **Invariants**
//! - The mirror gets what is ours in the server's order; a page that could not be written is read again.
//! - Whoever waits for a round waits for one that began after it asked, and came to the end of the log: it then finds in the
//!   mirror all that the server had acknowledged before.
//! - What this process appends is seen by its own follower before its position is reported as reached.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{AppendError, ReadError};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::identity::Identity;
use super::mirror::MirrorPage;
use super::reader::Reader;
use super::store::CLOSED;
use super::subscribe::{LOOK_AGAIN_FIRST, LOOK_AGAIN_MAX, PAGE_EVENTS};
use super::supervisor::Trouble;
use crate::sql::{SqlStore, WriterJobError};

/// The pause after a round that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long somebody waits for the follower: above what its own calls of the server may take.
const WAIT_WITHIN: Duration = Duration::from_secs(30);

/// How far the follower is.
#[derive(Default)]
struct Progress {
    /// All up to here is in the mirror.
    reached: Position,
    /// The last round that came to the end of the log.
    done: u64,
    /// The last round that did not, and why.
    failed: Option<(u64, String)>,
    /// Why the mirror cannot be written.
    unwritable: Option<String>,
    is_closed: bool,
}

/// The follower of a log.
pub(super) struct Follower {
    reader: Reader,
    mirror: Arc<dyn SqlStore>,
    identity: Identity,
    /// Rounds that have begun.
    begun: AtomicU64,
    wake: Notify,
    progress: watch::Sender<Progress>,
    /// Appends of this process that are not answered yet, and whether the log has them.
    in_flight: Mutex<HashMap<Uuid, bool>>,
    replaced: watch::Sender<bool>,
}

impl Follower {
    /// One that goes on behind `checkpoint`, once it runs.
    pub(super) fn new(
        reader: Reader,
        mirror: Arc<dyn SqlStore>,
        identity: Identity,
        checkpoint: Position,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader,
            mirror,
            identity,
            begun: AtomicU64::new(0),
            wake: Notify::new(),
            progress: watch::Sender::new(Progress { reached: checkpoint, ..Progress::default() }),
            in_flight: Mutex::default(),
            replaced: watch::Sender::new(false),
        })
    }

    /// Follows until it is closed.
    pub(super) async fn run(self: Arc<Self>) {
        let mut closed = self.progress.subscribe();
        let mut after = closed.borrow().reached;
        let mut wait = LOOK_AGAIN_FIRST;
        while !self.progress.borrow().is_closed {
            let round = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let before = after;
            match self.round(&mut after).await {
                Ok(()) => {
                    self.progress.send_modify(|progress| {
                        progress.done = round;
                        progress.failed = None;
                    });
                    wait = if after > before { LOOK_AGAIN_FIRST } else { (wait * 2).min(LOOK_AGAIN_MAX) };
                }
                Err(cause) => {
                    tracing::warn!(cause, "the log of KurrentDB could not be followed; it is tried again");
                    self.progress.send_modify(|progress| progress.failed = Some((round, cause)));
                    wait = RETRY_PAUSE;
                }
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wake.notified() => wait = LOOK_AGAIN_FIRST,
                _ = closed.wait_for(|progress| progress.is_closed) => {}
            }
        }
    }

    /// Takes what there is, to the end of the log.
    async fn round(&self, after: &mut Position) -> Result<(), String> {
        loop {
            let scanned = self.reader.scan(*after, PAGE_EVENTS).await.map_err(Trouble::of_read);
            let scanned = scanned.map_err(|error| error.to_string())?;
            let (identities, events): (Vec<_>, Vec<_>) =
                scanned.events.into_iter().partition(|(event, _)| Identity::is_told_by(event));
            self.look_for_replacement(&identities).map_err(|error| error.to_string())?;
            let writers: Vec<Uuid> = events.iter().filter_map(|(_, writer)| *writer).collect();
            // What others write is passed over; how far is worth a write only where much of it is read at once.
            if !events.is_empty() || (!scanned.is_end && scanned.to > *after) {
                let events = events.into_iter().map(|(event, _)| event).collect();
                self.write(MirrorPage::new(events, scanned.to)).await?;
            }
            let mut in_flight = self.in_flight();
            for writer in writers {
                in_flight.entry(writer).and_modify(|seen| *seen = true);
            }
            drop(in_flight);
            *after = scanned.to;
            self.progress.send_modify(|progress| progress.reached = scanned.to);
            if scanned.is_end {
                return Ok(());
            }
        }
    }

    async fn write(&self, page: MirrorPage) -> Result<(), String> {
        let written = self.mirror.run_on_writer(page).await;
        if let Err(WriterJobError::Store(AppendError::Fenced { .. })) = &written {
            self.replaced.send_replace(true);
        }
        let unwritable = written.err().map(|error| format!("its projections cannot be written: {error}"));
        self.progress.send_if_modified(|progress| {
            let changes = progress.unwritable != unwritable;
            progress.unwritable.clone_from(&unwritable);
            changes
        });
        unwritable.map_or(Ok(()), Err)
    }

    /// Whether another mirror has become the ledger's own since this one did.
    fn look_for_replacement(&self, identities: &[(RecordedEvent, Option<Uuid>)]) -> Result<(), ReadError> {
        for (event, _) in identities {
            let told = Identity::of(event)?;
            if told.revision > self.identity.revision && told.mirror_id != self.identity.mirror_id {
                tracing::error!(mirror = %told.mirror_id, "the ledger keeps its projections elsewhere now; restart it there");
                self.replaced.send_replace(true);
            }
        }
        Ok(())
    }

    /// Turns true once this mirror is not the ledger's own any more.
    pub(super) fn replaced(&self) -> watch::Receiver<bool> {
        self.replaced.subscribe()
    }

    /// Why the mirror cannot be written, where the last try failed.
    pub(super) fn unwritable(&self) -> Option<String> {
        self.progress.borrow().unwritable.clone()
    }

    /// An append of this id is about to be sent.
    pub(super) fn expect(self: &Arc<Self>, append_id: Uuid) -> Expectation {
        self.in_flight().insert(append_id, false);
        Expectation { follower: Arc::clone(self), append_id }
    }

    /// Waits until a round that begins after this call has come to the end of the log.
    pub(super) async fn catch_up(&self) -> Result<(), ReadError> {
        let round = self.begun.load(Ordering::SeqCst) + 1;
        self.wait(|progress| progress.done >= round, round).await
    }

    /// Waits until the server's log is followed up to a position.
    pub(super) async fn reach(&self, position: Position) -> Result<(), ReadError> {
        let round = self.begun.load(Ordering::SeqCst) + 1;
        self.wait(|progress| progress.reached >= position, round).await
    }

    /// Waits for what `is_there` says, or for the failure of this round or a later one.
    async fn wait(&self, is_there: impl Fn(&Progress) -> bool, round: u64) -> Result<(), ReadError> {
        self.wake.notify_one();
        let mut progress = self.progress.subscribe();
        let has_failed = |progress: &Progress| progress.failed.as_ref().is_some_and(|(failed, _)| *failed >= round);
        let ended = progress.wait_for(|progress| is_there(progress) || progress.is_closed || has_failed(progress));
        let unavailable = |cause: &str| Err(ReadError::Unavailable { cause: cause.to_owned() });
        match timeout(WAIT_WITHIN, ended).await {
            Ok(Ok(progress)) if is_there(&progress) => Ok(()),
            Ok(Ok(progress)) if progress.is_closed => unavailable(CLOSED),
            Ok(Ok(progress)) => unavailable(progress.failed.as_ref().map_or(CLOSED, |(_, cause)| cause)),
            Ok(Err(_)) => unavailable(CLOSED),
            Err(_) => unavailable(&format!("the log of KurrentDB was not followed within {WAIT_WITHIN:?}")),
        }
    }

    /// Ends it.
    pub(super) fn close(&self) {
        self.progress.send_modify(|progress| progress.is_closed = true);
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Uuid, bool>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An append that is under way, until it is dropped.
pub(super) struct Expectation {
    follower: Arc<Follower>,
    append_id: Uuid,
}

impl Expectation {
    /// Whether the log has events that this append wrote, as far as it is followed.
    pub(super) fn is_met(&self) -> bool {
        self.follower.in_flight().get(&self.append_id).copied().unwrap_or(false)
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.follower.in_flight().remove(&self.append_id);
    }
}
