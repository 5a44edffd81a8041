//! A whole ledger from one SQL store to another, as it is: every event with its id, position, revision, time and bytes,
//! and every sealed secret. Projections are made anew by whoever opens the copy.
//!
//! **Invariants**
//! - What is in the target is the beginning of the source, always: a copy that was broken off goes on where it ended.
//! - Nothing is copied into another ledger, or behind events that the source does not have.
//! - A copy is done when both were read again and found the same.

use std::sync::Arc;

use lease_events::id::LedgerId;
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, READ_EVENTS_MAX, ReadError};

use crate::sealed::{SealedError, SealedStore};
use crate::sql::import::ImportPage;
use crate::sql::{SqlStore, WriterJobError};

/// A ledger in a SQL store.
#[derive(Clone)]
pub struct Home {
    /// Which ledger it is.
    pub ledger_id: LedgerId,
    /// Its events. The target's has no append hook.
    pub store: Arc<dyn SqlStore>,
    /// Its sealed secrets.
    pub sealed: Arc<dyn SealedStore>,
}

/// What a copy does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Events are written to the target.
    Copying,
    /// Source and target are read again and compared.
    Verifying,
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is done.
    pub stage: Stage,
    /// The last position that is done.
    pub position: Position,
    /// The source's last position.
    pub head: Position,
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The last position, which is the number of events.
    pub head: Position,
    /// Events that were there before.
    pub found: u64,
    /// Sealed secrets.
    pub sealed: usize,
    /// The source has got further events since: it is in use, and they are not copied.
    pub source_moved_on: bool,
}

/// Why a copy was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The target holds something else.
    #[error(
        "the target is ledger {target}, and the source is ledger {ledger}; give a target that is empty, or holds an earlier copy of this ledger"
    )]
    AnotherLedger {
        /// The source.
        ledger: LedgerId,
        /// The target.
        target: LedgerId,
    },
    /// The target has gone its own way.
    #[error(
        "source and target differ at position {position}: the target has got events of its own; give one that is empty, or holds an earlier copy"
    )]
    Diverged {
        /// The first position that was looked at and differs.
        position: Position,
    },
    /// Somebody else writes to the target.
    #[error("the target moved to position {at} while it was written: stop whoever uses it, and copy again")]
    InUse {
        /// Where it ends now.
        at: Position,
    },
    /// A sealed secret differs.
    #[error(
        "the sealed secret {sealed_id} differs between source and target: stop whoever uses the target, and copy again"
    )]
    SealedDiffers {
        /// The secret version.
        sealed_id: uuid::Uuid,
    },
    /// One of the stores could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target could not be written.
    #[error("the target cannot be written: {0}")]
    Write(#[from] WriterJobError),
    /// The sealed secrets could not be copied.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

/// Copies `source` into `target`, which is empty or holds the beginning of the same ledger, and compares them in the end.
///
/// # Errors
/// The target holds something else, or one of them cannot be used. What was copied is kept; another try goes on behind it.
pub async fn copy(source: &Home, target: &Home, mut told: impl FnMut(Progress)) -> Result<Copied, CopyError> {
    if source.ledger_id != target.ledger_id {
        return Err(CopyError::AnotherLedger { ledger: source.ledger_id, target: target.ledger_id });
    }
    let found = target.store.head().await?;
    if !at(&*target.store, found).await?.eq(&at(&*source.store, found).await?) {
        return Err(CopyError::Diverged { position: found });
    }
    let head = write(source, target, found, &mut told).await?;
    let sealed = source.sealed.all().await?;
    for value in &sealed {
        target.sealed.put(value.clone()).await?;
    }
    verify(source, target, head, &mut told).await?;
    let copied = target.sealed.all().await?;
    if let Some(odd) = sealed.iter().chain(&copied).find(|value| !(sealed.contains(value) && copied.contains(value))) {
        return Err(CopyError::SealedDiffers { sealed_id: odd.sealed_id });
    }
    let source_moved_on = source.store.head().await? != head;
    Ok(Copied { head, found: found.0, sealed: sealed.len(), source_moved_on })
}

/// The event at a position; `None` at the start, or behind the end.
async fn at(store: &dyn SqlStore, position: Position) -> Result<Option<RecordedEvent>, ReadError> {
    let found = store.read_all(position, Direction::Backwards, 1).await?;
    Ok(found.into_iter().next().filter(|event| event.position == position))
}

/// Copies what is behind `from`, and answers where the source ended. The next page is read while one is written.
async fn write(
    source: &Home,
    target: &Home,
    from: Position,
    told: &mut impl FnMut(Progress),
) -> Result<Position, CopyError> {
    let mut done = from;
    let mut page = page(source, done).await?;
    while let Some(last) = page.last().map(|event| event.position) {
        let job = target.store.run_on_writer(ImportPage::new(page));
        let (written, next) = tokio::join!(job, self::page(source, last));
        if let Some(at) = written?.ends_at() {
            return Err(CopyError::InUse { at });
        }
        done = last;
        page = next?;
        let head = source.store.head().await?;
        told(Progress { stage: Stage::Copying, position: done, head });
    }
    Ok(done)
}

async fn page(home: &Home, after: Position) -> Result<Vec<RecordedEvent>, ReadError> {
    home.store.read_all(after, Direction::Forwards, READ_EVENTS_MAX).await
}

/// Reads both up to `head`, and compares every event.
async fn verify(
    source: &Home,
    target: &Home,
    head: Position,
    told: &mut impl FnMut(Progress),
) -> Result<(), CopyError> {
    let mut done = Position::START;
    while done < head {
        let (left, right) = tokio::join!(page(source, done), page(target, done));
        let (left, right) = (left?, right?);
        let count = left.len().min(right.len());
        let differs = left.iter().zip(&right).find(|(left, right)| left != right).map(|(left, _)| left.position);
        match differs {
            Some(position) => return Err(CopyError::Diverged { position }),
            None if count == 0 => return Err(CopyError::Diverged { position: Position(done.0 + 1) }),
            None => done = left[count - 1].position,
        }
        told(Progress { stage: Stage::Verifying, position: done.min(head), head });
    }
    if target.store.head().await? > head {
        return Err(CopyError::InUse { at: target.store.head().await? });
    }
    Ok(())
}
