//! `secrets`: one row a secret, those that are there and those that were removed. No value is in it, as none is in
//! the events.

use lease_events::fold::StreamState;
use lease_events::record::RecordedEvent;
use lease_events::secret::SecretState;

use crate::projection::ColumnKind::{Integer, Json, Text, Timestamp};
use crate::projection::{Column, Fold, Index, Row, STATE_COLUMN, Table, Value, View};

/// The table.
pub const TABLE: Table = Table {
    name: "secrets",
    version: 1,
    about: "One row a secret, there or removed, as it is now; never a value.",
    columns: &[
        Column::new("secret_id", Text, "The secret (UUID).").fixed(),
        Column::new("company_id", Text, "The tenant (UUID).").fixed(),
        Column::new("name", Text, "Unique among the company's secrets that are there.").fixed(),
        Column::new("status", Text, "`active` or `removed`."),
        Column::new("generation", Integer, "Which secret of this company and name it is, from 0.").fixed(),
        Column::new("provider", Text, "What keeps the latest version: `ledger`, `environment` or `file`.").nullable(),
        Column::new("latest_version", Integer, "The number of the latest version, from 1."),
        Column::new("reads", Integer, "How often it was read."),
        Column::new("last_read_at", Timestamp, "When it was last read.").nullable(),
        Column::new("created_at", Timestamp, "When it was created.").fixed(),
        Column::new("removed_at", Timestamp, "When it was removed.").nullable(),
        Column::new("revision", Integer, "The revision of its last event, from 0."),
        Column::new("created_position", Integer, "The log position of its first event.").fixed(),
        Column::new("position", Integer, "The log position of its last event."),
        Column::new("updated_at", Timestamp, "When its last event was recorded."),
        Column::new(STATE_COLUMN, Json, "Internal snapshot, no contract: do not read it."),
    ],
    stored_by: None,
    indexes: &[
        Index { name: "newest", columns: &["created_position"], condition: None },
        Index { name: "name", columns: &["company_id", "name", "created_position"], condition: None },
        Index { name: "company", columns: &["company_id", "created_position"], condition: None },
    ],
};

/// The fold of the secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Secrets;

impl Fold for Secrets {
    type State = SecretState;

    fn views(&self) -> &'static [View<SecretState>] {
        &[View { table: &TABLE, row: |secret| Some(row(secret)) }]
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        event.stream_id.as_str().strip_prefix("secret-").map(str::to_owned)
    }

    fn step(&self, state: Option<SecretState>, event: &RecordedEvent) -> Result<Option<SecretState>, String> {
        let next = SecretState::apply(state, event).map_err(|error| error.to_string())?;
        // A row's key is its stream's id: a stream that speaks of another secret must not write that one's row.
        if event.stream_revision == 0 && next.stream_id() != event.stream_id {
            return Err(format!("stream {} begins secret {}", event.stream_id, next.secret_id));
        }
        Ok(Some(next))
    }
}

/// The row of a secret.
fn row(secret: &SecretState) -> Row {
    let latest = secret.version(None);
    vec![
        Value::id(Some(secret.secret_id.0)),
        Value::id(Some(secret.company_id.0)),
        Value::from(secret.name.as_str()),
        Value::from(secret.status.as_str()),
        Value::from(u64::from(secret.generation)),
        Value::text(latest.map(|latest| latest.provider.as_str())),
        Value::from(latest.map_or(0, |latest| u64::from(latest.version))),
        Value::from(secret.reads),
        Value::time(secret.last_read_at),
        Value::time(Some(secret.created_at)),
        Value::time(secret.removed_at),
        Value::from(secret.revision),
        Value::from(secret.created_position.0),
        Value::from(secret.position.0),
        Value::time(Some(secret.updated_at)),
        Value::json(secret),
    ]
}
