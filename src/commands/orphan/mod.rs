//! Orphans: what a provider lists under this ledger's label, and no lease accounts for, is destroyed. `recovery` lists,
//! compares and keeps the budget; here each one is judged on loaded streams, at the moment of its destruction.
//!
//! 1. `orphan-found` on the orphan's stream: the intent, at the revision that was loaded.
//! 2. The driver destroys it, under the highest token that the ledger knows of: whoever holds it under a higher one is
//!    not touched. `orphan-reclaimed` or `orphan-reclaim-failed`: the outcome.
//!
//! **Invariants:** only what bears this ledger's label and a lease's is ever destroyed, and only while the streams say
//! that this lease, and whoever took over from it, holds and owes nothing ([`assess`]). A workspace that may be the only
//! copy of somebody's work, and what an operator waived, are left alone.

mod assess;

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::codec::{decode, encode};
use lease_events::fold::FoldError;
use lease_events::id::{LeaseId, OrphanId};
use lease_events::lease::event::Receipt;
use lease_events::orphan::{OrphanEvent, OrphanFound, OrphanReclaimFailed, OrphanReclaimed};
use lease_events::record::{RecordedEvent, StreamId};
use lease_events::store::{Append, AppendError, Direction, Expected};
use serde_json::Value;

pub use assess::{Assessment, GRACE, assess};

use super::Context;
use super::caller::Command;
use super::effect::{self, within};
use super::error::{CommandError, moment};
use super::session::append_surely;
use super::upkeep::{Did, Upkeep};
use crate::drivers::{Held, LeaseScope, Listed, Outcome, ProbeScope};

/// First wait before a failed try is repeated; doubled up to [`RETRY_MAX`]. Each try needs a listing that shows it still.
const RETRY_FIRST: TimeDelta = TimeDelta::minutes(1);
/// Longest wait before a failed try is repeated.
const RETRY_MAX: TimeDelta = TimeDelta::days(1);

/// Something that a provider listed, with the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// The driver that listed it.
    pub driver: String,
    /// The provider.
    pub provider: String,
    /// The config that it was listed with.
    pub config: Value,
    /// In whose name it was listed.
    pub scope: ProbeScope,
    /// What was listed.
    pub listed: Listed,
    /// The lease that it is labelled with.
    pub lease_id: LeaseId,
    /// Since when it is known to be there, where the provider does not say when it was made.
    pub seen_since: DateTime<Utc>,
}

impl Suspect {
    fn orphan_id(&self) -> OrphanId {
        OrphanId::derived(&[&self.driver, &self.provider, &self.listed.provider_lease_id])
    }
}

/// Destroys it where nothing accounts for it; `None` where there is nothing to do, or somebody else is at it.
pub async fn reclaim(context: &Context, command: &Command, suspect: &Suspect) -> Result<Option<Upkeep>, CommandError> {
    // No acquire or release of its lease in this process meanwhile.
    let _held = context.locks.hold(suspect.lease_id.0).await;
    let Assessment::Unaccounted { lease, fencing_token, because } = assess(context, suspect).await? else {
        return Ok(None);
    };
    let driver = effect::driver(context, &suspect.driver)?;
    let mut orphan = Orphan::load(context, command, suspect.orphan_id()).await?;
    if orphan.waits_until().is_some_and(|at| at > context.clock.now()) {
        return Ok(None);
    }
    let scope = scope(context, suspect, lease.as_deref(), fencing_token, orphan.attempts() + 1);
    if !orphan.is_found() {
        let found = OrphanFound {
            orphan_id: suspect.orphan_id(),
            ledger_id: context.ledger_id,
            lease_id: suspect.lease_id,
            environment_id: scope.environment_id,
            driver: suspect.driver.clone(),
            provider: suspect.provider.clone(),
            provider_lease_id: suspect.listed.provider_lease_id.clone(),
            created_at: suspect.listed.created_at,
            config: scope.config.clone(),
            fencing_token,
            because: because.clone(),
        };
        if !orphan.append(&scope, found.into()).await? {
            return Ok(None);
        }
    }
    let metadata = lease.and_then(|lease| lease.provider_lease).map(|held| held.metadata).unwrap_or_default();
    let held = Held { provider_lease_id: Some(suspect.listed.provider_lease_id.clone()), metadata };
    let outcome = within(driver.traits(&scope.config).call_timeout, driver.destroy(&scope, &held)).await;
    orphan.end(&scope, outcome, &because).await.map(Some)
}

