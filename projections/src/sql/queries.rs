//! The reading port. Every statement goes through an index, so that no answer but a count costs more as
//! history grows; a test holds the query plans.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::environment::EnvironmentState;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::state::LeaseState;
use lease_events::record::Position;
use lease_events::run::RunState;
use lease_events::secret::SecretState;
use serde::de::DeserializeOwned;
use sqlx::SqlSafeStr;
use tokio::sync::mpsc;

use super::lists::{self, List, cut};
use super::statements::sql;
use super::{SqlReadModel, access, decode, rebuild, unavailable, verify};
use crate::projection::{ProjectionStatus, QueryError, Row, Table, Value};
use crate::read_model::{
    AliveFilter, DueFilter, DueLease, EnvironmentFilter, LeaseFilter, ReadModel, RebuildProgress, RebuildReport,
    ReusableFilter, SecretFilter, VerifyReport, WAIT_POLL,
};
use crate::reusable_leases::ReusableLease;
use crate::reuse_claims::ReuseClaim;
use crate::{current_leases, environments, reuse_claims, runs, secrets};

const LEASE: &str = "SELECT * FROM current_leases WHERE lease_id = $1";
const OPEN_OF_RUN: &str =
    "SELECT lease_id FROM current_leases WHERE run_id = $1 AND is_open = 1 ORDER BY created_position";
const OPEN_OF_RUN_IN_COMPANY: &str = "SELECT lease_id FROM current_leases WHERE run_id = $1 AND is_open = 1 AND company_id = $2 ORDER BY created_position";
const CLAIMED_BY: &str = "SELECT lease_id FROM current_leases WHERE claimed_by = $1 ORDER BY created_position";
const NEEDING_ATTENTION: &str = "SELECT count(*) FROM current_leases WHERE needs_attention = 1";
const LATEST_GENERATION: &str =
    "SELECT max(generation) FROM current_leases WHERE run_id = $1 AND reuse_fingerprint = $2";
const ENVIRONMENT: &str = "SELECT * FROM environments WHERE environment_id = $1";
const REUSABLE: &str =
    "SELECT * FROM reusable_leases WHERE reuse_fingerprint = $1 ORDER BY released_at DESC, lease_id LIMIT $2";
const HALF_RELEASED: &str = "SELECT * FROM runs WHERE status = 'released' AND run_id IN (
       SELECT run_id FROM current_leases WHERE is_open = 1 AND status IN ('requested', 'effect_unknown', 'active'))
     ORDER BY run_id LIMIT $1";

#[async_trait]
impl ReadModel for SqlReadModel {
    async fn lease(&self, id: LeaseId) -> Result<Option<LeaseState>, QueryError> {
        self.state(&current_leases::TABLE, LEASE, id.to_string()).await
    }

    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<LeaseState>, QueryError> {
        let rows = self.list(lists::leases(self.projections.database, filter)).await?;
        rows.iter().map(|row| decode::state(&current_leases::TABLE, row)).collect()
    }

    async fn due(&self, filter: &DueFilter) -> Result<Vec<DueLease>, QueryError> {
        self.list(lists::due(filter)).await?.iter().map(decode::due).collect()
    }

    async fn count_needing_attention(&self) -> Result<u64, QueryError> {
        Ok(decode::number(&self.fetch(NEEDING_ATTENTION, []).await?).unwrap_or_default())
    }

    async fn claimed_by(&self, claimant: LeaseId) -> Result<Vec<LeaseId>, QueryError> {
        let rows = self.fetch(CLAIMED_BY, [Value::id(Some(claimant.0))]).await?;
        rows.iter().map(decode::lease_id).collect()
    }

    async fn open_claims(
        &self,
        after: Option<(DateTime<Utc>, LeaseId)>,
        limit: usize,
    ) -> Result<Vec<ReuseClaim>, QueryError> {
        let rows = self.list(lists::open_claims(after, limit)).await?;
        rows.iter().map(|row| decode::state(&reuse_claims::TABLE, row)).collect()
    }

    async fn open_leases_of_run(&self, company: Option<CompanyId>, run: RunId) -> Result<Vec<LeaseId>, QueryError> {
        let run = Value::id(Some(run.0));
        let rows = match company {
            Some(company) => self.fetch(OPEN_OF_RUN_IN_COMPANY, [run, Value::id(Some(company.0))]).await,
            None => self.fetch(OPEN_OF_RUN, [run]).await,
        };
        rows?.iter().map(decode::lease_id).collect()
    }

