//! The reading port in memory: every list looks at every state.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use lease_events::environment::EnvironmentState;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::state::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::record::Position;
use lease_events::run::{RunState, RunStatus};
use lease_events::secret::SecretState;
use tokio::sync::mpsc;

use super::{MemoryReadModel, seen};
use crate::current_leases::in_flight_owner;
use crate::projection::{ProjectionStatus, QueryError};
use crate::read_model::{
    AliveFilter, DueFilter, DueLease, EnvironmentFilter, LeaseFilter, ROWS_MAX, ReadModel, RebuildProgress,
    RebuildReport, ReusableFilter, SecretFilter, VerifyReport,
};
use crate::reusable_leases::ReusableLease;
use crate::reuse_claims::{ClaimStatus, ReuseClaim};

impl MemoryReadModel {
    /// What `pick` takes of each state of the type `S`.
    fn collect<S: 'static, T>(&self, pick: impl FnMut(&S) -> Option<T>) -> Vec<T> {
        let folds = self.projections.folds();
        let states = folds.iter().flat_map(|fold| fold.states.values());
        states.filter_map(|state| state.downcast_ref::<S>()).filter_map(pick).collect()
    }

    fn one<S: Clone + 'static>(&self, key: &str) -> Option<S> {
        let folds = self.projections.folds();
        folds.iter().find_map(|fold| fold.states.get(key)?.downcast_ref::<S>().cloned())
    }

    fn kept(&self, wanted: impl Fn(&ReusableLease) -> bool, limit: usize) -> Vec<ReusableLease> {
        let mut kept = self.collect(|lease: &LeaseState| ReusableLease::of(lease).filter(&wanted));
        kept.sort_by_key(|lease| (Reverse(lease.released_at), lease.lease_id));
        kept.truncate(limit.min(ROWS_MAX));
        kept
    }
}

fn equal<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

fn matches(filter: &LeaseFilter, lease: &LeaseState) -> bool {
    equal(filter.company_id.as_ref(), &lease.company_id)
        && equal(filter.environment_id.as_ref(), &lease.environment_id)
        && (filter.run_id.is_none() || filter.run_id == lease.run_id)
        && (filter.statuses.is_empty() || filter.statuses.contains(&lease.status))
        && (!filter.open_only || lease.status.is_open())
        && (!filter.unsettled || lease.status.is_open() || lease.keeps_something())
        && (!filter.needs_attention || lease.needs_attention)
        && (!filter.running_commands || !lease.running.is_empty())
        && filter.due_by.is_none_or(|due| due_at(lease).is_some_and(|at| at <= due))
        && filter.before.is_none_or(|before| lease.created_position < before)
}

fn due_at(lease: &LeaseState) -> Option<chrono::DateTime<chrono::Utc>> {
    lease.next_action.as_ref().and_then(|next| next.at)
}

fn due_lease(filter: &DueFilter, lease: &LeaseState) -> Option<DueLease> {
    let next = lease.next_action.as_ref().filter(|next| next.action == filter.action)?;
    // As the SQL tables keep it, so that cursors mean the same.
    let at = next.at?.trunc_subsecs(6);
    let wanted = filter.by.is_none_or(|by| at <= by) && filter.after.is_none_or(|after| (at, lease.lease_id) > after);
    wanted.then(|| DueLease {
        at,
        lease_id: lease.lease_id,
        driver: lease.driver.clone(),
        provider: lease.provider.clone(),
        in_flight_owner: in_flight_owner(lease).map(str::to_owned),
    })
}

#[async_trait]
impl ReadModel for MemoryReadModel {
    async fn lease(&self, id: LeaseId) -> Result<Option<LeaseState>, QueryError> {
        Ok(self.one(&id.to_string()))
    }

