//! The reading port on SQLite. Every statement goes through an index, so that no answer but a count costs more as
//! history grows; a test holds the query plans.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::environment::EnvironmentState;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::state::LeaseState;
use lease_events::record::Position;
use lease_events::run::RunState;
use lease_events::secret::{SecretState, SecretStatus};
use lease_events::store::EventStore as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use tokio::sync::mpsc;

use super::{SqliteReadModel, decode, marks, rebuild, unavailable, verify};
use crate::current_leases::{self, UNSETTLED};
use crate::environments;
use crate::projection::{ProjectionStatus, QueryError, Value};
use crate::read_model::{
    AliveFilter, DueFilter, DueLease, EnvironmentFilter, LeaseFilter, ROWS_MAX, ReadModel, RebuildProgress,
    RebuildReport, ReusableFilter, SecretFilter, VerifyReport, WAIT_POLL,
};
use crate::reusable_leases::ReusableLease;
use crate::reuse_claims::{self, ReuseClaim};
use crate::runs::{self, ALIVE};
use crate::secrets;

const LEASE: &str = "SELECT * FROM current_leases WHERE lease_id = ?";
const OPEN_OF_RUN: &str =
    "SELECT lease_id FROM current_leases WHERE run_id = ? AND is_open = 1 AND (?2 IS NULL OR company_id = ?2)
     ORDER BY created_position";
const CLAIMED_BY: &str = "SELECT lease_id FROM current_leases WHERE claimed_by = ? ORDER BY created_position";
const NEEDING_ATTENTION: &str = "SELECT count(*) FROM current_leases WHERE needs_attention = 1";
const LATEST_GENERATION: &str = "SELECT max(generation) FROM current_leases WHERE run_id = ? AND reuse_fingerprint = ?";
const ENVIRONMENT: &str = "SELECT * FROM environments WHERE environment_id = ?";
const REUSABLE: &str =
    "SELECT * FROM reusable_leases WHERE reuse_fingerprint = ? ORDER BY released_at DESC, lease_id LIMIT ?";
const HALF_RELEASED: &str = "SELECT * FROM runs WHERE status = 'released' AND run_id IN (
       SELECT run_id FROM current_leases WHERE is_open = 1 AND status IN ('requested', 'effect_unknown', 'active'))
     ORDER BY run_id LIMIT ?";

#[async_trait]
impl ReadModel for SqliteReadModel {
    async fn lease(&self, id: LeaseId) -> Result<Option<LeaseState>, QueryError> {
        let row = sqlx::query(LEASE).bind(id.to_string()).fetch_optional(self.store.reader()).await;
        row.map_err(|error| unavailable(&error))?.map(|row| decode::state(&current_leases::TABLE, &row)).transpose()
    }

    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<LeaseState>, QueryError> {
        let rows = self.fetch(leases(filter)).await?;
        rows.iter().map(|row| decode::state(&current_leases::TABLE, row)).collect()
    }

    async fn due(&self, filter: &DueFilter) -> Result<Vec<DueLease>, QueryError> {
        self.fetch(due(filter)).await?.iter().map(decode::due).collect()
    }

    async fn count_needing_attention(&self) -> Result<u64, QueryError> {
        let count: Result<i64, _> = sqlx::query_scalar(NEEDING_ATTENTION).fetch_one(self.store.reader()).await;
        count.map(i64::cast_unsigned).map_err(|error| unavailable(&error))
    }

    async fn claimed_by(&self, claimant: LeaseId) -> Result<Vec<LeaseId>, QueryError> {
        let rows = sqlx::query(CLAIMED_BY).bind(claimant.to_string()).fetch_all(self.store.reader()).await;
        rows.map_err(|error| unavailable(&error))?.iter().map(decode::lease_id).collect()
    }

    async fn open_claims(
        &self,
        after: Option<(DateTime<Utc>, LeaseId)>,
        limit: usize,
    ) -> Result<Vec<ReuseClaim>, QueryError> {
        let rows = self.fetch(open_claims(after, limit)).await?;
        rows.iter().map(|row| decode::state(&reuse_claims::TABLE, row)).collect()
    }

    async fn open_leases_of_run(&self, company: Option<CompanyId>, run: RunId) -> Result<Vec<LeaseId>, QueryError> {
        let query = sqlx::query(OPEN_OF_RUN).bind(run.to_string()).bind(company.map(|company| company.to_string()));
        let rows = query.fetch_all(self.store.reader()).await.map_err(|error| unavailable(&error))?;
        rows.iter().map(decode::lease_id).collect()
    }

