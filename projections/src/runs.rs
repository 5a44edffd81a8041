//! `runs`: one row a run that was ever kept alive or released. One that neither sent a heartbeat nor was released has
//! none: its leases name it.

use lease_events::fold::StreamState;
use lease_events::record::RecordedEvent;
use lease_events::run::RunState;

use crate::projection::ColumnKind::{Integer, Json, Text, Timestamp};
use crate::projection::{Column, Fold, Index, Row, STATE_COLUMN, Table, Value, View};

/// The runs that heartbeats keep alive.
pub const ALIVE: &str = "status = 'alive'";

/// The table.
pub const TABLE: Table = Table {
    name: "runs",
    version: 1,
    about: "One row a run that was ever kept alive or released, as it is now.",
    columns: &[
        Column::new("run_id", Text, "The run (UUID).").fixed(),
        Column::new("company_id", Text, "The tenant (UUID).").fixed(),
        Column::new("status", Text, "`alive` (heartbeats keep it so) or `released`."),
        Column::new("time_to_live_ms", Integer, "For how long each heartbeat keeps it alive; NULL without any.")
            .nullable(),
        Column::new("kept_alive_at", Timestamp, "When a heartbeat was last recorded.").nullable(),
        Column::new("alive_until", Timestamp, "Until when it counts as alive, should nothing more be heard.")
            .nullable(),
        Column::new("released_at", Timestamp, "When it was released.").nullable(),
        Column::new("release_status", Text, "How its leases shall end: `released`, `expired` or `failed`.").nullable(),
        Column::new("release_reason", Text, "Why it was released, such as `run-ended` or `run-lost`.").nullable(),
        Column::new("revision", Integer, "The revision of its last event, from 0."),
        Column::new("created_position", Integer, "The log position of its first event.").fixed(),
        Column::new("position", Integer, "The log position of its last event."),
        Column::new("updated_at", Timestamp, "When its last event was recorded."),
        Column::new(STATE_COLUMN, Json, "Internal snapshot, no contract: do not read it."),
    ],
    stored_by: None,
    indexes: &[Index { name: "silent", columns: &["alive_until", "run_id"], condition: Some(ALIVE) }],
};

/// The fold of the runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Runs;

impl Fold for Runs {
    type State = RunState;

    fn views(&self) -> &'static [View<RunState>] {
        &[View { table: &TABLE, row: |run| Some(row(run)) }]
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        event.stream_id.as_str().strip_prefix("run-").map(str::to_owned)
    }

    fn step(&self, state: Option<RunState>, event: &RecordedEvent) -> Result<Option<RunState>, String> {
        let next = RunState::apply(state, event).map_err(|error| error.to_string())?;
        // A row's key is its stream's id: a stream that speaks of another run must not write that one's row.
        if event.stream_revision == 0 && next.stream_id() != event.stream_id {
            return Err(format!("stream {} begins run {}", event.stream_id, next.run_id));
        }
        Ok(Some(next))
    }
}

/// The row of a run.
fn row(run: &RunState) -> Row {
    vec![
        Value::id(Some(run.run_id.0)),
        Value::id(Some(run.company_id.0)),
        Value::from(run.status.as_str()),
        run.time_to_live_ms.map_or(Value::Null, Value::from),
        Value::time(run.kept_alive_at),
        Value::time(run.alive_until),
        Value::time(run.released_at),
        Value::text(run.release_status.map(lease_events::lease::vocabulary::ReleaseStatus::as_str)),
        Value::text(run.release_reason.map(lease_events::lease::vocabulary::Reason::as_str)),
        Value::from(run.revision),
        Value::from(run.created_position.0),
        Value::from(run.position.0),
        Value::time(Some(run.updated_at)),
        Value::json(run),
    ]
}
