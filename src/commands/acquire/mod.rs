//! Acquire: the one command that makes something that can leak. The sequence, with its numbered durable steps:
//!
//! 1. `lease-requested` on the new lease's stream: the intent. From here on the lease can be found, whatever dies.
//! 2. Reuse only: `lease-reuse-claimed` on the stream of the lease that gives up its sandbox. The append with the
//!    expected revision is what makes the claim exclusive.
//! 3. Reuse only: `lease-reuse-decided`: what was looked at, what was taken, and why.
//! 4. The driver resumes or acquires, then `lease-resumed` or `lease-provider-acquired` (or `lease-acquire-failed`,
//!    or `lease-effect-unknown`): the outcome, durable before the caller hears of it.
//!
//! A release may arrive between any two steps. It is found on the stream at the next append, and wins: the
//! acquire records what the provider gave, and releases it at once.

mod decide;
mod fingerprint;
pub(in crate::commands) mod reuse;
mod slot;

pub(crate) use fingerprint::{canonical, sha256_hex};

use chrono::{DateTime, Utc};
use lease_events::environment::EnvironmentState;
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{
    LeaseAcquireFailed, LeaseEffectUnknown, LeaseEvent, LeaseProviderAcquired, LeaseRequested,
};
use lease_events::lease::vocabulary::{Effect, LeaseStatus, Reason, Verdict};
use lease_events::seam::crash::Step;
use serde::{Deserialize, Serialize};

use super::caller::Command;
use super::effect::{scope, settle_at, within};
use super::error::CommandError;
use super::release::finish;
use super::release_run::check_not_released;
use super::session::LeaseSession;
use super::{Context, effect, environment};
use crate::drivers::{Acquired, DriverTraits, EnvironmentDriver, LeasePlan, Outcome, PlanRequest};

/// The first fencing token of a provider lease.
pub(crate) const FIRST_TOKEN: u64 = 1;

/// What is asked (B1).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AcquireRequest {
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The run that will own it; without one the acquire is ad hoc.
    pub run_id: Option<RunId>,
    /// The issue that the run works on.
    pub issue_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// How the workspace is used.
    pub execution_workspace_mode: Option<String>,
    /// The kind of agent adapter.
    pub adapter_type: Option<String>,
    /// When the caller wants it to end.
    pub requested_expires_at: Option<DateTime<Utc>>,
}

/// How a lease came to its provider lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcquiredHow {
    /// A new one was made.
    Fresh,
    /// One that another lease left was resumed.
    Reused,
    /// The run held it already (B15).
    Held,
}

/// The answer (B1).
#[derive(Debug, Clone, PartialEq)]
pub struct AcquireAnswer {
    /// The environment as it was decided on.
    pub environment: EnvironmentState,
    /// The lease, active.
    pub lease: LeaseState,
    /// How it came to its provider lease.
    pub how: AcquiredHow,
}

/// An acquire under way: what was decided, and the stream that it is written to.
struct Acquisition<'a> {
    context: &'a Context,
    command: &'a Command,
    session: LeaseSession<'a>,
    driver: &'a dyn EnvironmentDriver,
    traits: DriverTraits,
    plan: LeasePlan,
}

/// Acquires a lease.
pub async fn acquire(
    context: &Context,
    command: &Command,
    request: &AcquireRequest,
) -> Result<AcquireAnswer, CommandError> {
    decide::check_request(request, context.clock.now())?;
    let environment = environment::load_in(context, request.environment_id, request.company_id).await?;
    decide::check_environment(&environment)?;
    let driver = effect::driver(context, &environment.driver)?;
    let plan = driver.plan(&PlanRequest {
        config: &environment.config,
        has_run: request.run_id.is_some(),
        has_execution_workspace: request.execution_workspace_id.is_some(),
    })?;
    let fingerprint = fingerprint::of(request, &environment, &plan);
    let slot = slot::find(context, command, request.run_id, fingerprint.as_deref()).await?;
    let (session, generation, _held) = match slot {
        slot::Slot::Taken(lease) => {
            return Ok(AcquireAnswer { environment, lease: *lease, how: AcquiredHow::Held });
        }
        slot::Slot::Repeated(lease) => return repeated(environment, *lease),
        slot::Slot::Free { session, generation, held } => (session, generation, held),
    };
    if let Some(run_id) = request.run_id {
        check_not_released(context, run_id).await?;
    }
    let traits = driver.traits(&plan.config);
    // A resume that fails may have taken all its time before the fresh acquire begins.
    let calls = if plan.may_take_over { 2 } else { 1 };
    let facts = decide::Facts {
        ledger_id: context.ledger_id,
        lease_id: session.lease_id(),
        generation,
        owner: context.owner.clone(),
        now: context.clock.now(),
        settle_at: settle_at(context, traits.call_timeout * calls),
    };
    let requested = decide::requested(request, &environment, &plan, fingerprint, facts);
    let mut acquisition = Acquisition { context, command, session, driver: driver.as_ref(), traits, plan };
    let how = acquisition.run(request, requested).await?;
    let lease = acquisition.session.into_state()?;
    Ok(AcquireAnswer { environment, lease, how })
}

