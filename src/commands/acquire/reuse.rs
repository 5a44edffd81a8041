//! Reuse: which kept sandboxes an acquire looks at, the claim that only one can win, and what becomes of a claim
//! whose resume did not work (B13–B16).

use lease_events::failure::Fault;
use lease_events::id::{LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{
    Candidate, LeaseEvent, LeaseReleased, LeaseRequested, LeaseResumed, LeaseReuseClaimed, LeaseReuseDecided,
};
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, Reason, Verdict};
use lease_events::store::AppendError;
use lease_projections::reusable_leases::ReusableLease;

use super::fingerprint::differing_keys;
use crate::commands::Context;
use crate::commands::caller::Command;
use crate::commands::effect::held;
use crate::commands::error::CommandError;
use crate::commands::resume::{gone, is_same, resumed};
use crate::commands::session::LeaseSession;
use crate::drivers::{Held, LeasePlan, Outcome, Resumed};

/// How many candidates one acquire tries to claim. Who loses them all acquires a fresh one.
const CANDIDATES_MAX: usize = 8;
/// How many near misses a decision without a candidate names, so that people see why nothing was reused.
const NEAR_MISSES_MAX: usize = 3;

/// What an acquire looks at, and what it has found so far.
pub(in crate::commands) struct Candidates {
    /// Leases to try to claim, best first.
    pub(in crate::commands) to_claim: Vec<LeaseId>,
    fingerprint: String,
    seen: Vec<Candidate>,
}

/// A sandbox that this acquire alone may resume.
pub(in crate::commands) struct Claimed {
    /// The lease that gave it up.
    pub(in crate::commands) lease_id: LeaseId,
    /// What it held.
    pub(in crate::commands) held: Held,
    /// The token to resume it under.
    pub(in crate::commands) next_token: u64,
}

/// How a resume is to be taken.
pub(in crate::commands) enum Judgement {
    /// It is the same sandbox, and this lease's now.
    Resumed(LeaseResumed),
    /// It is not: gone, another one, or simply not resumed.
    NotResumed { verdict: Verdict, fault: Fault },
}

impl Candidates {
    /// The decision as it stands.
    pub(in crate::commands) fn decided(&self, chosen: Option<LeaseId>) -> LeaseReuseDecided {
        LeaseReuseDecided { candidates: self.seen.clone(), chosen }
    }

    /// The decision after the chosen one could not be resumed: a fresh one, or none.
    pub(in crate::commands) fn not_resumed(
        &mut self,
        lease_id: LeaseId,
        verdict: Verdict,
        fault: &Fault,
    ) -> LeaseReuseDecided {
        for candidate in self.seen.iter_mut().filter(|candidate| candidate.lease_id == lease_id) {
            candidate.verdict = verdict;
            candidate.detail = Some(fault.message.clone());
        }
        self.decided(None)
    }

    fn saw(&mut self, lease_id: LeaseId, provider_lease_id: Option<&str>, verdict: Verdict, detail: Option<String>) {
        let provider_lease_id = provider_lease_id.map(str::to_owned);
        self.seen.push(Candidate { lease_id, provider_lease_id, verdict, detail });
    }
}

/// What the projection suggests: an index look-up by fingerprint, whose cost does not grow with history.
pub(in crate::commands) async fn candidates(
    context: &Context,
    plan: &LeasePlan,
    requested: &LeaseRequested,
) -> Result<Candidates, CommandError> {
    let fingerprint = requested.reuse_fingerprint.clone().unwrap_or_default();
    let mut candidates = Candidates { to_claim: Vec::new(), fingerprint, seen: Vec::new() };
    if !plan.may_take_over {
        return Ok(candidates);
    }
    let found = context.read_model.reusable(&candidates.fingerprint, CANDIDATES_MAX).await?;
    candidates.to_claim = found.iter().map(|reusable| reusable.lease_id).collect();
    if found.is_empty() {
        let near = context.read_model.reusable_in_environment(requested.environment_id, NEAR_MISSES_MAX).await?;
        for reusable in near {
            let detail = difference(requested, &reusable);
            candidates.saw(
                reusable.lease_id,
                Some(&reusable.provider_lease_id),
                Verdict::FingerprintDiffers,
                Some(detail),
            );
        }
    }
    Ok(candidates)
}

fn difference(requested: &LeaseRequested, reusable: &ReusableLease) -> String {
    let mut keys = differing_keys(&requested.config, &reusable.config);
    let others = [
        ("policy", requested.policy != reusable.policy),
        ("executionWorkspaceId", requested.execution_workspace_id != reusable.execution_workspace_id),
        ("agentId", requested.agent_id != reusable.agent_id),
        ("adapterType", requested.adapter_type != reusable.adapter_type),
    ];
    keys.extend(others.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()));
    format!("differs in {}", keys.join(", "))
}

