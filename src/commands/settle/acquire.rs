//! Settling an acquire: by asking again, by the listing (see [`super::look`]), or by resuming what it had claimed.

use chrono::TimeDelta;
use lease_events::codec::decode;
use lease_events::failure::Fault;
use lease_events::fold::FoldError;
use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_events::lease::event::{Candidate, LeaseEffectUnknown, LeaseEvent, LeaseReuseDecided};
use lease_events::lease::state::ReleaseIntent;
use lease_events::lease::vocabulary::{Effect, LeaseStatus, Reason, ReleaseStatus, Teardown, Verdict};
use lease_events::seam::crash::Step;

use super::{due, intent};
use crate::commands::Context;
use crate::commands::acquire::reuse::{Claimed, Judgement, declined, give_back, judge};
use crate::commands::acquire::{FIRST_TOKEN, acquire_failed, provider_acquired, recipe};
use crate::commands::caller::Command;
use crate::commands::effect::{driver_of, held, scope, settle_at, within};
use crate::commands::error::CommandError;
use crate::commands::owe::{self, Try};
use crate::commands::release::finish;
use crate::commands::release_run::check_not_released;
use crate::commands::session::LeaseSession;
use crate::commands::upkeep::{Did, Upkeep};
use crate::drivers::{Acquired, DriverTraits, EnvironmentDriver, Outcome};
use crate::queries::history::lease_history;

/// How long a look-up of claims waits until the projections have seen what was stored before it.
const PROJECTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// An acquire that is being settled.
pub(super) struct Settling<'a> {
    pub(super) context: &'a Context,
    pub(super) command: &'a Command,
    pub(super) session: LeaseSession<'a>,
    pub(super) because: String,
    /// Whether its time had come, and not only its owner's end.
    pub(super) is_due: bool,
}