    async fn latest_generation(&self, run: RunId, fingerprint: &str) -> Result<Option<u32>, QueryError> {
        sqlx::query_scalar(LATEST_GENERATION)
            .bind(run.to_string())
            .bind(fingerprint)
            .fetch_one(self.store.reader())
            .await
            .map_err(|error| unavailable(&error))
    }

    async fn reusable(&self, fingerprint: &str, limit: usize) -> Result<Vec<ReusableLease>, QueryError> {
        let rows = sqlx::query(REUSABLE).bind(fingerprint).bind(cut(limit)).fetch_all(self.store.reader()).await;
        rows.map_err(|error| unavailable(&error))?.iter().map(decode::reusable).collect()
    }

    async fn reusable_in_environment(
        &self,
        environment: EnvironmentId,
        limit: usize,
    ) -> Result<Vec<ReusableLease>, QueryError> {
        self.list_reusable(&ReusableFilter { environment_id: Some(environment), limit, ..Default::default() }).await
    }

    async fn list_reusable(&self, filter: &ReusableFilter) -> Result<Vec<ReusableLease>, QueryError> {
        self.fetch(list_reusable(filter)).await?.iter().map(decode::reusable).collect()
    }

    async fn environment(&self, id: EnvironmentId) -> Result<Option<EnvironmentState>, QueryError> {
        let row = sqlx::query(ENVIRONMENT).bind(id.to_string()).fetch_optional(self.store.reader()).await;
        row.map_err(|error| unavailable(&error))?.map(|row| decode::state(&environments::TABLE, &row)).transpose()
    }

    async fn environments(&self, filter: &EnvironmentFilter) -> Result<Vec<EnvironmentState>, QueryError> {
        let rows = self.fetch(list_environments(filter)).await?;
        rows.iter().map(|row| decode::state(&environments::TABLE, row)).collect()
    }

    async fn secrets(&self, filter: &SecretFilter) -> Result<Vec<SecretState>, QueryError> {
        let rows = self.fetch(list_secrets(filter)).await?;
        rows.iter().map(|row| decode::state(&secrets::TABLE, row)).collect()
    }

    async fn alive_runs(&self, filter: &AliveFilter) -> Result<Vec<RunState>, QueryError> {
        let rows = self.fetch(alive_runs(filter)).await?;
        rows.iter().map(|row| decode::state(&runs::TABLE, row)).collect()
    }

    async fn half_released_runs(&self, limit: usize) -> Result<Vec<RunState>, QueryError> {
        let rows = sqlx::query(HALF_RELEASED).bind(cut(limit)).fetch_all(self.store.reader()).await;
        rows.map_err(|error| unavailable(&error))?.iter().map(|row| decode::state(&runs::TABLE, row)).collect()
    }

    async fn statuses(&self) -> Result<Vec<ProjectionStatus>, QueryError> {
        let marks = marks::read(self.store.reader()).await.map_err(|error| unavailable(&error))?;
        let head = self.store.head().await?.0;
        let mut statuses = Vec::new();
        for fold in &self.projections.folds {
            let main = fold.main().table.name;
            for table in fold.views.iter().map(|view| view.table) {
                let mark = marks.get(table.name);
                let waits = marks.get(main).filter(|main| main.stalled.is_some());
                statuses.push(ProjectionStatus {
                    name: table.name.to_owned(),
                    version: mark.map_or(0, |mark| mark.version),
                    position: mark.map_or(0, |mark| mark.position),
                    head,
                    stalled: mark
                        .and_then(|mark| mark.stalled.clone())
                        .or_else(|| waits.map(|_| format!("it waits for {main}, which is stalled"))),
                    // A table that was dropped has none; that it stands still says the rest.
                    rows: self.count(table.name).await.unwrap_or_default(),
                });
            }
        }
        Ok(statuses)
    }

    async fn wait_for(&self, position: Position, within: Duration) -> Result<(), QueryError> {
        let mut seen = self.projections.seen.subscribe();
        let wait = async {
            loop {
                if *seen.borrow_and_update() >= position || self.seen_by_all().await? >= position {
                    return Ok(());
                }
                // Whichever comes first; a sender that is gone leaves the poll.
                let _ = tokio::time::timeout(WAIT_POLL, seen.changed()).await;
            }
        };
        match tokio::time::timeout(within, wait).await {
            Ok(answer) => answer,
            Err(_) => Err(QueryError::Behind { position: self.seen_by_all().await?.0, wanted: position.0 }),
        }
    }