    async fn leases(&self, filter: &LeaseFilter) -> Result<Vec<LeaseState>, QueryError> {
        let mut leases = self.collect(|lease: &LeaseState| matches(filter, lease).then(|| lease.clone()));
        if filter.due_by.is_some() {
            leases.sort_by_key(|lease| (due_at(lease), lease.lease_id));
        } else {
            leases.sort_by_key(|lease| Reverse(lease.created_position));
        }
        leases.truncate(filter.limit.min(ROWS_MAX));
        Ok(leases)
    }

    async fn due(&self, filter: &DueFilter) -> Result<Vec<DueLease>, QueryError> {
        let mut due = self.collect(|lease: &LeaseState| due_lease(filter, lease));
        due.sort_by_key(|lease| (lease.at, lease.lease_id));
        due.truncate(filter.limit.min(ROWS_MAX));
        Ok(due)
    }

    async fn count_needing_attention(&self) -> Result<u64, QueryError> {
        Ok(self.collect(|lease: &LeaseState| lease.needs_attention.then_some(())).len() as u64)
    }

    async fn claimed_by(&self, claimant: LeaseId) -> Result<Vec<LeaseId>, QueryError> {
        let mut claimed = self.collect(|lease: &LeaseState| {
            (lease.claimed_by == Some(claimant)).then_some((lease.created_position, lease.lease_id))
        });
        claimed.sort_unstable();
        Ok(claimed.into_iter().map(|(_, id)| id).collect())
    }

    async fn open_claims(
        &self,
        after: Option<(DateTime<Utc>, LeaseId)>,
        limit: usize,
    ) -> Result<Vec<ReuseClaim>, QueryError> {
        let at = |claim: &ReuseClaim| (claim.claimed_at.trunc_subsecs(6), claim.lease_id);
        let mut open = self.collect(|claim: &ReuseClaim| {
            let is_wanted = claim.status == ClaimStatus::Open && after.is_none_or(|after| at(claim) > after);
            is_wanted.then(|| claim.clone())
        });
        open.sort_by_key(at);
        open.truncate(limit.min(ROWS_MAX));
        Ok(open)
    }

    async fn open_leases_of_run(&self, company: Option<CompanyId>, run: RunId) -> Result<Vec<LeaseId>, QueryError> {
        let mut open = self.collect(|lease: &LeaseState| {
            let wanted =
                lease.run_id == Some(run) && equal(company.as_ref(), &lease.company_id) && lease.status.is_open();
            wanted.then_some((lease.created_position, lease.lease_id))
        });
        open.sort_unstable();
        Ok(open.into_iter().map(|(_, id)| id).collect())
    }

    async fn latest_generation(&self, run: RunId, fingerprint: &str) -> Result<Option<u32>, QueryError> {
        let generations = self.collect(|lease: &LeaseState| {
            (lease.run_id == Some(run) && lease.reuse_fingerprint.as_deref() == Some(fingerprint))
                .then_some(lease.generation)
        });
        Ok(generations.into_iter().max())
    }

    async fn reusable(&self, fingerprint: &str, limit: usize) -> Result<Vec<ReusableLease>, QueryError> {
        Ok(self.kept(|kept| kept.reuse_fingerprint.as_deref() == Some(fingerprint), limit))
    }

    async fn reusable_in_environment(
        &self,
        environment: EnvironmentId,
        limit: usize,
    ) -> Result<Vec<ReusableLease>, QueryError> {
        Ok(self.kept(|kept| kept.environment_id == environment, limit))
    }

    async fn list_reusable(&self, filter: &ReusableFilter) -> Result<Vec<ReusableLease>, QueryError> {
        let wanted = |kept: &ReusableLease| {
            equal(filter.company_id.as_ref(), &kept.company_id)
                && equal(filter.environment_id.as_ref(), &kept.environment_id)
                && equal(filter.provider.as_ref(), &kept.provider)
        };
        Ok(self.kept(wanted, filter.limit))
    }

    async fn environment(&self, id: EnvironmentId) -> Result<Option<EnvironmentState>, QueryError> {
        Ok(self.one(&id.to_string()))
    }