/// Claims the first candidate that nobody else gets (step 2). Decided on each candidate's own stream, never on the
/// projection.
pub(in crate::commands) async fn claim(
    context: &Context,
    command: &Command,
    candidates: &mut Candidates,
    by_lease_id: LeaseId,
    by_run_id: Option<RunId>,
) -> Result<Option<Claimed>, CommandError> {
    let Some(by_run_id) = by_run_id else { return Ok(None) };
    for lease_id in std::mem::take(&mut candidates.to_claim) {
        let mut session = LeaseSession::load(context, command, lease_id).await?;
        let Some(state) = session.get().cloned() else {
            candidates.saw(lease_id, None, Verdict::NotAvailable, Some("it has no history".to_owned()));
            continue;
        };
        let provider_lease_id = state.provider_lease_id().map(str::to_owned);
        let claim = match claim_on(&state, &candidates.fingerprint, by_lease_id, by_run_id) {
            Ok(claim) => claim,
            Err((verdict, detail)) => {
                candidates.saw(lease_id, provider_lease_id.as_deref(), verdict, Some(detail));
                continue;
            }
        };
        let next_token = claim.next_fencing_token;
        match session.append(state.company_id, &[claim.into()]).await {
            Ok(()) => {
                candidates.saw(lease_id, provider_lease_id.as_deref(), Verdict::Taken, None);
                return Ok(Some(Claimed { lease_id, held: held(&state), next_token }));
            }
            Err(AppendError::WrongExpectedRevision { .. }) => {
                candidates.saw(lease_id, provider_lease_id.as_deref(), Verdict::LostClaim, None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The claim on what `state` keeps, or why there can be none. Pure; whose it is, the append decides.
pub(in crate::commands) fn claim_on(
    state: &LeaseState,
    fingerprint: &str,
    by_lease_id: LeaseId,
    by_run_id: RunId,
) -> Result<LeaseReuseClaimed, (Verdict, String)> {
    match obstacle(state, fingerprint) {
        Some(obstacle) => Err(obstacle),
        None => Ok(LeaseReuseClaimed {
            by_lease_id,
            by_run_id,
            provider_lease_id: state.provider_lease_id().unwrap_or_default().to_owned(),
            next_fencing_token: state.fencing_token().unwrap_or_default() + 1,
        }),
    }
}

fn obstacle(state: &LeaseState, fingerprint: &str) -> Option<(Verdict, String)> {
    if let Some(by) = state.claimed_by {
        return Some((Verdict::LostClaim, format!("lease {by} claimed it first")));
    }
    if !state.is_reusable() {
        return Some((Verdict::NotAvailable, format!("it is {}, and keeps nothing that may be reused", state.status)));
    }
    (state.reuse_fingerprint.as_deref() != Some(fingerprint))
        .then(|| (Verdict::FingerprintDiffers, "its fingerprint is another one".to_owned()))
}

/// How the resume of a claimed sandbox is to be taken. Only what is provably the same sandbox is trusted (B16).
pub(in crate::commands) fn judge(claimed: &Claimed, outcome: Outcome<Resumed>) -> Judgement {
    match outcome {
        Outcome::Done(Resumed::Same(now_held)) if is_same(&claimed.held, &now_held) => {
            Judgement::Resumed(resumed(now_held, claimed.next_token, Some(claimed.lease_id)))
        }
        Outcome::Done(Resumed::Same(_)) => Judgement::NotResumed {
            verdict: Verdict::IdentityChanged,
            fault: Fault::new("identity-changed", "what was resumed is not the sandbox that was left"),
        },
        Outcome::Done(Resumed::Gone) => Judgement::NotResumed {
            verdict: Verdict::Gone,
            fault: Fault::new("gone", "the provider has nothing of it any more"),
        },
        Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => {
            Judgement::NotResumed { verdict: Verdict::ResumeFailed, fault }
        }
    }
}

/// Records on the stream of the lease that gave it up what became of the claimed sandbox: gone, or kept for
/// inspection in its own name again, since it may hold somebody's work (B16).
pub(in crate::commands) async fn give_back(
    context: &Context,
    command: &Command,
    claimed: LeaseId,
    by_lease_id: LeaseId,
    verdict: Verdict,
    fault: &Fault,
) -> Result<(), CommandError> {
    let follow_up = command.follow_up("settle the claim");
    let mut session = LeaseSession::load(context, &follow_up, claimed).await?;
    session.append_outcome(|state| given_back(state, by_lease_id, verdict, fault)).await
}

/// Why a lease did not resume what it had claimed of `claimed`, as its own events have it; `None` where they do not say so.
/// Pure.
pub(in crate::commands) fn declined(history: &[LeaseEvent], claimed: LeaseId) -> Option<(Verdict, Fault)> {
    let decided = history.iter().filter_map(|event| match event {
        LeaseEvent::ReuseDecided(decided) if decided.chosen.is_none() => Some(decided),
        _ => None,
    });
    let mut declined = decided.flat_map(|decided| &decided.candidates).filter(|candidate| {
        let is_declined = matches!(candidate.verdict, Verdict::ResumeFailed | Verdict::Gone | Verdict::IdentityChanged);
        candidate.lease_id == claimed && is_declined
    });
    let why = |detail: Option<String>| detail.unwrap_or_else(|| "it could not be resumed".to_owned());
    declined.next().map(|candidate| (candidate.verdict, Fault::new("not-resumed", why(candidate.detail.clone()))))
}

/// What is recorded of a sandbox that `by` claimed and did not resume, on the stream of the lease that gave it up;
/// nothing where it went back before. Pure.
pub(in crate::commands) fn given_back(
    state: &LeaseState,
    by: LeaseId,
    verdict: Verdict,
    fault: &Fault,
) -> Vec<LeaseEvent> {
    if !state.is_claimed_away() || state.claimed_by != Some(by) {
        return Vec::new();
    }
    if verdict != Verdict::ResumeFailed {
        return vec![gone(state)];
    }
    let released = LeaseReleased {
        status: LeaseStatus::Retained,
        reason: Reason::TakeOverFailed,
        cleanup_status: Some(CleanupStatus::Pending),
        failure_reason: Some(fault.message.clone()),
        receipt: None,
    };
    vec![released.into()]
}
