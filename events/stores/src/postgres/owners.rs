//! Which processes live: each says so in its row of `owners`, by the database's clock. Whoever finds one silent for too
//! long fences it, and from then on may take over what it left.
//!
//! **Invariants**
//! - An owner is fenced under the lock of the head, which every append holds: when it is fenced, no append of its is under
//!   way, and each later one finds that it is fenced before it decides anything.
//! - Dead is for ever: a fenced row is never revived, and is kept. An owner without a row is dead as well: every one has a
//!   row before it can append anything that names it.
//! - A process that was silent and was fenced by nobody yet goes on: nobody has acted on its death.
//! - Nobody fences before it has looked without a break for as long as its own sign of life counts: after a restart or a
//!   failover of the server all are silent, and each has that time to say that it lives.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lease_events::store::ReadError;
use lru::LruCache;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

use super::duties::PostgresDuties;
use super::failure::Fault;
use super::reader::Reader;
use super::session::Sessions;

const REGISTER: &str = "INSERT INTO owners (owner, started_at, alive_until) \
                        VALUES ($1, clock_timestamp(), clock_timestamp() + $2 * interval '1 millisecond') \
                        ON CONFLICT (owner) DO NOTHING";
const RENEW: &str = "UPDATE owners SET alive_until = clock_timestamp() + $2 * interval '1 millisecond' \
                     WHERE owner = $1 AND fenced_at IS NULL";
const ANY_SILENT: &str =
    "SELECT EXISTS (SELECT FROM owners WHERE fenced_at IS NULL AND alive_until < clock_timestamp())";
/// Whoever waits for the lock of the head here does not renew its own life meanwhile: it gives up in time, and tries again.
const LOCK_HEAD: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '1s'; \
                         SELECT FROM head FOR UPDATE";
/// The SQLSTATE of a wait for a lock that was given up.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const FENCE_SILENT: &str = "UPDATE owners SET fenced_at = clock_timestamp() \
                            WHERE fenced_at IS NULL AND alive_until < clock_timestamp() RETURNING owner";
const FENCE_ONE: &str = "UPDATE owners SET fenced_at = clock_timestamp() WHERE owner = $1 AND fenced_at IS NULL";
const DEAD: &str = "SELECT NOT EXISTS (SELECT FROM owners WHERE owner = $1 AND fenced_at IS NULL)";

/// Owners that were found dead and are remembered, some 100 bytes each. One that is forgotten is looked up again.
const DEAD_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");
/// The longest pause after a look that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long one look at the owners may take, so that it does not keep this process from saying that it lives.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);
/// How long closing tries to say that this process has ended. Otherwise its time to live says it.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// How often a process says that it lives, and how long that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerTimings {
    /// The pause between two signs of life. Default: 2 seconds.
    pub renew_every: Duration,
    /// How long one counts: whoever was paused, or cut off, for longer may be taken for dead. Default: 10 seconds, which
    /// four signs can miss.
    pub time_to_live: Duration,
}

impl Default for OwnerTimings {
    fn default() -> Self {
        Self { renew_every: Duration::from_secs(2), time_to_live: Duration::from_secs(10) }
    }
}

impl OwnerTimings {
    fn milliseconds(self) -> f64 {
        self.time_to_live.as_secs_f64() * 1_000.0
    }
}

/// Writes the row of a new owner; `false` where there is one of this name.
pub(super) async fn register(
    connection: &mut PgConnection,
    owner: &str,
    timings: OwnerTimings,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(REGISTER).bind(owner).bind(timings.milliseconds()).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// What is known of the owners.
pub(super) struct Known {
    /// Whether this process is fenced.
    fenced: watch::Sender<bool>,
    /// Who was found dead, which is for ever.
    dead: Mutex<LruCache<String, ()>>,
}

impl Known {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { fenced: watch::Sender::new(false), dead: Mutex::new(LruCache::new(DEAD_MAX)) }
    }

    /// Whether this process is fenced.
    pub(super) fn fenced(&self) -> watch::Receiver<bool> {
        self.fenced.subscribe()
    }

    /// This process is fenced.
    pub(super) fn set_fenced(&self) {
        if !self.fenced.send_replace(true) {
            tracing::error!("another process has taken over for this one; it takes no more commands: restart it");
        }
    }

    /// Whether `owner` was found dead.
    pub(super) fn is_dead(&self, owner: &str) -> bool {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).get(owner).is_some()
    }

    /// Looks `owner` up, unless it was found dead before.
    pub(super) async fn look_up(&self, reader: &Reader, owner: &str) -> Result<(), ReadError> {
        if self.is_dead(owner) {
            return Ok(());
        }
        if reader.again(|| sqlx::query_scalar(DEAD).bind(owner).fetch_one(&reader.pool)).await? {
            self.dead.lock().unwrap_or_else(PoisonError::into_inner).put(owner.to_owned(), ());
        }
        Ok(())
    }
}

