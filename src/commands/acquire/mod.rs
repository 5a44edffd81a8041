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
use lease_events::id::{CompanyId, EnvironmentId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{
    LeaseAcquireFailed, LeaseEffectUnknown, LeaseEvent, LeaseProviderAcquired, LeaseRequested, LeaseReuseDecided,
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
    let facts = decide::Facts {
        ledger_id: context.ledger_id,
        lease_id: session.lease_id(),
        generation,
        owner: context.owner.clone(),
        now: context.clock.now(),
        settle_at: settle_at(context, traits.call_timeout),
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
        let decided = self.record_decision(candidates.decided(claimed.as_ref().map(|claimed| claimed.lease_id))).await;
        let Some(claimed) = claimed else { return decided.map(|()| false) };
        if let Err(CommandError::OutcomeUnknown { fault, .. }) = &decided
            && self.session.state()?.resuming_from != Some(claimed.lease_id)
        {
            // Recovery settles this lease and does not know of the claim, which came too late.
            let verdict = Verdict::ResumeFailed;
            reuse::give_back(self.context, self.command, &claimed, lease_id, verdict, fault).await?;
        }
        decided?;

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
                // What was claimed goes back first: a crash between the two is found by this lease's own intent.
                let give_back = reuse::give_back(self.context, self.command, &claimed, lease_id, verdict, &fault);
                self.context.step(Step::AcquireGiveBack, give_back).await?;
                self.record_decision(candidates.not_resumed(claimed.lease_id, verdict, &fault)).await?;
                let fails = verdict == Verdict::ResumeFailed
                    && self.plan.on_resume_failure == crate::drivers::OnResumeFailure::Fail;
                if fails {
                    let failed = acquire_failed(Reason::ResumeFailed, Some(&fault));
                    self.record_outcome(|state| if is_awaited(state) { vec![failed.clone()] } else { Vec::new() })
                        .await?;
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
            // Recovery may have settled it meanwhile. What the provider gave to a lease that is over is recorded all the
            // same: its cleanup is owed.
            let is_known = state.provider_lease.is_some() || (!is_acquired && !is_awaited(state));
            if is_known { Vec::new() } else { vec![event.clone()] }
        })
        .await
    }

    /// Steps 3, and 3 again where the resume failed.
    async fn record_decision(&mut self, decided: LeaseReuseDecided) -> Result<(), CommandError> {
        let is_undecided = |state: &LeaseState| is_awaited(state) && state.status != LeaseStatus::EffectUnknown;
        let record = self
            .session
            .append_outcome(|state| if is_undecided(state) { vec![decided.clone().into()] } else { Vec::new() });
        self.context.step(Step::AcquireDecision, record).await?;
        self.stop_if_taken_over()
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
        if matches!(state.status, LeaseStatus::Requested | LeaseStatus::Releasing) {
            return Ok(());
        }
        let fault = Fault::new("taken-over", "it took too long, and recovery settles it");
        Err(CommandError::OutcomeUnknown { lease_id: state.lease_id, effect: Effect::Acquire, fault })
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

/// Whether the acquire still has no outcome.
fn is_awaited(state: &LeaseState) -> bool {
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
