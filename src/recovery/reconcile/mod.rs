//! Reconciliation: what providers list, compared with what the ledger says, both ways.
//!
//! | there | ledger | what is done |
//! | --- | --- | --- |
//! | ours | nothing accounts for it | destroyed, once it is older than a grace time |
//! | ours | its lease is active and holds another | reported |
//! | not provably ours | | reported, never touched |
//! | no, twice | a lease holds it | recorded, where the provider can confirm absence |
//!
//! **Invariants**
//! - A projection and a listing only suggest: each is judged on loaded streams at the moment of its destruction
//!   ([`crate::commands::orphan`]), in a task of its own, so that one that fails holds up none of the others.
//! - A look destroys at most [`DESTROYED_MAX`] things. Where more disagrees than mishaps explain, it does nothing, and
//!   says so: then the ledger or the listing is wrong, and an operator must look.
//! - A listing is no activity: it extends no lease and keeps no run alive.

mod compare;
pub mod report;
mod survey;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::id::{EnvironmentId, LeaseId};
use tokio::time::Instant;

use super::report::SweepReport;
use super::{Pass, Sweep};
use crate::commands::error::CommandError;
use crate::commands::gone::record_gone;
use crate::commands::orphan::{Suspect, reclaim};
use crate::commands::upkeep::{Did, Upkeep, command_of};
use report::{Finding, FindingKind, ListingReport, Reconciliation};
use survey::Listing;

/// How often it is reconciled, where the operator does not say.
pub const EVERY: Duration = Duration::from_mins(5);
/// Most things that one look destroys: an orphan is a rare mishap, and whoever is wrong shall not be wrong in bulk.
pub const DESTROYED_MAX: usize = 20;
/// Least time between two looks at which something must be absent before it counts as gone.
const ABSENT_TWICE_WITHIN: Duration = Duration::from_secs(1);
/// Longest such time for which a pass by hand waits; a provider that lags more is asked again by the next one.
const WAIT_BY_HAND_MAX: Duration = Duration::from_secs(10);

/// How long is remembered what was seen once: many looks.
const REMEMBERED_FOR: Duration = Duration::from_hours(24);

/// What a reconciliation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReconcileRequest {
    /// Only what is listed for this environment, and only what is its own.
    pub environment_id: Option<EnvironmentId>,
    /// Whether nothing is done: findings only.
    pub dry_run: bool,
    /// Whether an operator has looked at drift that is implausible, and wants it seen to. The budget stands.
    pub accept_drift: bool,
}

/// The sweep, and the pass by hand.
#[derive(Debug)]
pub struct Reconciler {
    every: Mutex<Duration>,
    memory: Mutex<Memory>,
}

/// What was seen at earlier looks.
#[derive(Debug, Default)]
struct Memory {
    /// Since when something that a lease holds is absent from its listing.
    absent: HashMap<LeaseId, Instant>,
    /// Since when something is known to be there, and when it was last seen: not all say when they were made.
    seen: HashMap<String, (DateTime<Utc>, Instant)>,
}

impl Memory {
    /// Since when it is known to be there.
    fn seen_since(&mut self, provider_lease_id: &str, now: DateTime<Utc>) -> DateTime<Utc> {
        let (since, seen) = self.seen.entry(provider_lease_id.to_owned()).or_insert((now, Instant::now()));
        *seen = Instant::now();
        *since
    }

    /// Forgets what no look has spoken of for long.
    fn forget_old(&mut self) {
        self.absent.retain(|_, since| since.elapsed() < REMEMBERED_FOR);
        self.seen.retain(|_, (_, seen)| seen.elapsed() < REMEMBERED_FOR);
    }
}

impl Default for Reconciler {
    fn default() -> Self {
        Self { every: Mutex::new(EVERY), memory: Mutex::default() }
    }
}

impl Reconciler {
    /// Sets how often it looks by itself, from its next look on.
    pub fn look_each(&self, every: Duration) {
        *self.every.lock().unwrap_or_else(PoisonError::into_inner) = every;
    }

    /// Reconciles by hand: where something is absent for the first time, it looks a second time.
    pub async fn by_hand(&self, pass: &Pass, request: ReconcileRequest) -> Reconciliation {
        let first = self.look(pass, request).await;
        let absent = |finding: &Finding| finding.kind == FindingKind::Gone && finding.did.is_none() && !finding.failed;
        let delay = first.listings.iter().filter(|listing| listing.report.findings.iter().any(absent));
        let delay = delay.map(|listing| listing.delay).max();
        match delay {
            Some(delay) if !request.dry_run && delay <= WAIT_BY_HAND_MAX => {
                tokio::time::sleep(delay).await;
                let second = self.look(pass, request).await;
                merged(first, second)
            }
            _ => first.into_report(),
        }
    }

