//! Rows back to values. What makes no sense is named by table, key and column.

use chrono::{DateTime, Utc};
use lease_events::id::LeaseId;
use serde::de::DeserializeOwned;

use crate::current_leases;
use crate::projection::{QueryError, Row, STATE_COLUMN, Table, Value, restore};
use crate::read_model::DueLease;
use crate::reusable_leases::{self, ReusableLease};

/// The state of a whole row of a fold's first table.
pub(super) fn state<S: DeserializeOwned>(table: &'static Table, row: &Row) -> Result<S, QueryError> {
    restore(table, row).map_err(|error| Reader { table, columns: None, row }.corrupt(STATE_COLUMN, &error))
}

/// A whole row of `reusable_leases`.
pub(super) fn reusable(row: &Row) -> Result<ReusableLease, QueryError> {
    let reader = Reader { table: &reusable_leases::TABLE, columns: None, row };
    Ok(ReusableLease {
        lease_id: reader.parsed("lease_id")?,
        company_id: reader.parsed("company_id")?,
        environment_id: reader.parsed("environment_id")?,
        provider: reader.text("provider")?.to_owned(),
        driver: reader.text("driver")?.to_owned(),
        policy: reader.parsed("policy")?,
        execution_workspace_id: reader.optional("execution_workspace_id")?,
        agent_id: reader.optional("agent_id")?,
        adapter_type: reader.optional("adapter_type")?,
        reuse_fingerprint: reader.optional("reuse_fingerprint")?,
        provider_lease_id: reader.text("provider_lease_id")?.to_owned(),
        fencing_token: reader.number("fencing_token")?,
        released_at: reader.parsed::<DateTime<Utc>>("released_at")?,
        config: reader.json("config")?,
        position: reader.number("position")?,
    })
}

/// The columns of `current_leases` that a sweep must know.
pub(super) const DUE: [&str; 5] = ["next_action_at", "lease_id", "driver", "provider", "in_flight_owner"];

/// A row of [`DUE`].
pub(super) fn due(row: &Row) -> Result<DueLease, QueryError> {
    let reader = Reader { table: &current_leases::TABLE, columns: Some(&DUE), row };
    Ok(DueLease {
        at: reader.parsed::<DateTime<Utc>>("next_action_at")?,
        lease_id: reader.parsed("lease_id")?,
        driver: reader.text("driver")?.to_owned(),
        provider: reader.text("provider")?.to_owned(),
        in_flight_owner: reader.optional("in_flight_owner")?,
    })
}

/// The one column of a row that is a lease's id.
pub(super) fn lease_id(row: &Row) -> Result<LeaseId, QueryError> {
    Reader { table: &current_leases::TABLE, columns: Some(&["lease_id"]), row }.parsed("lease_id")
}

/// The one value of a statement that answers a whole number, or nothing.
pub(super) fn number(rows: &[Row]) -> Option<u64> {
    match rows.first().and_then(|row| row.first()) {
        Some(Value::Integer(number)) => Some(number.cast_unsigned()),
        _ => None,
    }
}

struct Reader<'r> {
    table: &'static Table,
    /// Which columns the row has; `None`: the table's.
    columns: Option<&'static [&'static str]>,
    row: &'r Row,
}

impl<'r> Reader<'r> {
    fn value(&self, column: &str) -> &'r Value {
        let at = match self.columns {
            Some(columns) => columns.iter().position(|name| *name == column),
            None => self.table.index_of(column),
        };
        at.and_then(|at| self.row.get(at)).unwrap_or(&Value::Null)
    }

    fn text(&self, column: &'static str) -> Result<&'r str, QueryError> {
        match self.value(column) {
            Value::Text(text) => Ok(text),
            other => Err(self.corrupt(column, &format_args!("{other:?} is no text"))),
        }
    }

    fn optional(&self, column: &'static str) -> Result<Option<String>, QueryError> {
        match self.value(column) {
            Value::Null => Ok(None),
            _ => self.text(column).map(|text| Some(text.to_owned())),
        }
    }

    fn number(&self, column: &'static str) -> Result<u64, QueryError> {
        match self.value(column) {
            Value::Integer(number) => Ok(number.cast_unsigned()),
            other => Err(self.corrupt(column, &format_args!("{other:?} is no number"))),
        }
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, column: &'static str) -> Result<T, QueryError> {
        self.text(column)?.parse().map_err(|error: T::Err| self.corrupt(column, &error))
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, QueryError> {
        serde_json::from_str(self.text(column)?).map_err(|error| self.corrupt(column, &error))
    }

    fn corrupt(&self, column: &'static str, cause: &dyn std::fmt::Display) -> QueryError {
        let key = match self.value(self.table.key()) {
            Value::Text(key) => key.to_string(),
            Value::Null | Value::Integer(_) => String::new(),
        };
        QueryError::Corrupt { table: self.table.name, key, column, cause: cause.to_string() }
    }
}