impl Acquisition<'_> {
    async fn run(&mut self, request: &AcquireRequest, requested: LeaseRequested) -> Result<AcquiredHow, CommandError> {
        let company = request.company_id;
        if self.traits.effect_free {
            // Nothing to crash in: intent and outcome are one append.
            let outcome = self.call_acquire(&requested).await;
            let events = match &outcome {
                Outcome::Done(acquired) => vec![requested.into(), provider_acquired(acquired)],
                Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => {
                    vec![requested.into(), acquire_failed(Reason::ProviderRefused, Some(fault))]
                }
            };
            self.context.step(Step::AcquireIntent, self.session.append(company, &events)).await?;
            self.stop_if_released(request.run_id).await?;
            return self.answer_fresh(outcome);
        }
        // What is looked at before the intent is a hint; who is claimed is decided after it.
        let candidates = reuse::candidates(self.context, &self.plan, &requested).await?;
        let mut events = vec![LeaseEvent::from(requested.clone())];
        let claims_nothing = candidates.to_claim.is_empty();
        if self.plan.may_take_over && claims_nothing {
            events.push(candidates.decided(None).into());
        }
        self.context.step(Step::AcquireIntent, self.session.append(company, &events)).await?;
        self.stop_if_released(request.run_id).await?;

        if self.plan.may_take_over && !claims_nothing && self.take_over(candidates).await? {
            return Ok(AcquiredHow::Reused);
        }
        self.stop_if_taken_over()?;
        self.stop_if_late()?;
        let outcome = self.call_acquire(&requested).await;
        self.record_fresh(&outcome).await?;
        self.stop_if_ending().await?;
        self.answer_fresh(outcome)
    }

    async fn call_acquire(&self, requested: &LeaseRequested) -> Outcome<Acquired> {
        let scope = decide::scope_of(requested, FIRST_TOKEN);
        let call = within(self.traits.call_timeout, self.driver.acquire(&scope, requested.requested_expires_at));
        self.context.step(Step::AcquireEffect, call).await
    }

    /// Steps 2 to 4 of a reuse. Answers whether the lease holds what it took over; where not, a fresh one is to be
    /// acquired.
    async fn take_over(&mut self, mut candidates: reuse::Candidates) -> Result<bool, CommandError> {
        let lease_id = self.session.lease_id();
        let run_id = self.session.state()?.run_id;
        let claim = reuse::claim(self.context, self.command, &mut candidates, lease_id, run_id);
        let claimed = self.context.step(Step::AcquireClaim, claim).await?;
        let decided = candidates.decided(claimed.as_ref().map(|claimed| claimed.lease_id));
        let decided = self.record_decision(&[decided.into()]).await;
        let Some(claimed) = claimed else { return decided.map(|()| false) };
        if let Err(CommandError::OutcomeUnknown { fault, .. }) = &decided
            && !knows_of(self.session.state()?, claimed.lease_id)
        {
            // Recovery settles this lease and does not know of the claim, which came too late.
            let verdict = Verdict::ResumeFailed;
            reuse::give_back(self.context, self.command, claimed.lease_id, lease_id, verdict, fault).await?;
        }
        decided?;
        self.stop_if_late()?;

        let state = self.session.state()?;
        let scope = scope(state, claimed.next_token, 1);
        let call = within(self.traits.call_timeout, self.driver.resume(&scope, &claimed.held));
        let outcome = self.context.step(Step::AcquireResume, call).await;
        match reuse::judge(&claimed, outcome) {
            reuse::Judgement::Resumed(event) => {
                self.record_outcome(|state| {
                    // Recovery gave up waiting, and has settled it.
                    let is_settled = state.provider_lease.is_some() || state.resuming_from != Some(claimed.lease_id);
                    if is_settled { Vec::new() } else { vec![event.clone().into()] }
                })
                .await?;
                self.stop_if_ending().await?;
                self.stop_unless_active()?;
                Ok(true)
            }
            reuse::Judgement::NotResumed { verdict, fault } => {
                let fails = verdict == Verdict::ResumeFailed
                    && self.plan.on_resume_failure == crate::drivers::OnResumeFailure::Fail;
                let mut events = vec![candidates.not_resumed(claimed.lease_id, verdict, &fault).into()];
                if fails {
                    events.push(acquire_failed(Reason::ResumeFailed, Some(&fault)));
                }
                // Decided on this lease's own stream first: where recovery has taken it over, it resumes what was claimed,
                // and it alone. A crash between the two is found by the claim.
                self.record_decision(&events).await?;
                let give_back =
                    reuse::give_back(self.context, self.command, claimed.lease_id, lease_id, verdict, &fault);
                self.context.step(Step::AcquireGiveBack, give_back).await?;
                if fails {
                    return Err(CommandError::Provider { lease_id, effect: Effect::Resume, fault });
                }
                Ok(false)
            }
        }
    }

    /// Step 4 of a fresh acquire.
    async fn record_fresh(&mut self, outcome: &Outcome<Acquired>) -> Result<(), CommandError> {
        let event = match outcome {
            Outcome::Done(acquired) => provider_acquired(acquired),
            Outcome::NotDone(fault) => acquire_failed(Reason::ProviderFailed, Some(fault)),
            Outcome::Refused(fault) => acquire_failed(Reason::ProviderRefused, Some(fault)),
            Outcome::Unknown(fault) => {
                let delay = chrono::TimeDelta::from_std(self.traits.visibility_delay).unwrap_or_default();
                LeaseEffectUnknown {
                    effect: Effect::Acquire,
                    fault: fault.clone(),
                    settle_by: recipe(&self.traits).to_owned(),
                    settle_at: self.context.clock.now() + delay,
                    owner: None,
                }
                .into()
            }
        };
        let is_acquired = matches!(outcome, Outcome::Done(_));
        self.record_outcome(|state| {
            // Recovery may be at it meanwhile, and asks for what this call did not give. What the provider gave to a lease
            // that is over is recorded all the same: its cleanup is owed.
            let is_known = state.provider_lease.is_some() || (!is_acquired && !is_mine(state));
            if is_known { Vec::new() } else { vec![event.clone()] }
        })
        .await
    }

    /// Step 3, and 3 again where the resume failed: what was decided, unless recovery has taken the lease over because
    /// this acquire took too long.
    async fn record_decision(&mut self, decided: &[LeaseEvent]) -> Result<(), CommandError> {
        let before = self.session.written();
        let record = self.session.append_outcome(|state| if is_mine(state) { decided.to_vec() } else { Vec::new() });
        self.context.step(Step::AcquireDecision, record).await?;
        if self.session.written() > before { Ok(()) } else { Err(self.taken_over()) }
    }

    async fn record_outcome(
        &mut self,
        outcome: impl FnMut(&LeaseState) -> Vec<LeaseEvent>,
    ) -> Result<(), CommandError> {
        self.context.step(Step::AcquireOutcome, self.session.append_outcome(outcome)).await
    }

    /// Behind an append that recovery may have overtaken, because this acquire took too long: no effect is begun any
    /// more for a lease that is being settled, or is over.
    fn stop_if_taken_over(&self) -> Result<(), CommandError> {
        let state = self.session.state()?;
        let is_under_way = matches!(state.status, LeaseStatus::Requested | LeaseStatus::Releasing);
        if is_under_way { Ok(()) } else { Err(self.taken_over()) }
    }

    /// Before a call that could outlast the lease's deadline: by then recovery is at the lease, and does what this call
    /// would.
    fn stop_if_late(&self) -> Result<(), CommandError> {
        let deadline = self.session.state()?.in_flight.as_ref().map(|in_flight| in_flight.settle_at);
        let limit = chrono::TimeDelta::from_std(self.traits.call_timeout).unwrap_or(chrono::TimeDelta::MAX);
        let is_late = deadline.is_some_and(|deadline| deadline - self.context.clock.now() < limit);
        if is_late { Err(self.taken_over()) } else { Ok(()) }
    }

    fn taken_over(&self) -> CommandError {
        let fault = Fault::new("taken-over", "it took too long, and recovery settles it");
        CommandError::OutcomeUnknown { lease_id: self.session.lease_id(), effect: Effect::Acquire, fault }
    }

    fn stop_unless_active(&self) -> Result<(), CommandError> {
        let state = self.session.state()?;
        match state.status {
            LeaseStatus::Active => Ok(()),
            _ => Err(CommandError::AcquireCancelled { lease_id: state.lease_id }),
        }
    }

    fn answer_fresh(&self, outcome: Outcome<Acquired>) -> Result<AcquiredHow, CommandError> {
        let lease_id = self.session.lease_id();
        // Recovery may have found by itself what this acquire did not hear of.
        if self.session.state()?.status == LeaseStatus::Active {
            return Ok(AcquiredHow::Fresh);
        }
        match outcome {
            Outcome::NotDone(_) | Outcome::Refused(_) if is_awaited(self.session.state()?) => Err(self.taken_over()),
            Outcome::Done(_) => Err(CommandError::AcquireCancelled { lease_id }),
            Outcome::NotDone(fault) | Outcome::Refused(fault) => {
                Err(CommandError::Provider { lease_id, effect: Effect::Acquire, fault })
            }
            Outcome::Unknown(fault) => Err(CommandError::OutcomeUnknown { lease_id, effect: Effect::Acquire, fault }),
        }
    }

    /// Behind the intent: a run that was released meanwhile acquires nothing. Its release may have looked for the
    /// run's leases before this one was there.
    async fn stop_if_released(&mut self, run_id: Option<RunId>) -> Result<(), CommandError> {
        if let Some(run_id) = run_id
            && let Err(error) = check_not_released(self.context, run_id).await
        {
            if self.session.state()?.provider_lease.is_none() {
                let cancelled = acquire_failed(Reason::AcquireCancelled, None);
                self.session
                    .decide(|state| Ok(if state.status.is_open() { vec![cancelled.clone()] } else { Vec::new() }))
                    .await?;
            } else {
                let wanted = super::release::ReleaseRequest {
                    company_id: None,
                    lease_id: self.session.lease_id(),
                    authority: Some(super::authority::Authority::Run),
                    if_revision: None,
                    status: lease_events::lease::vocabulary::ReleaseStatus::Released,
                };
                let follow_up = self.command.follow_up("release what a released run acquired");
                // Effect-free drivers only: one append, and no lock that this acquire could be holding.
                super::release::release(self.context, &follow_up, &wanted).await?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Behind the outcome: a release that was asked for meanwhile is run now, by whoever holds the lease's lock.
    async fn stop_if_ending(&mut self) -> Result<(), CommandError> {
        let lease_id = self.session.lease_id();
        if self.session.state()?.status == LeaseStatus::Active {
            return Ok(());
        }
        finish(self.context, &mut self.session).await?;
        match self.session.state()?.status {
            // What the driver said of a failed or unknown acquire is the better answer.
            LeaseStatus::Active | LeaseStatus::Failed | LeaseStatus::EffectUnknown => Ok(()),
            _ => Err(CommandError::AcquireCancelled { lease_id }),
        }
    }
}

/// Whether an acquire may still decide: it has no outcome, and recovery has not taken it over. Pure.
pub(super) fn is_mine(state: &LeaseState) -> bool {
    is_awaited(state) && state.status != LeaseStatus::EffectUnknown
}

/// Whether recovery, which has taken a lease over, knows that it claimed what `claimed` kept: it resumes it, or has. Pure.
pub(super) fn knows_of(state: &LeaseState, claimed: LeaseId) -> bool {
    state.resuming_from == Some(claimed) || state.resumed_from == Some(claimed)
}

/// Whether an acquire still has no outcome. Pure.
pub(super) fn is_awaited(state: &LeaseState) -> bool {
    state.status.is_open() && state.provider_lease.is_none()
}

pub(super) fn provider_acquired(acquired: &Acquired) -> LeaseEvent {
    LeaseProviderAcquired {
        provider_lease_id: acquired.provider_lease_id.clone(),
        metadata: acquired.metadata.clone(),
        expires_at: acquired.expires_at,
        fencing_token: FIRST_TOKEN,
    }
    .into()
}

pub(super) fn acquire_failed(reason: Reason, fault: Option<&Fault>) -> LeaseEvent {
    LeaseAcquireFailed { reason, fault: fault.cloned() }.into()
}

/// How a driver with these traits settles an acquire whose outcome is unknown, in words.
pub(super) fn recipe(traits: &DriverTraits) -> &'static str {
    if traits.idempotent_acquire {
        "asking the provider again under the same lease id"
    } else if traits.can_list {
        "looking for the lease's label in the provider's listing"
    } else {
        "an operator, since the provider cannot tell"
    }
}

/// The answer to a command that was run before: what the stream says became of it.
fn repeated(environment: EnvironmentState, lease: LeaseState) -> Result<AcquireAnswer, CommandError> {
    let (lease_id, effect) = (lease.lease_id, Effect::Acquire);
    let fault = lease
        .last_fault
        .clone()
        .unwrap_or_else(|| Fault::new("not-settled", "its acquire was broken off and is not settled yet"));
    match lease.status {
        LeaseStatus::Requested | LeaseStatus::EffectUnknown => {
            Err(CommandError::OutcomeUnknown { lease_id, effect, fault })
        }
        _ if lease.acquired_at.is_some() => {
            let how = if lease.resumed_from.is_some() { AcquiredHow::Reused } else { AcquiredHow::Fresh };
            Ok(AcquireAnswer { environment, lease, how })
        }
        LeaseStatus::Failed => Err(CommandError::Provider { lease_id, effect, fault }),
        _ => Err(CommandError::AcquireCancelled { lease_id }),
    }
}
