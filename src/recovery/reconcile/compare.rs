//! One listing, compared with the ledger: changes nothing at the provider and nothing in the ledger.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use chrono::TimeDelta;
use futures_util::StreamExt;
use futures_util::stream;

use super::report::{Finding, FindingKind, ListingReport};
use super::survey::{Holding, Listing};
use super::{Memory, ReconcileRequest, lock};
use crate::commands::Context;
use crate::commands::effect::within;
use crate::commands::error::CommandError;
use crate::commands::orphan::{Assessment, Suspect, assess};
use crate::drivers::{Listed, Outcome};

/// Up to this many disagreements of one kind are taken for mishaps, whatever the size of the account.
const MISHAPS_MAX: usize = 10;
/// More of one kind is never taken for mishaps, however large the account.
const DRIFT_MAX: usize = 100;
/// Where a provider lists nothing at all, more leases than this are not taken for gone.
const GONE_OF_EMPTY_MAX: usize = 3;
/// How many are judged beside each other: each reads a stream or two.
const JUDGED_AT_ONCE: usize = 8;

/// What a listing and the ledger disagree about.
pub(super) struct Compared {
    /// What is known already.
    pub(super) report: ListingReport,
    /// What nothing accounts for.
    pub(super) unaccounted: Vec<(Suspect, Finding)>,
    /// What is absent.
    pub(super) gone: Vec<Finding>,
}

/// Lists, and compares. `held` is what any lease is said to hold, anywhere.
pub(super) async fn compare(
    context: &Context,
    listing: &Listing,
    held: &HashSet<String>,
    request: ReconcileRequest,
    memory: &Mutex<Memory>,
) -> Compared {
    let asked_at = context.clock.now();
    let mut compared = Compared { report: empty(listing), unaccounted: Vec::new(), gone: Vec::new() };
    let listed = match list(context, listing).await {
        Ok(listed) => listed,
        Err(fault) => {
            compared.report.fault = Some(fault);
            return compared;
        }
    };
    let is_ours = |thing: &&Listed| thing.ledger_id == Some(context.ledger_id);
    compared.report.listed = listed.len();
    compared.report.ours = listed.values().filter(is_ours).count();
    let mut suspects = Vec::new();
    for thing in listed.values() {
        match (thing.ledger_id, thing.lease_id) {
            (Some(other), _) if other != context.ledger_id => compared.report.foreign += 1,
            _ if held.contains(&thing.provider_lease_id) => {}
            (Some(_), Some(lease_id)) => suspects.push(suspect(context, listing, thing, lease_id, memory)),
            _ => {
                let because = "it bears no label of this ledger and a lease; it is left alone".to_owned();
                compared.report.findings.push(finding(FindingKind::NotOurs, thing, because));
            }
        }
    }
    judge(context, suspects, request, &mut compared).await;
    compared.gone = absent(listing, &listed, asked_at, memory);
    if !request.accept_drift {
        stop_where_implausible(&mut compared);
    }
    compared
}

/// What the provider lists, by its names; one that is listed twice counts once.
async fn list(context: &Context, listing: &Listing) -> Result<HashMap<String, Listed>, String> {
    let Listing { driver, provider, traits, .. } = listing;
    let of = format!("driver {driver}, provider {provider}");
    let Some(found) = context.drivers.get(driver) else { return Err(format!("{of}: the driver is not there")) };
    match within(traits.call_timeout, found.list(&listing.scope, &listing.config)).await {
        Outcome::Done(listed) => Ok(listed.into_iter().map(|thing| (thing.provider_lease_id.clone(), thing)).collect()),
        Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => {
            Err(format!("{of}: there is no listing ({})", fault.message))
        }
    }
}

fn suspect(
    context: &Context,
    listing: &Listing,
    thing: &Listed,
    lease_id: lease_events::id::LeaseId,
    memory: &Mutex<Memory>,
) -> Suspect {
    let now = context.clock.now();
    let seen_since = lock(memory).seen_since(&thing.provider_lease_id, now);
    Suspect {
        driver: listing.driver.clone(),
        provider: listing.provider.clone(),
        config: listing.config.clone(),
        scope: listing.scope,
        listed: thing.clone(),
        lease_id,
        seen_since,
    }
}