    async fn look(&self, pass: &Pass, request: ReconcileRequest) -> Look {
        let listings = match survey::listings(&pass.context, request.environment_id).await {
            Ok(listings) => listings,
            Err(error) => return Look { listings: Vec::new(), fault: Some(error.to_string()) },
        };
        let held = listings.iter().flat_map(|listing| &listing.held);
        let held: HashSet<String> = held.map(|held| held.provider_lease_id.clone()).collect();
        lock(&self.memory).forget_old();
        let mut look = Look::default();
        let mut budget = DESTROYED_MAX;
        for listing in listings {
            if pass.stopping.is_cancelled() {
                break;
            }
            let delay = listing.traits.visibility_delay.max(ABSENT_TWICE_WITHIN);
            let compared = compare::compare(&pass.context, &listing, &held, request, &self.memory).await;
            let report = self.act(pass, &listing, compared, request, &mut budget).await;
            look.listings.push(Looked { report, delay });
        }
        look
    }

    /// Does what there is to do about one listing.
    async fn act(
        &self,
        pass: &Pass,
        listing: &Listing,
        compared: compare::Compared,
        request: ReconcileRequest,
        budget: &mut usize,
    ) -> ListingReport {
        let mut report = compared.report;
        if request.dry_run {
            report.findings.extend(compared.unaccounted.into_iter().map(|(_, finding)| finding));
            report.findings.extend(compared.gone);
            return report;
        }
        for (suspect, finding) in compared.unaccounted {
            let finding = if *budget == 0 {
                let because =
                    format!("{}; {DESTROYED_MAX} were destroyed in this look, the next goes on", finding.because);
                Finding { because, ..finding }
            } else if pass.stopping.is_cancelled() || !report.stopped.is_empty() {
                finding
            } else {
                let done = in_task(destroy(pass.clone(), suspect)).await;
                *budget -= usize::from(!matches!(done, Ok(None)));
                told(finding, done)
            };
            report.findings.push(finding);
        }
        let delay = listing.traits.visibility_delay.max(ABSENT_TWICE_WITHIN);
        for finding in compared.gone {
            let finding = match finding.lease_id {
                Some(lease_id) if report.stopped.is_empty() && self.is_absent_twice(lease_id, delay) => {
                    let done = in_task(gone(pass.clone(), lease_id, finding.provider_lease_id.clone())).await;
                    told(finding, done)
                }
                _ => finding,
            };
            report.findings.push(finding);
        }
        report
    }

    /// Whether what a lease holds was absent before, long enough ago; notes it where it was not.
    fn is_absent_twice(&self, lease_id: LeaseId, delay: Duration) -> bool {
        lock(&self.memory).absent.entry(lease_id).or_insert_with(Instant::now).elapsed() >= delay
    }
}

#[async_trait]
impl Sweep for Reconciler {
    fn name(&self) -> &'static str {
        "reconcile"
    }

    fn look_every(&self) -> Duration {
        *self.every.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        self.look(pass, ReconcileRequest::default()).await.into_report().as_sweep()
    }
}

/// One look at all listings.
#[derive(Default)]
struct Look {
    listings: Vec<Looked>,
    fault: Option<String>,
}

struct Looked {
    report: ListingReport,
    delay: Duration,
}

impl Look {
    fn into_report(self) -> Reconciliation {
        let listings = self.listings.into_iter().map(|listing| listing.report).collect();
        Reconciliation { listings, fault: self.fault }
    }
}

/// Two looks as one: the second, with what the first one did.
fn merged(first: Look, second: Look) -> Reconciliation {
    let mut whole = second.into_report();
    for earlier in first.into_report().listings {
        let is_same = |later: &&mut ListingReport| {
            (&later.driver, &later.provider, later.environment_id)
                == (&earlier.driver, &earlier.provider, earlier.environment_id)
        };
        let done = earlier.findings.iter().filter(|finding| finding.did.is_some() || finding.failed).cloned();
        if let Some(later) = whole.listings.iter_mut().find(is_same) {
            later.findings.extend(done);
        }
    }
    whole
}

async fn destroy(pass: Pass, suspect: Suspect) -> Result<Option<Upkeep>, CommandError> {
    let command = command_of(&pass.context, "reconcile");
    reclaim(&pass.context, &command, &suspect).await
}

async fn gone(pass: Pass, lease_id: LeaseId, provider_lease_id: String) -> Result<Option<Upkeep>, CommandError> {
    let command = command_of(&pass.context, "reconcile");
    record_gone(&pass.context, &command, lease_id, &provider_lease_id).await
}

/// Runs it in a task of its own: a panic is that row's failure.
async fn in_task<F>(work: F) -> Result<Option<Upkeep>, CommandError>
where
    F: Future<Output = Result<Option<Upkeep>, CommandError>> + Send + 'static,
{
    let task = tokio::spawn(work).await;
    task.unwrap_or_else(|broken| Err(CommandError::BrokenOff { cause: broken.to_string() }))
}

fn told(finding: Finding, done: Result<Option<Upkeep>, CommandError>) -> Finding {
    match done {
        Ok(Some(Upkeep { did, because })) => {
            Finding { did: Some(did), because, failed: did == Did::ReclaimFailed, ..finding }
        }
        // It was judged once more, and there is nothing to do, or not yet.
        Ok(None) => finding,
        Err(error) => Finding { because: error.to_string(), failed: true, ..finding },
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    // Both maps are whole after every statement.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
