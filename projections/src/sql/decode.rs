//! Rows back to values. What makes no sense is named by table, key and column.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use crate::projection::{QueryError, Row, STATE_COLUMN, Table, Value, restore};
use crate::read_model::DueLease;
use crate::reusable_leases::{self, ReusableLease};

/// The values of a whole row, in the order of its columns.
pub(super) fn row(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let value = |at: usize| {
        let raw = row.try_get_raw(at)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        match raw.type_info().name() {
            "INTEGER" => row.try_get::<i64, _>(at).map(Value::Integer),
            _ => row.try_get::<&str, _>(at).map(Value::from),
        }
    };
    (0..row.len()).map(value).collect()
}

/// The state of a whole row of a fold's first table.
pub(super) fn state<S: DeserializeOwned>(table: &'static Table, from: &SqliteRow) -> Result<S, QueryError> {
    let reader = Reader { table, row: from };
    let values = row(from).map_err(|error| reader.corrupt(STATE_COLUMN, &error))?;
    restore(table, &values).map_err(|error| reader.corrupt(STATE_COLUMN, &error))
}

/// A whole row of `reusable_leases`.
pub(super) fn reusable(row: &SqliteRow) -> Result<ReusableLease, QueryError> {
    let reader = Reader { table: &reusable_leases::TABLE, row };
    Ok(ReusableLease {
        lease_id: reader.parsed("lease_id")?,
        company_id: reader.parsed("company_id")?,
        environment_id: reader.parsed("environment_id")?,
        provider: reader.get("provider")?,
        driver: reader.get("driver")?,
        policy: reader.parsed("policy")?,
        execution_workspace_id: reader.get("execution_workspace_id")?,
        agent_id: reader.get("agent_id")?,
        adapter_type: reader.get("adapter_type")?,
        reuse_fingerprint: reader.get("reuse_fingerprint")?,
        provider_lease_id: reader.get("provider_lease_id")?,
        fencing_token: reader.get::<i64>("fencing_token")?.cast_unsigned(),
        released_at: reader.time("released_at")?,
        config: reader.json("config")?,
        position: reader.get::<i64>("position")?.cast_unsigned(),
    })
}

struct Reader<'r> {
    table: &'static Table,
    row: &'r SqliteRow,
}

impl<'r> Reader<'r> {
    fn get<T>(&self, column: &'static str) -> Result<T, QueryError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|error| self.corrupt(column, &error))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, column: &'static str) -> Result<T, QueryError> {
        self.get::<&str>(column)?.parse().map_err(|error: T::Err| self.corrupt(column, &error))
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, QueryError> {
        serde_json::from_str(self.get(column)?).map_err(|error| self.corrupt(column, &error))
    }

    fn time(&self, column: &'static str) -> Result<DateTime<Utc>, QueryError> {
        self.parsed::<DateTime<Utc>>(column)
    }

    fn corrupt(&self, column: &'static str, cause: &dyn std::fmt::Display) -> QueryError {
        let key = self.row.try_get(self.table.key()).unwrap_or_default();
        QueryError::Corrupt { table: self.table.name, key, column, cause: cause.to_string() }
    }
}

/// The id of a row of `current_leases`.
pub(super) fn lease_id(row: &SqliteRow) -> Result<lease_events::id::LeaseId, QueryError> {
    Reader { table: &crate::current_leases::TABLE, row }.parsed("lease_id")
}

/// The columns of `current_leases` that a sweep must know.
pub(super) fn due(row: &SqliteRow) -> Result<DueLease, QueryError> {
    let reader = Reader { table: &crate::current_leases::TABLE, row };
    Ok(DueLease {
        at: reader.time("next_action_at")?,
        lease_id: reader.parsed("lease_id")?,
        driver: reader.get("driver")?,
        provider: reader.get("provider")?,
        in_flight_owner: reader.get("in_flight_owner")?,
    })
}
