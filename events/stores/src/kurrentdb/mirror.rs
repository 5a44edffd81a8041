//! The mirror: a SQL store that holds the events of the server's log, numbered in their order, and the projections beside
//! them.
//!
//! **Invariant:** all of the server's events that are ours up to the checkpoint are in the mirror, once each and in their
//! order, and none behind it. Events, rows and checkpoint are written in one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::record::{Position, RecordedEvent};
use uuid::Uuid;

use crate::append_hook::WriterJob;
use crate::sql::import::{head, write};
use crate::sql::{SqlConnection, SqlStore, WriterJobError};

const STANDING: &str = "SELECT id, checkpoint FROM mirror";

/// A mirror, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mirror {
    /// Which one it is.
    pub(super) id: Uuid,
    /// The position in the other log up to which all is here.
    pub(super) checkpoint: Position,
}

/// The mirror that this store is; where it holds nothing, it becomes the one of this id. `None` where it has a log of its own.
pub(super) async fn begin(store: &Arc<dyn SqlStore>, id: Uuid) -> Result<Option<Mirror>, WriterJobError> {
    Ok(store.run_on_writer(Begin { id, mirror: None }).await?.mirror)
}

struct Begin {
    id: Uuid,
    mirror: Option<Mirror>,
}

#[async_trait]
impl WriterJob for Begin {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        self.mirror = standing(connection).await?;
        if self.mirror.is_none() && head(connection).await? == Position::START {
            let id = self.id.to_string();
            match connection {
                SqlConnection::Sqlite(connection) => {
                    let insert = "INSERT INTO mirror (one, id, checkpoint) VALUES (1, ?, 0)";
                    sqlx::query(insert).bind(id).execute(&mut **connection).await?;
                }
                SqlConnection::Postgres(connection) => {
                    let insert = "INSERT INTO mirror (id, checkpoint) VALUES ($1, 0)";
                    sqlx::query(insert).bind(id).execute(&mut **connection).await?;
                }
            }
            self.mirror = Some(Mirror { id: self.id, checkpoint: Position::START });
        }
        Ok(())
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

/// A part of the other log, written behind what is here.
pub(super) struct MirrorPage {
    /// Those that are ours, at their positions in the other log.
    events: Vec<RecordedEvent>,
    /// Up to where they are all that is ours, from some checkpoint of this mirror on.
    to: Position,
    written: Vec<RecordedEvent>,
}

impl MirrorPage {
    pub(super) fn new(events: Vec<RecordedEvent>, to: Position) -> Self {
        Self { events, to, written: Vec::new() }
    }
}

#[async_trait]
impl WriterJob for MirrorPage {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        self.written.clear();
        let mirror = standing(connection).await?.ok_or(sqlx::Error::RowNotFound)?;
        if mirror.checkpoint >= self.to {
            // Another process that follows the same log, or an earlier run whose answer was lost.
            return Ok(());
        }
        let head = head(connection).await?;
        let fresh = self.events.iter().filter(|event| event.position > mirror.checkpoint);
        let numbered = fresh.zip(head.0 + 1..).map(|(event, number)| {
            let position = Position(number);
            RecordedEvent { position, ..event.clone() }
        });
        self.written = numbered.collect();
        write(connection, &self.written).await?;
        let checkpoint = i64::try_from(self.to.0).map_err(|error| sqlx::Error::Encode(error.into()))?;
        match connection {
            SqlConnection::Sqlite(connection) => {
                let update = sqlx::query("UPDATE mirror SET checkpoint = ?").bind(checkpoint);
                update.execute(&mut **connection).await.map(drop)
            }
            SqlConnection::Postgres(connection) => {
                let update = sqlx::query("UPDATE mirror SET checkpoint = $1").bind(checkpoint);
                update.execute(&mut **connection).await.map(drop)
            }
        }
    }

    fn written(&self) -> &[RecordedEvent] {
        &self.written
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

async fn standing(connection: &mut SqlConnection<'_>) -> Result<Option<Mirror>, sqlx::Error> {
    let row: Option<(String, i64)> = match connection {
        SqlConnection::Sqlite(connection) => sqlx::query_as(STANDING).fetch_optional(&mut **connection).await?,
        SqlConnection::Postgres(connection) => sqlx::query_as(STANDING).fetch_optional(&mut **connection).await?,
    };
    row.map(|(id, checkpoint)| {
        let undecoded = |error: uuid::Error| sqlx::Error::ColumnDecode { index: "id".to_owned(), source: error.into() };
        // The table's CHECK keeps the checkpoint from being negative.
        Ok(Mirror { id: id.parse().map_err(undecoded)?, checkpoint: Position(checkpoint.unsigned_abs()) })
    })
    .transpose()
}