    async fn rebuild(&self, name: &str, progress: mpsc::Sender<RebuildProgress>) -> Result<RebuildReport, QueryError> {
        rebuild::rebuild(self, name, &progress).await
    }

    async fn verify(&self, name: &str) -> Result<VerifyReport, QueryError> {
        verify::verify(self, name).await
    }
}

impl SqliteReadModel {
    /// How many rows a table has.
    pub(super) async fn count(&self, name: &str) -> Result<u64, QueryError> {
        let (fold, view) = self.find(name)?;
        let name = self.projections.folds[fold].views[view].table.name;
        let mut count = QueryBuilder::new("SELECT count(*) FROM ");
        count.push(name);
        let rows: Result<i64, _> = count.build_query_scalar().fetch_one(self.store.reader()).await;
        rows.map(i64::cast_unsigned).map_err(|error| unavailable(&error))
    }

    async fn fetch(&self, mut query: QueryBuilder<Sqlite>) -> Result<Vec<SqliteRow>, QueryError> {
        query.build().fetch_all(self.store.reader()).await.map_err(|error| unavailable(&error))
    }

    /// The position that every table which does not stand still has seen. Those that wait for a stalled one stand
    /// still too.
    async fn seen_by_all(&self) -> Result<Position, QueryError> {
        let marks = marks::read(self.store.reader()).await.map_err(|error| unavailable(&error))?;
        let live = |table: &&crate::projection::Table| marks.get(table.name).is_some_and(|mark| mark.stalled.is_none());
        let seen = self
            .projections
            .folds
            .iter()
            .filter(|fold| live(&fold.main().table))
            .flat_map(|fold| fold.views.iter().map(|view| view.table).filter(live))
            .filter_map(|table| marks.get(table.name).map(|mark| mark.position))
            .min();
        match seen {
            Some(seen) => Ok(Position(seen)),
            // All of them stand still: nothing is waited for.
            None => Ok(self.store.head().await?),
        }
    }
}

/// The list of leases that `filter` asks for.
pub(super) fn leases(filter: &LeaseFilter) -> QueryBuilder<Sqlite> {
    let mut query = Conditions::new("SELECT * FROM current_leases");
    let open = filter.open_only || all_open(filter);
    // Without statistics SQLite takes every index of one equal column for equally narrow. Which one is, is known
    // here: a run's, what is due, what needs attention, what is unsettled, an environment's, a company's.
    let by_present =
        filter.run_id.is_some() || filter.due_by.is_some() || filter.needs_attention || filter.running_commands;
    let by_environment = !by_present && filter.environment_id.is_some();
    query.equal("run_id", filter.run_id);
    query.equal(if by_present { "+environment_id" } else { "environment_id" }, filter.environment_id);
    let other_than_company = by_present || by_environment || open || filter.unsettled;
    query.equal(if other_than_company { "+company_id" } else { "company_id" }, filter.company_id);
    query.below("created_position", filter.before);
    query.holds(open, "is_open = 1");
    query.holds(filter.unsettled, UNSETTLED);
    query.holds(filter.needs_attention, "needs_attention = 1");
    query.holds(filter.running_commands, "running_commands > 0");
    if let Some(Value::Text(due)) = filter.due_by.map(|due| Value::time(Some(due))) {
        query.and().push("next_action_at <= ").push_bind(due);
    }
    if !filter.statuses.is_empty() {
        let mut list = query.and().push("status IN (").separated(", ");
        for status in &filter.statuses {
            list.push_bind(status.as_str());
        }
        list.push_unseparated(")");
    }
    let order = if filter.due_by.is_some() { "next_action_at, lease_id" } else { "created_position DESC" };
    query.end(order, filter.limit)
}

/// Whether only open leases can match, so that the index of what is unsettled serves.
fn all_open(filter: &LeaseFilter) -> bool {
    !filter.statuses.is_empty() && filter.statuses.iter().all(|status| status.is_open())
}

/// The open claims behind `after`.
pub(super) fn open_claims(after: Option<(DateTime<Utc>, LeaseId)>, limit: usize) -> QueryBuilder<Sqlite> {
    let mut query = Conditions::new("SELECT * FROM reuse_claims");
    query.holds(true, reuse_claims::OPEN);
    if let Some((at, lease_id)) = after
        && let Value::Text(at) = Value::time(Some(at))
    {
        query
            .and()
            .push("(claimed_at, lease_id) > (")
            .push_bind(at)
            .push(", ")
            .push_bind(lease_id.to_string())
            .push(")");
    }
    query.end("claimed_at, lease_id", limit)
}

