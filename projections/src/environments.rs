//! `environments`: one row an environment, active or archived.

use lease_events::environment::EnvironmentState;
use lease_events::fold::StreamState;
use lease_events::record::RecordedEvent;

use crate::projection::ColumnKind::{Boolean, Integer, Json, Text, Timestamp};
use crate::projection::{Column, Fold, Index, Row, STATE_COLUMN, Table, Value, View};

/// The table.
pub const TABLE: Table = Table {
    name: "environments",
    version: 1,
    about: "One row an environment, active or archived, as it is now.",
    columns: &[
        Column::new("environment_id", Text, "The environment (UUID).").fixed(),
        Column::new("company_id", Text, "The tenant (UUID).").fixed(),
        Column::new("name", Text, "Unique together with the driver among the company's active environments.").fixed(),
        Column::new("driver", Text, "The driver: `local`, `ssh`, `sandbox` or `plugin`.").fixed(),
        Column::new("status", Text, "`active` or `archived`."),
        Column::new("config", Json, "The driver's config, secrets as references."),
        Column::new("generation", Integer, "Which environment of this company, driver and name it is, from 0.").fixed(),
        Column::new("last_probe_ok", Boolean, "Whether the last probe found that it would work; NULL before one.")
            .nullable(),
        Column::new("last_probe_summary", Text, "What the last probe found, in a line.").nullable(),
        Column::new("last_probe_at", Timestamp, "When it was last probed.").nullable(),
        Column::new("created_at", Timestamp, "When it was created.").fixed(),
        Column::new("archived_at", Timestamp, "When it was archived.").nullable(),
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

/// The fold of the environments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environments;

impl Fold for Environments {
    type State = EnvironmentState;

    fn views(&self) -> &'static [View<EnvironmentState>] {
        &[View { table: &TABLE, row: |environment| Some(row(environment)) }]
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        event.stream_id.as_str().strip_prefix("environment-").map(str::to_owned)
    }

    fn step(&self, state: Option<EnvironmentState>, event: &RecordedEvent) -> Result<Option<EnvironmentState>, String> {
        let next = EnvironmentState::apply(state, event).map_err(|error| error.to_string())?;
        // A row's key is its stream's id: a stream that speaks of another environment must not write that one's row.
        if event.stream_revision == 0 && next.stream_id() != event.stream_id {
            return Err(format!("stream {} begins environment {}", event.stream_id, next.environment_id));
        }
        Ok(Some(next))
    }
}

/// The row of an environment.
fn row(environment: &EnvironmentState) -> Row {
    let probe = environment.last_probe.as_ref();
    vec![
        Value::id(Some(environment.environment_id.0)),
        Value::id(Some(environment.company_id.0)),
        Value::from(environment.name.as_str()),
        Value::from(environment.driver.as_str()),
        Value::from(environment.status.as_str()),
        Value::json(&environment.config),
        Value::from(u64::from(environment.generation)),
        probe.map_or(Value::Null, |probe| Value::from(probe.ok)),
        Value::text(probe.map(|probe| probe.summary.as_str())),
        Value::time(probe.map(|probe| probe.at)),
        Value::time(Some(environment.created_at)),
        Value::time(environment.archived_at),
        Value::from(environment.revision),
        Value::from(environment.created_position.0),
        Value::from(environment.position.0),
        Value::time(Some(environment.updated_at)),
        Value::json(environment),
    ]
}