    async fn latest_generation(&self, run: RunId, fingerprint: &str) -> Result<Option<u32>, QueryError> {
        let rows = self.fetch(LATEST_GENERATION, [Value::id(Some(run.0)), Value::from(fingerprint)]).await?;
        Ok(decode::number(&rows).and_then(|number| u32::try_from(number).ok()))
    }

    async fn reusable(&self, fingerprint: &str, limit: usize) -> Result<Vec<ReusableLease>, QueryError> {
        let rows = self.fetch(REUSABLE, [Value::from(fingerprint), cut(limit)]).await?;
        rows.iter().map(decode::reusable).collect()
    }

    async fn reusable_in_environment(
        &self,
        environment: EnvironmentId,
        limit: usize,
    ) -> Result<Vec<ReusableLease>, QueryError> {
        self.list_reusable(&ReusableFilter { environment_id: Some(environment), limit, ..Default::default() }).await
    }

    async fn list_reusable(&self, filter: &ReusableFilter) -> Result<Vec<ReusableLease>, QueryError> {
        self.list(lists::reusable(filter)).await?.iter().map(decode::reusable).collect()
    }

    async fn environment(&self, id: EnvironmentId) -> Result<Option<EnvironmentState>, QueryError> {
        self.state(&environments::TABLE, ENVIRONMENT, id.to_string()).await
    }

    async fn environments(&self, filter: &EnvironmentFilter) -> Result<Vec<EnvironmentState>, QueryError> {
        let rows = self.list(lists::environments(filter)).await?;
        rows.iter().map(|row| decode::state(&environments::TABLE, row)).collect()
    }

    async fn secrets(&self, filter: &SecretFilter) -> Result<Vec<SecretState>, QueryError> {
        let rows = self.list(lists::secrets(filter)).await?;
        rows.iter().map(|row| decode::state(&secrets::TABLE, row)).collect()
    }

    async fn alive_runs(&self, filter: &AliveFilter) -> Result<Vec<RunState>, QueryError> {
        let rows = self.list(lists::alive_runs(filter)).await?;
        rows.iter().map(|row| decode::state(&runs::TABLE, row)).collect()
    }

    async fn half_released_runs(&self, limit: usize) -> Result<Vec<RunState>, QueryError> {
        let rows = self.fetch(HALF_RELEASED, [cut(limit)]).await?;
        rows.iter().map(|row| decode::state(&runs::TABLE, row)).collect()
    }

    async fn statuses(&self) -> Result<Vec<ProjectionStatus>, QueryError> {
        let marks = self.marks().await?;
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

impl SqlReadModel {
    /// How many rows a table has.
    pub(super) async fn count(&self, name: &str) -> Result<u64, QueryError> {
        let (fold, view) = self.find(name)?;
        let name = self.projections.folds[fold].views[view].table.name;
        let rows = self.fetch(sql(format!("SELECT count(*) FROM {name}")), []).await?;
        Ok(decode::number(&rows).unwrap_or_default())
    }

    async fn list(&self, list: List) -> Result<Vec<Row>, QueryError> {
        self.fetch(sql(list.text), list.values).await
    }

    async fn fetch(
        &self,
        sql: impl SqlSafeStr + Send,
        values: impl IntoIterator<Item = Value> + Send,
    ) -> Result<Vec<Row>, QueryError> {
        access::read(&self.reader, sql, values).await.map_err(|error| unavailable(&error))
    }

    /// The state of the one row that `sql` finds by its key.
    async fn state<S: DeserializeOwned>(
        &self,
        table: &'static Table,
        sql: &'static str,
        key: String,
    ) -> Result<Option<S>, QueryError> {
        let rows = self.fetch(sql, [Value::Text(key.into())]).await?;
        rows.first().map(|row| decode::state(table, row)).transpose()
    }

    /// The position that every table which does not stand still has seen. Those that wait for a stalled one stand
    /// still too.
    async fn seen_by_all(&self) -> Result<Position, QueryError> {
        let marks = self.marks().await?;
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

#[cfg(test)]
mod tests;