impl Settling<'_> {
    pub(super) async fn run(mut self) -> Result<Option<Upkeep>, CommandError> {
        let driver = driver_of(self.context, self.session.state()?).map(std::sync::Arc::clone);
        let traits = match (&driver, self.session.state()) {
            (Ok(driver), Ok(state)) => Some(driver.traits(&state.config)),
            _ => None,
        };
        if self.session.state()?.status != LeaseStatus::EffectUnknown {
            self.decide_claim().await?;
        }
        if !self.mark_unknown(traits.as_ref()).await? {
            return Ok(None);
        }
        let (driver, traits) = match (driver, traits) {
            (Ok(driver), Some(traits)) => (driver, traits),
            (Err(error), _) => return self.try_later(&Try::failed(&Fault::new(error.code(), error.to_string()))).await,
            (Ok(_), None) => return Ok(None),
        };
        let wanted = self.is_wanted().await?;
        if let Some(from) = self.session.state()?.resuming_from {
            return self.resume(driver.as_ref(), &traits, from, wanted).await;
        }
        if traits.idempotent_acquire {
            self.ask_again(driver.as_ref(), &traits, wanted).await
        } else {
            self.look(driver.as_ref(), &traits, wanted).await
        }
    }

    /// A claim without a decision: the process died between the two. The decision that it stands for is stored. One that
    /// was decided against goes back.
    async fn decide_claim(&mut self) -> Result<(), CommandError> {
        let state = self.session.state()?;
        if !state.policy.allows_reuse() || state.resuming_from.is_some() {
            return Ok(());
        }
        let lease_id = state.lease_id;
        let read_model = &self.context.read_model;
        read_model.wait_for(self.context.store.head().await?, PROJECTED_WITHIN).await?;
        for claimed in read_model.claimed_by(lease_id).await? {
            let other = LeaseSession::load(self.context, self.command, claimed).await?;
            let Some(other) = other.get().filter(|other| is_claimed(other, lease_id)) else { continue };
            let history = lease_history(self.context, lease_id, None).await?;
            let history: Vec<_> = history.iter().map(decode).collect::<Result<_, _>>().map_err(FoldError::from)?;
            if let Some((verdict, fault)) = declined(&history, claimed) {
                let back = give_back(self.context, self.command, claimed, lease_id, verdict, &fault);
                self.context.step(Step::SettleGiveBack, back).await?;
                continue;
            }
            let candidate = Candidate {
                lease_id: claimed,
                provider_lease_id: other.provider_lease_id().map(str::to_owned),
                verdict: Verdict::Taken,
                detail: Some("claimed before the acquire was broken off; recovery found the claim".to_owned()),
            };
            let decided = LeaseReuseDecided { candidates: vec![candidate], chosen: Some(claimed) };
            let decision = self.session.decide(|state| {
                let is_open = matches!(state.status, LeaseStatus::Requested | LeaseStatus::Releasing);
                let is_undecided = is_open && state.provider_lease.is_none() && state.resuming_from.is_none();
                Ok(if is_undecided { vec![decided.clone().into()] } else { Vec::new() })
            });
            self.context.step(Step::SettleDecision, decision).await?;
        }
        Ok(())
    }

    /// Stores that the outcome is unknown, and where the provider is to be asked for it again, that this process does;
    /// answers whether it is this command's to settle.
    async fn mark_unknown(&mut self, traits: Option<&DriverTraits>) -> Result<bool, CommandError> {
        let (context, because) = (self.context, self.because.clone());
        let before = self.session.written();
        let mark = self.session.decide(|state| {
            let is_marked = state.status == LeaseStatus::EffectUnknown;
            if state.provider_lease.is_some() || due(context, state).is_none() || (is_marked && !asks(state, traits)) {
                return Ok(Vec::new());
            }
            let resumes = state.resuming_from.is_some();
            let settle_by = match traits {
                _ if resumes => "resuming what it had claimed",
                Some(traits) => recipe(traits),
                None => "its driver, once it is there",
            };
            let now = context.clock.now();
            let settle_at = match traits {
                Some(traits) if asks(state, Some(traits)) => settle_at(context, traits.call_timeout),
                // A listing shows what was made only after a while, and the request may still be on its way until its
                // time is over.
                Some(traits) => {
                    let deadline = state.in_flight.as_ref().map_or(now, |in_flight| in_flight.settle_at);
                    deadline.max(now) + TimeDelta::from_std(traits.visibility_delay).unwrap_or_default()
                }
                None => now,
            };
            let known = state.last_fault.clone().filter(|_| is_marked);
            Ok(vec![
                LeaseEffectUnknown {
                    effect: if resumes { Effect::Resume } else { Effect::Acquire },
                    fault: known.unwrap_or_else(|| Fault::new("no-outcome", because.clone())),
                    settle_by: settle_by.to_owned(),
                    settle_at,
                    owner: asks(state, traits).then(|| context.owner.clone()),
                }
                .into(),
            ])
        });
        context.step(Step::SettleUnknown, mark).await?;
        let state = self.session.state()?;
        let is_mine = !asks(state, traits) || self.session.written() > before;
        Ok(is_mine && is_unsettled(state))
    }

    /// Whether somebody can still want what the acquire was to give.
    pub(super) async fn is_wanted(&self) -> Result<bool, CommandError> {
        let state = self.session.state()?;
        if state.release.is_some() {
            return Ok(false);
        }
        let Some(run_id) = state.run_id else { return Ok(state.expires_at.is_some()) };
        match check_not_released(self.context, run_id).await {
            Ok(()) => Ok(true),
            Err(CommandError::RunReleased { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask_again(
        mut self,
        driver: &dyn EnvironmentDriver,
        traits: &DriverTraits,
        wanted: bool,
    ) -> Result<Option<Upkeep>, CommandError> {
        let state = self.session.state()?;
        let (scope, wanted_end) = (scope(state, FIRST_TOKEN, 1), state.requested_expires_at);
        let effect = within(traits.call_timeout, driver.acquire(&scope, wanted_end));
        let outcome = self.context.step(Step::SettleEffect, effect).await;
        match Try::of(&outcome) {
            Ok(acquired) => self.found(acquired, wanted).await,
            // That it is refused now, or not done now, says nothing of what the first request did.
            Err(_) if traits.can_list => self.look(driver, traits, wanted).await,
            Err(tried) => self.try_later(&tried).await,
        }
    }

    /// What the acquire made is found: the run has it, or it is released.
    pub(super) async fn found(&mut self, acquired: &Acquired, wanted: bool) -> Result<Option<Upkeep>, CommandError> {
        if !wanted {
            self.intend_end(None).await?;
        }
        let event = provider_acquired(acquired);
        self.conclude(event, Did::Adopted).await
    }

    /// Stores what was found, unless somebody else has; where a release was asked for, runs it.
    async fn conclude(&mut self, event: LeaseEvent, adopted: Did) -> Result<Option<Upkeep>, CommandError> {
        let record = self
            .session
            .append_outcome(|state| if state.provider_lease.is_some() { Vec::new() } else { vec![event.clone()] });
        self.context.step(Step::SettleOutcome, record).await?;
        if self.session.state()?.status == LeaseStatus::Active {
            return Ok(Some(Upkeep::new(adopted, self.because.clone())));
        }
        finish(self.context, &mut self.session).await?;
        Ok(Some(Upkeep::new(Did::Finished, format!("{}; nobody wants it any more", self.because))))
    }

    /// Stores that what is found shall end, where nobody has asked for it yet.
    pub(super) async fn intend_end(&mut self, how: Option<ReleaseIntent>) -> Result<(), CommandError> {
        let context = self.context;
        let ask = self.session.decide(|state| {
            let is_asked = state.release.is_some() || state.provider_lease.is_some() || !state.status.is_open();
            Ok(if is_asked { Vec::new() } else { vec![intent(context, state, how.clone()).into()] })
        });
        context.step(Step::SettleIntent, ask).await
    }

    /// Resumes what the acquire had claimed. It is this lease's to end, wanted or not, so that it ends by its policy.
    async fn resume(
        mut self,
        driver: &dyn EnvironmentDriver,
        traits: &DriverTraits,
        from: LeaseId,
        wanted: bool,
    ) -> Result<Option<Upkeep>, CommandError> {
        let state = self.session.state()?.clone();
        let other = LeaseSession::load(self.context, self.command, from).await?;
        let Some(other) = other.get().filter(|other| is_claimed(other, state.lease_id)) else {
            // It went back before the process died.
            return self.give_up(Did::GivenBack, Reason::ResumeFailed).await;
        };
        let next_token = other.fencing_token().unwrap_or_default();
        let claimed = Claimed { lease_id: from, held: held(other), next_token };
        let scope = scope(&state, next_token, 1);
        let effect = within(traits.call_timeout, driver.resume(&scope, &claimed.held));
        let outcome = self.context.step(Step::SettleEffect, effect).await;
        if let Outcome::NotDone(fault) = &outcome
            && !crate::drivers::may_have_reached_provider(fault)
        {
            return self.try_later(&Try::failed(fault)).await;
        }
        match judge(&claimed, outcome) {
            Judgement::Resumed(resumed) => {
                if !wanted {
                    let (status, reason) = (ReleaseStatus::Released, Reason::RecoverySettled);
                    self.intend_end(Some(ReleaseIntent { status, teardown: Teardown::ByPolicy, reason })).await?;
                }
                self.conclude(resumed.into(), Did::Adopted).await
            }
            Judgement::NotResumed { verdict, fault } => {
                self.because = format!("{}; {fault}", self.because);
                let (context, command) = (self.context, self.command);
                // First on this lease's own stream: where its acquire resumed what was claimed after all, it has it.
                let given_up = self.give_up(Did::GivenBack, Reason::ResumeFailed).await?;
                if given_up.is_some() {
                    let back = give_back(context, command, from, state.lease_id, verdict, &fault);
                    context.step(Step::SettleGiveBack, back).await?;
                }
                Ok(given_up)
            }
        }
    }

    /// Nothing of the acquire is at the provider, for certain.
    pub(super) async fn give_up(mut self, did: Did, reason: Reason) -> Result<Option<Upkeep>, CommandError> {
        let before = self.session.written();
        let fault = Fault::new("given-up", format!("{}; nothing of it is there", self.because));
        let record = self.session.append_outcome(|state| {
            let is_awaited = state.status.is_open() && state.provider_lease.is_none();
            let reason = if state.release.is_some() { Reason::AcquireCancelled } else { reason };
            if is_awaited { vec![acquire_failed(reason, Some(&fault))] } else { Vec::new() }
        });
        self.context.step(Step::SettleOutcome, record).await?;
        Ok((self.session.written() > before).then(|| Upkeep::new(did, self.because)))
    }

    /// It could not be found out now.
    pub(super) async fn try_later(mut self, tried: &Try) -> Result<Option<Upkeep>, CommandError> {
        let context = self.context;
        let record = self
            .session
            .append_outcome(|state| if is_unsettled(state) { owe::failed(context, state, tried) } else { Vec::new() });
        context.step(Step::SettleOutcome, record).await?;
        let did = if self.session.state()?.needs_attention { Did::Escalated } else { Did::StillUnknown };
        Ok(Some(Upkeep::new(did, tried.fault.message.clone())))
    }
}

/// Whether settling calls something into being, or to life: two at once would not know what the other has.
fn asks(state: &LeaseState, traits: Option<&DriverTraits>) -> bool {
    traits.is_some_and(|traits| traits.idempotent_acquire || state.resuming_from.is_some())
}

/// Whether `other` was claimed by `by` and has not gone back.
fn is_claimed(other: &LeaseState, by: LeaseId) -> bool {
    other.claimed_by == Some(by) && other.is_claimed_away()
}

/// Whether the outcome of the lease's acquire is still unknown.
pub(super) fn is_unsettled(state: &LeaseState) -> bool {
    state.status == LeaseStatus::EffectUnknown && state.provider_lease.is_none()
}
