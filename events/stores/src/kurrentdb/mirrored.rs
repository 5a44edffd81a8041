//! The store that a ledger runs on: appends are decided by the server, and everything is read from a mirror that follows it,
//! numbered without gaps, with the projections beside it.
//!
//! **Invariants**
//! - An append is answered once it is in the mirror, with its position there: whoever reads behind it finds it, and so do the
//!   projections.
//! - A stream is read only when the mirror has all that the server had acknowledged before. A decision on something older
//!   could only be one that its append refuses; one that appends nothing would be wrong.
//! - Nothing is sent to the server where the mirror is known not to be writable, nor by a process for which another has, or
//!   may have, taken over.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LedgerId;
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::store::{
    Append, AppendError, Appended, Capabilities, Direction, EventStore, ReadError, Subscription, check_limits,
};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::follower::{Expectation, Follower};
use super::gate::Gate;
use super::identity::Identity;
use super::{KurrentStore, mirror, writer};
use crate::sql::{SqlStore, WriterJobError};
use crate::standing::is_repetition;

/// How long an append that the server has taken is looked for in its log: a server that is read behind its leader has it a
/// little later.
const FIND_WITHIN: Duration = Duration::from_secs(30);

/// Why a mirror is not the ledger's.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It has a log of its own.
    #[error("the projections' store holds a ledger of its own; give a new one, or the one that this ledger had")]
    NotAMirror,
    /// It is another ledger's.
    #[error(
        "the projections are those of ledger {found}, and the server holds ledger {ledger}; give that one's, or a new place"
    )]
    OtherLedger {
        /// The server's.
        ledger: LedgerId,
        /// The mirror's.
        found: LedgerId,
    },
    /// The ledger has another one.
    #[error(
        "ledger {ledger} keeps its projections elsewhere (in mirror {own}); give those, or, where they are lost and no process \
         uses them any more, make these its own with: lease-ledger store attach"
    )]
    Elsewhere {
        /// The ledger.
        ledger: LedgerId,
        /// Its mirror.
        own: Uuid,
    },
    /// The server's log cannot be followed.
    #[error("the KurrentDB server cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The server does not take what must be said there.
    #[error("the KurrentDB server takes no appends: {0}")]
    Append(#[from] AppendError),
    /// The mirror cannot be written.
    #[error("the projections cannot be written: {0}")]
    Mirror(#[from] WriterJobError),
}

/// What the store is opened with.
pub struct MirroredOptions {
    /// The server.
    pub server: Arc<KurrentStore>,
    /// What it says of its ledger.
    pub identity: Option<Identity>,
    /// Where the mirror is, with the projections' hook.
    pub mirror: Arc<dyn SqlStore>,
    /// The ledger that the mirror was made for.
    pub ledger_id: LedgerId,
    /// Whether it becomes the ledger's own where another one is.
    pub attach: bool,
}

/// Events on a server, and their mirror.
pub struct MirroredStore {
    server: Arc<KurrentStore>,
    mirror: Arc<dyn SqlStore>,
    follower: Arc<Follower>,
    following: Mutex<Option<JoinHandle<()>>>,
    gate: Gate,
}

impl MirroredStore {
    /// Opens it, and waits until the mirror has what the server has.
    pub async fn open(options: MirroredOptions) -> Result<Arc<Self>, MirrorError> {
        let MirroredOptions { server, identity, mirror, ledger_id, attach } = options;
        let found = mirror::begin(&mirror, server.ids.fresh()).await?.ok_or(MirrorError::NotAMirror)?;
        let identity = match identity {
            Some(identity) if identity.ledger_id != ledger_id => {
                return Err(MirrorError::OtherLedger { ledger: identity.ledger_id, found: ledger_id });
            }
            Some(identity) if identity.mirror_id == found.id => identity,
            Some(identity) if !attach => {
                return Err(MirrorError::Elsewhere { ledger: ledger_id, own: identity.mirror_id });
            }
            behind => Identity::tell(&server, behind, ledger_id, found.id).await?,
        };
        let follower =
            Follower::new(server.reader.with(Identity::stream()), Arc::clone(&mirror), identity, found.checkpoint);
        let following = tokio::spawn(Arc::clone(&follower).run());
        let store = Self { server, mirror, follower, following: Mutex::new(Some(following)), gate: Gate::new() };
        store.follower.catch_up().await?;
        Ok(Arc::new(store))
    }

    /// Turns true once another mirror has become the ledger's own, or another process has taken over for this one; from then
    /// on every append is refused.
    #[must_use]
    pub fn replaced(&self) -> watch::Receiver<bool> {
        self.follower.replaced()
    }

    fn check(&self) -> Result<(), AppendError> {
        if *self.follower.replaced().borrow() {
            return Err(AppendError::Fenced { owner: "its projections are kept elsewhere".to_owned() });
        }
        self.mirror.check_owner()?;
        self.follower.unwritable().map_or(Ok(()), |cause| Err(AppendError::Unavailable { cause }))
    }

    async fn append_in_turn(&self, append: &Append) -> Result<Appended, AppendError> {
        let append_id = self.server.ids.fresh();
        let turn = self.server.turns.take(&append.stream).await;
        self.check()?;
        let expectation = self.follower.expect(append_id);
        let sent = writer::send(&self.server.reader, append, append_id, self.server.clock.now()).await;
        drop(turn);
        self.find(append, sent?, &expectation).await
    }

    /// What an append has left in the mirror.
    async fn find(
        &self,
        append: &Append,
        position: Position,
        expectation: &Expectation,
    ) -> Result<Appended, AppendError> {
        let since = Instant::now();
        let (first, count) = (append.expected.first_revision(), append.events.len());
        let mut followed = self.follower.reach(position).await;
        loop {
            let found = match followed {
                Ok(()) => self.mirror.read_stream(&append.stream, first, Direction::Forwards, count).await,
                Err(error) => Err(error),
            };
            let cause = match found {
                Ok(events) if is_repetition(append, &events) => {
                    return Ok(Appended { events, repeated: !expectation.is_met() });
                }
                Ok(_) => "it is not in the server's log yet".to_owned(),
                Err(error) => error.to_string(),
            };
            if since.elapsed() > FIND_WITHIN {
                let cause = format!("the server has taken it, but {cause}");
                return Err(AppendError::OutcomeUnknown { cause });
            }
            followed = self.follower.catch_up().await;
        }
    }
}

impl Drop for MirroredStore {
    fn drop(&mut self) {
        self.follower.close();
    }
}

#[async_trait]
impl EventStore for MirroredStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { several_processes: true, gap_free_positions: true, inline_projections: true, durable: true }
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        check_limits(&append)?;
        let _in = self.gate.enter().await?;
        self.append_in_turn(&append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        from: u64,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.follower.catch_up().await?;
        self.mirror.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(
        &self,
        from: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.mirror.read_all(from, direction, limit).await
    }

    async fn head(&self) -> Result<Position, ReadError> {
        self.mirror.head().await
    }

    async fn subscribe(&self, after: Position) -> Result<Subscription, ReadError> {
        self.mirror.subscribe(after).await
    }

    async fn close(&self) {
        self.gate.close().await;
        self.follower.close();
        if let Some(following) = self.following.lock().await.take()
            && let Err(error) = following.await
        {
            tracing::warn!(%error, "the follower of KurrentDB did not end in order");
        }
        self.server.close().await;
        self.mirror.close().await;
    }
}