/// Judges each suspect on its streams.
async fn judge(context: &Context, suspects: Vec<Suspect>, request: ReconcileRequest, compared: &mut Compared) {
    let judged = stream::iter(suspects).map(|suspect| async move {
        let assessment = assess(context, &suspect).await;
        (suspect, assessment)
    });
    let mut judged: Vec<(Suspect, Result<Assessment, CommandError>)> =
        judged.buffer_unordered(JUDGED_AT_ONCE).collect().await;
    judged.sort_by(|(one, _), (other, _)| one.listed.provider_lease_id.cmp(&other.listed.provider_lease_id));
    for (suspect, assessment) in judged {
        let (kind, because, failed) = match assessment {
            Ok(Assessment::Accounted) => continue,
            Ok(Assessment::Young) => {
                let because = "nothing accounts for it, but it may be too young to say".to_owned();
                (FindingKind::Unaccounted, because, false)
            }
            Ok(Assessment::Left { because }) => (FindingKind::Unaccounted, because, false),
            Ok(Assessment::Duplicate { because }) => (FindingKind::Duplicate, because, false),
            Ok(Assessment::Unaccounted { lease, because, .. }) => {
                let finding = finding(FindingKind::Unaccounted, &suspect.listed, because);
                let owner = lease.map(|lease| lease.environment_id);
                if request.environment_id.is_some() && owner != request.environment_id {
                    let because = format!("{}; it is not provably this environment's", finding.because);
                    compared.report.findings.push(Finding { because, ..finding });
                } else {
                    compared.unaccounted.push((suspect, finding));
                }
                continue;
            }
            Err(error) => (FindingKind::Unaccounted, error.to_string(), true),
        };
        compared.report.findings.push(Finding { failed, ..finding(kind, &suspect.listed, because) });
    }
}

/// What leases are said to hold and the listing does not show, where that says something.
fn absent(
    listing: &Listing,
    listed: &HashMap<String, Listed>,
    asked_at: chrono::DateTime<chrono::Utc>,
    memory: &Mutex<Memory>,
) -> Vec<Finding> {
    if !listing.traits.can_confirm_absence {
        return Vec::new();
    }
    let delay = TimeDelta::from_std(listing.traits.visibility_delay).unwrap_or(TimeDelta::MAX);
    let labelled: HashSet<_> = listed.values().filter_map(|thing| thing.lease_id).collect();
    let is_there = |held: &&Holding| listed.contains_key(&held.provider_lease_id) || labelled.contains(&held.lease_id);
    let (there, absent): (Vec<&Holding>, Vec<&Holding>) = listing.held.iter().partition(is_there);
    let mut memory = lock(memory);
    for held in there {
        memory.absent.remove(&held.lease_id);
    }
    let old_enough = |held: &&&Holding| held.since.checked_add_signed(delay).is_some_and(|at| at <= asked_at);
    let gone = absent.iter().filter(old_enough).map(|held| Finding {
        kind: FindingKind::Gone,
        provider_lease_id: held.provider_lease_id.clone(),
        lease_id: Some(held.lease_id),
        did: None,
        because: "a lease holds it, and its provider does not list it; absent twice, that is recorded".to_owned(),
        failed: false,
    });
    gone.collect()
}

/// Where more disagrees than mishaps explain, the ledger or the listing is wrong: nothing is done.
fn stop_where_implausible(compared: &mut Compared) {
    let Compared { report, unaccounted, gone } = compared;
    if is_implausible(unaccounted.len(), report.ours) {
        report.stopped.push(format!(
            "nothing accounts for {} of {} things that bear this ledger's label at {}: nothing was destroyed; see whether \
             this is the right ledger, then reconcile with drift accepted",
            unaccounted.len(),
            report.ours,
            report.provider
        ));
    }
    let of_nothing = report.listed == 0 && gone.len() > GONE_OF_EMPTY_MAX;
    if of_nothing || is_implausible(gone.len(), report.held) {
        report.stopped.push(format!(
            "{} lists {} things, and not {} of {} that leases hold: nothing was recorded; see whether this is the right \
             account, then reconcile with drift accepted",
            report.provider,
            report.listed,
            gone.len(),
            report.held
        ));
    }
}

fn is_implausible(count: usize, of: usize) -> bool {
    count > DRIFT_MAX || (count > MISHAPS_MAX && 2 * count > of)
}

fn finding(kind: FindingKind, thing: &Listed, because: String) -> Finding {
    Finding {
        kind,
        provider_lease_id: thing.provider_lease_id.clone(),
        lease_id: thing.lease_id,
        did: None,
        because,
        failed: false,
    }
}

fn empty(listing: &Listing) -> ListingReport {
    ListingReport {
        driver: listing.driver.clone(),
        provider: listing.provider.clone(),
        environment_id: listing.scope.environment_id,
        listed: 0,
        ours: 0,
        foreign: 0,
        held: listing.held.len(),
        findings: Vec::new(),
        stopped: Vec::new(),
        fault: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_mishaps_half_are_not_and_a_hundred_never_are() {
        assert!(!is_implausible(10, 10) && !is_implausible(11, 22) && !is_implausible(100, 1_000));
        assert!(is_implausible(11, 21) && is_implausible(84, 150) && is_implausible(101, 1_000_000));
    }
}