/// The leases that `filter` asks for, as far as a sweep must know them.
pub(super) fn due(filter: &DueFilter) -> QueryBuilder<Sqlite> {
    let mut query =
        Conditions::new("SELECT next_action_at, lease_id, driver, provider, in_flight_owner FROM current_leases");
    query.equal("next_action", Some(filter.action));
    query.holds(true, "next_action_at IS NOT NULL");
    if let Some(Value::Text(by)) = filter.by.map(|by| Value::time(Some(by))) {
        query.and().push("next_action_at <= ").push_bind(by);
    }
    if let Some((at, lease_id)) = filter.after
        && let Value::Text(at) = Value::time(Some(at))
    {
        let mut row = query.and().push("(next_action_at, lease_id) > (").separated(", ");
        row.push_bind(at).push_bind(lease_id.to_string()).push_unseparated(")");
    }
    query.end("next_action_at, lease_id", filter.limit)
}

/// The list of reusable leases that `filter` asks for.
pub(super) fn list_reusable(filter: &ReusableFilter) -> QueryBuilder<Sqlite> {
    let mut query = Conditions::new("SELECT * FROM reusable_leases");
    query.equal("environment_id", filter.environment_id);
    query.equal("company_id", filter.company_id);
    query.equal("provider", filter.provider.as_ref());
    query.end("released_at DESC, lease_id", filter.limit)
}

/// The list of environments that `filter` asks for.
pub(super) fn list_environments(filter: &EnvironmentFilter) -> QueryBuilder<Sqlite> {
    let mut query = Conditions::new("SELECT * FROM environments");
    query.equal("company_id", filter.company_id);
    query.equal("name", filter.name.as_ref());
    query.equal("driver", filter.driver.as_ref());
    query.equal("status", filter.status.map(lease_events::environment::EnvironmentStatus::as_str));
    query.below("created_position", filter.before);
    query.end("created_position DESC", filter.limit)
}

/// The list of secrets that `filter` asks for.
pub(super) fn list_secrets(filter: &SecretFilter) -> QueryBuilder<Sqlite> {
    let mut query = Conditions::new("SELECT * FROM secrets");
    query.equal("company_id", filter.company_id);
    query.equal("name", filter.name.as_ref());
    query.equal("status", filter.status.map(SecretStatus::as_str));
    query.below("created_position", filter.before);
    query.end("created_position DESC", filter.limit)
}

/// The runs that `filter` asks for.
pub(super) fn alive_runs(filter: &AliveFilter) -> QueryBuilder<Sqlite> {
    let mut query = Conditions::new("SELECT * FROM runs");
    query.holds(true, ALIVE);
    if let Some(Value::Text(until)) = filter.until.map(|until| Value::time(Some(until))) {
        query.and().push("alive_until <= ").push_bind(until);
    }
    if let Some((until, run_id)) = filter.after
        && let Value::Text(until) = Value::time(Some(until))
    {
        let mut row = query.and().push("(alive_until, run_id) > (").separated(", ");
        row.push_bind(until).push_bind(run_id.to_string()).push_unseparated(")");
    }
    query.end("alive_until, run_id", filter.limit)
}

/// A list's statement in the making: conditions that are all to hold.
struct Conditions {
    query: QueryBuilder<Sqlite>,
    any: bool,
}

impl Conditions {
    fn new(select: &'static str) -> Self {
        Self { query: QueryBuilder::new(select), any: false }
    }

    fn and(&mut self) -> &mut QueryBuilder<Sqlite> {
        let word = if std::mem::replace(&mut self.any, true) { " AND " } else { " WHERE " };
        self.query.push(word)
    }

    fn equal<T: ToString>(&mut self, column: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.and().push(column).push(" = ").push_bind(value.to_string());
        }
    }

    fn below(&mut self, column: &'static str, position: Option<Position>) {
        if let Some(position) = position {
            self.and().push(column).push(" < ").push_bind(position.0.cast_signed());
        }
    }

    fn holds(&mut self, wanted: bool, condition: &'static str) {
        if wanted {
            self.and().push("(").push(condition).push(")");
        }
    }

    fn end(mut self, order: &'static str, limit: usize) -> QueryBuilder<Sqlite> {
        self.query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(cut(limit));
        self.query
    }
}

fn cut(limit: usize) -> i64 {
    i64::try_from(limit.min(ROWS_MAX)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
