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
    /// Where the log ended, where it did not end right before the page.
    ends_at: Option<Position>,
}

impl ImportPage {
    /// Of events whose positions follow each other.
    pub(crate) fn new(events: Vec<RecordedEvent>) -> Self {
        Self { events, ends_at: None }
    }

    /// Where the log ended instead, where nothing was written.
    pub(crate) fn ends_at(&self) -> Option<Position> {
        self.ends_at
    }
}

#[async_trait]
impl WriterJob for ImportPage {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else { return Ok(()) };
        let head = match connection {
            SqlConnection::Sqlite(connection) => sqlite::import::head(connection).await?,
            SqlConnection::Postgres(connection) => postgres::import::head(connection).await?,
        };
        if head == last.position {
            // An earlier run of this very page, whose answer was lost.
            return Ok(());
        }
        if head.0 + 1 != first.position.0 {
            self.ends_at = Some(head);
            return Ok(());
        }
        match connection {
            SqlConnection::Sqlite(connection) => sqlite::import::write(connection, &self.events).await,
            SqlConnection::Postgres(connection) => {
                postgres::import::write(connection, &self.events, last.position).await
            }
        }
    }

    fn writes_events(&self) -> bool {
        true
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}