/// Says that this process lives, fences those that are silent, and takes its share of the duties.
pub(super) struct Keeper {
    pub(super) sessions: Sessions,
    pub(super) owner: String,
    pub(super) timings: OwnerTimings,
    pub(super) known: Arc<Known>,
    pub(super) duties: PostgresDuties,
    pub(super) connection: Option<PgConnection>,
    /// The first and the last renewal of those that succeeded without a break.
    pub(super) unbroken: Option<(Instant, Instant)>,
}

impl Keeper {
    /// Keeps on until `stop` is set, then says that this process has ended.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let duties = self.duties.clone();
        let mut next = tokio::time::Instant::now();
        while !*stop.borrow() {
            let renew = tokio::select! {
                () = tokio::time::sleep_until(next) => true,
                () = duties.joined() => false,
                _ = stop.changed() => break,
            };
            let succeeded = self.look(renew).await;
            if !succeeded {
                next = tokio::time::Instant::now() + self.timings.renew_every.min(RETRY_PAUSE);
            } else if renew {
                next = tokio::time::Instant::now() + self.timings.renew_every;
            }
        }
        if tokio::time::timeout(END_PATIENCE, self.end()).await.is_err() {
            tracing::warn!("it could not be written that this process has ended; its time to live will say so");
        }
    }

    async fn look(&mut self, renew: bool) -> bool {
        let looked = match tokio::time::timeout(LOOK_PATIENCE, self.try_to_look(renew)).await {
            Ok(looked) => looked,
            Err(_) => Err(Fault::silence()),
        };
        // A connection on which something failed, or is under way, is dropped with what it holds.
        if let Err(fault) = looked {
            self.connection = None;
            self.unbroken = None;
            self.sessions.distrust();
            tracing::warn!(cause = fault.cause, "the table of owners could not be looked at; it is tried again");
            return false;
        }
        true
    }

    /// Whether it has looked for long enough to take silence for death; called after each renewal.
    fn may_judge(&mut self) -> bool {
        let now = Instant::now();
        // A break may also be one of this process itself.
        let first = match self.unbroken {
            Some((first, last)) if now - last < self.timings.time_to_live => first,
            _ => now,
        };
        self.unbroken = Some((first, now));
        now - first >= self.timings.time_to_live
    }

    async fn try_to_look(&mut self, renew: bool) -> Result<(), Fault> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.sessions.connect().await?,
        };
        if renew {
            let asked_at = Instant::now();
            let renewed =
                sqlx::query(RENEW).bind(&self.owner).bind(self.timings.milliseconds()).execute(&mut connection).await?;
            let lives = renewed.rows_affected() == 1;
            if !lives {
                self.known.set_fenced();
            }
            self.duties.set_lives_until(lives.then(|| asked_at + self.timings.time_to_live));
            if self.may_judge() && sqlx::query_scalar(ANY_SILENT).fetch_one(&mut connection).await? {
                match fence_silent(&mut connection).await.map_err(Fault::from) {
                    // The head is busy: that is no break. The connection is dropped with its failed transaction.
                    Err(fault) if fault.is(LOCK_NOT_AVAILABLE) => return Ok(()),
                    fenced => fenced?,
                }
            }
        }
        self.duties.share(&mut connection, &self.owner).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// The last append is answered: whatever else this process left is for others, at once. Under the lock, since an
    /// append whose answer was lost may be under way still.
    async fn end(&mut self) {
        let ended = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.sessions.connect().await?,
            };
            let mut transaction = connection.begin_with(LOCK_HEAD).await?;
            sqlx::query(FENCE_ONE).bind(&self.owner).execute(&mut *transaction).await?;
            transaction.commit().await?;
            connection.close().await?;
            Ok::<_, Fault>(())
        };
        if let Err(fault) = ended.await {
            tracing::warn!(cause = fault.cause, "it could not be written that this process has ended");
        }
    }
}

/// Fences every owner whose time is over.
async fn fence_silent(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(LOCK_HEAD).await?;
    let fenced: Vec<String> = sqlx::query_scalar(FENCE_SILENT).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    for owner in fenced {
        tracing::warn!(owner, "an owner gave no sign of life for too long, and is fenced");
    }
    Ok(())
}
