//! What a store calls inside its own transaction, so that projections are written together with the events.
//!
//! **Invariants:** a hook never refuses an append: what fails in it is the hook's own to isolate (a savepoint),
//! record and catch up later. It is told how each transaction ended, so that what it caches stays true.

use async_trait::async_trait;
use lease_events::record::RecordedEvent;

use crate::sql::SqlConnection;

/// Something that follows appends inside a SQL store's transactions.
#[async_trait]
pub trait AppendHook: Send + Sync {
    /// Called while the events are being written, just before [`Self::on_append`] of the same ones: for what needs no
    /// database, which then costs no time of its own. The write may still fail, and `on_append` not be called.
    fn prepare(&self, _events: &[RecordedEvent]) {}

    /// Called once a transaction, after the events are written and before the commit. An error here is one of the
    /// connection itself, and rolls the whole transaction back.
    async fn on_append(&self, connection: &mut SqlConnection<'_>, events: &[RecordedEvent]) -> Result<(), sqlx::Error>;

    /// The transaction of the last [`Self::on_append`] was committed.
    fn committed(&self);

    /// The transaction of the last [`Self::on_append`] was rolled back: whatever was learnt in it is not so.
    fn rolled_back(&self);

    /// Another process has written to the database since the last transaction: cached rows may be stale.
    fn changed_elsewhere(&self);
}

/// Work on the writer's connection between two appends, in a transaction of its own: how a projection catches up
/// or is swapped without a second writer.
#[async_trait]
pub trait WriterJob: Send {
    /// Runs inside the writer's transaction, during which nothing is appended, by this process or another; an error
    /// rolls back.
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error>;

    /// Whether it may be run again after a run that failed, or whose outcome is not known: it then does the same, whether
    /// the first run is there or not. A store in a server does so where the connection was lost. Default: no.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// The events that the last run wrote behind the end of the log, in the order of their positions. In the same transaction
    /// the writer has the hook follow them, and moves the end of the log. Default: none.
    fn written(&self) -> &[RecordedEvent] {
        &[]
    }
}

/// Something that follows appends to the memory store, under its lock.
pub trait MemoryAppendHook: Send + Sync {
    /// Called once an append, after the events are stored and before it is answered.
    fn on_append(&self, events: &[RecordedEvent]);
}