    async fn environments(&self, filter: &EnvironmentFilter) -> Result<Vec<EnvironmentState>, QueryError> {
        let mut environments = self.collect(|environment: &EnvironmentState| {
            let wanted = equal(filter.company_id.as_ref(), &environment.company_id)
                && equal(filter.name.as_ref(), &environment.name)
                && equal(filter.driver.as_ref(), &environment.driver)
                && equal(filter.status.as_ref(), &environment.status)
                && filter.before.is_none_or(|before| environment.created_position < before);
            wanted.then(|| environment.clone())
        });
        environments.sort_by_key(|environment| Reverse(environment.created_position));
        environments.truncate(filter.limit.min(ROWS_MAX));
        Ok(environments)
    }

    async fn secrets(&self, filter: &SecretFilter) -> Result<Vec<SecretState>, QueryError> {
        let mut secrets = self.collect(|secret: &SecretState| {
            let wanted = equal(filter.company_id.as_ref(), &secret.company_id)
                && equal(filter.name.as_ref(), &secret.name)
                && equal(filter.status.as_ref(), &secret.status)
                && filter.before.is_none_or(|before| secret.created_position < before);
            wanted.then(|| secret.clone())
        });
        secrets.sort_by_key(|secret| Reverse(secret.created_position));
        secrets.truncate(filter.limit.min(ROWS_MAX));
        Ok(secrets)
    }

    async fn alive_runs(&self, filter: &AliveFilter) -> Result<Vec<RunState>, QueryError> {
        let mut runs = self.collect(|run: &RunState| {
            let until = run.alive_until.filter(|_| run.status == RunStatus::Alive)?.trunc_subsecs(6);
            let wanted = filter.until.is_none_or(|by| until <= by)
                && filter.after.is_none_or(|after| (until, run.run_id) > after);
            wanted.then(|| run.clone())
        });
        runs.sort_by_key(|run| (run.alive_until, run.run_id));
        runs.truncate(filter.limit.min(ROWS_MAX));
        Ok(runs)
    }

    async fn half_released_runs(&self, limit: usize) -> Result<Vec<RunState>, QueryError> {
        let untold = [LeaseStatus::Requested, LeaseStatus::EffectUnknown, LeaseStatus::Active];
        let holding: BTreeSet<RunId> = self
            .collect(|lease: &LeaseState| lease.run_id.filter(|_| untold.contains(&lease.status)))
            .into_iter()
            .collect();
        let mut runs = self.collect(|run: &RunState| {
            (run.status == RunStatus::Released && holding.contains(&run.run_id)).then(|| run.clone())
        });
        runs.sort_by_key(|run| run.run_id);
        runs.truncate(limit.min(ROWS_MAX));
        Ok(runs)
    }

    async fn statuses(&self) -> Result<Vec<ProjectionStatus>, QueryError> {
        let head = self.store.head().await?.0;
        let folds = self.projections.folds();
        let mut statuses = Vec::new();
        for fold in folds.iter() {
            for (view, table) in fold.projection.tables().into_iter().enumerate() {
                statuses.push(ProjectionStatus {
                    name: table.name.to_owned(),
                    version: table.version,
                    position: fold.position,
                    head,
                    stalled: fold.stalled.clone(),
                    rows: fold.rows(view).len() as u64,
                });
            }
        }
        Ok(statuses)
    }

    async fn wait_for(&self, position: Position, within: Duration) -> Result<(), QueryError> {
        let mut watched = self.projections.seen.subscribe();
        let reached = watched.wait_for(|seen| *seen >= position);
        match tokio::time::timeout(within, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(QueryError::Behind { position: seen(&self.projections.folds()).0, wanted: position.0 }),
        }
    }

    async fn rebuild(&self, name: &str, progress: mpsc::Sender<RebuildProgress>) -> Result<RebuildReport, QueryError> {
        self.rebuild_fold(name, &progress).await
    }

    async fn verify(&self, name: &str) -> Result<VerifyReport, QueryError> {
        self.verify_table(name).await
    }
}