/// For whom it is destroyed: its lease, from the lease's own record where there is one.
fn scope(
    context: &Context,
    suspect: &Suspect,
    lease: Option<&lease_events::lease::LeaseState>,
    fencing_token: u64,
    attempt: u32,
) -> LeaseScope {
    if let Some(lease) = lease {
        return effect::scope(lease, fencing_token, attempt);
    }
    LeaseScope {
        ledger_id: context.ledger_id,
        company_id: suspect.scope.company_id,
        environment_id: suspect.scope.environment_id,
        lease_id: suspect.lease_id,
        run_id: None,
        issue_id: None,
        agent_id: None,
        execution_workspace_id: None,
        execution_workspace_mode: None,
        adapter_type: None,
        config: suspect.config.clone(),
        fencing_token,
        attempt,
    }
}

/// An orphan's stream: its last event says all that is true of it.
struct Orphan<'a> {
    context: &'a Context,
    command: &'a Command,
    stream: StreamId,
    last: Option<(RecordedEvent, OrphanEvent)>,
    written: usize,
}

impl<'a> Orphan<'a> {
    async fn load(context: &'a Context, command: &'a Command, orphan_id: OrphanId) -> Result<Self, CommandError> {
        let stream = StreamId::orphan(orphan_id);
        let events = context.store.read_stream(&stream, u64::MAX, Direction::Backwards, 1).await?;
        let last = match events.into_iter().next() {
            Some(recorded) => {
                let event = decode(&recorded).map_err(FoldError::from)?;
                Some((recorded, event))
            }
            None => None,
        };
        Ok(Self { context, command, stream, last, written: 0 })
    }

    fn event(&self) -> Option<&OrphanEvent> {
        self.last.as_ref().map(|(_, event)| event)
    }

    /// Whether it was found and is not reclaimed since.
    fn is_found(&self) -> bool {
        matches!(self.event(), Some(OrphanEvent::Found(_) | OrphanEvent::ReclaimFailed(_)))
    }

    fn attempts(&self) -> u32 {
        match self.event() {
            Some(OrphanEvent::ReclaimFailed(failed)) => failed.attempt,
            _ => 0,
        }
    }

    fn waits_until(&self) -> Option<DateTime<Utc>> {
        match self.event() {
            Some(OrphanEvent::ReclaimFailed(failed)) => Some(failed.next_try_at),
            _ => None,
        }
    }

    /// Appends at the loaded revision; `false` where another process was first.
    async fn append(&mut self, scope: &LeaseScope, event: OrphanEvent) -> Result<bool, CommandError> {
        let (command, metadata) = (self.command.id, self.command.metadata());
        let expected = Expected::after(self.last.as_ref().map(|(recorded, _)| recorded.stream_revision));
        let stream = self.stream.clone();
        let events = encode(std::slice::from_ref(&event), &stream, scope.company_id, command, self.written, &metadata);
        match append_surely(self.context.store.as_ref(), Append { stream, expected, events }).await {
            Ok(appended) => {
                self.written += 1;
                self.last = appended.events.last().map(|recorded| (recorded.clone(), event));
                Ok(true)
            }
            Err(AppendError::WrongExpectedRevision { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Records how the destruction went.
    async fn end(
        &mut self,
        scope: &LeaseScope,
        outcome: Outcome<Receipt>,
        because: &str,
    ) -> Result<Upkeep, CommandError> {
        match outcome {
            Outcome::Done(receipt) => {
                let state = receipt.state;
                // Another process may have been first: it is gone all the same.
                self.append(scope, OrphanReclaimed { receipt }.into()).await?;
                Ok(Upkeep::new(Did::Reclaimed, format!("{because}; the provider says that it is {state}")))
            }
            Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => {
                let attempt = self.attempts() + 1;
                let doubled = RETRY_FIRST * 2_i32.saturating_pow(attempt.min(16) - 1);
                let next_try_at = self.context.clock.now() + doubled.min(RETRY_MAX);
                let failed = OrphanReclaimFailed { attempt, fault: fault.clone(), next_try_at };
                self.append(scope, failed.into()).await?;
                let because = format!("{because}; {}; it is tried again at {}", fault.message, moment(next_try_at));
                Ok(Upkeep::new(Did::ReclaimFailed, because))
            }
        }
    }
}
