//! Writing events of another store as they are, with their positions, revisions and times.
//!
//! **Invariant:** what is written follows the end of the log, or nothing is.

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};

use super::SqlConnection;
use crate::append_hook::WriterJob;
use crate::{postgres, sqlite};

/// One page of events, written in one transaction.
pub(crate) struct ImportPage {
    events: Vec<RecordedEvent>,
    /// Whether the last run wrote them.
    written: bool,
    /// Where the log ended, where it did not end right before the page.
    ends_at: Option<Position>,
}

impl ImportPage {
    /// Of events whose positions follow each other.
    pub(crate) fn new(events: Vec<RecordedEvent>) -> Self {
        Self { events, written: false, ends_at: None }
    }

    /// Where the log ended instead, where nothing was written.
    pub(crate) fn ends_at(&self) -> Option<Position> {
        self.ends_at
    }
}

/// Where the log ends.
pub(crate) async fn head(connection: &mut SqlConnection<'_>) -> Result<Position, sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(connection) => sqlite::import::head(connection).await,
        SqlConnection::Postgres(connection) => postgres::import::head(connection).await,
    }
}

/// Writes events whose positions follow the end of the log.
pub(crate) async fn write(connection: &mut SqlConnection<'_>, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
    match connection {
        SqlConnection::Sqlite(connection) => sqlite::import::write(connection, events).await,
        SqlConnection::Postgres(connection) => postgres::import::write(connection, events).await,
    }
}

#[async_trait]
impl WriterJob for ImportPage {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else { return Ok(()) };
        self.written = false;
        let head = head(connection).await?;
        if head == last.position {
            // An earlier run of this very page, whose answer was lost.
            return Ok(());
        }
        if head.0 + 1 != first.position.0 {
            self.ends_at = Some(head);
            return Ok(());
        }
        write(connection, &self.events).await?;
        self.written = true;
        Ok(())
    }

    fn written(&self) -> &[RecordedEvent] {
        if self.written { &self.events } else { &[] }
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}
