//! The steps of recovery after a process died: what it left in flight is settled, and what is owed is cleaned up.

use lease_events::lease::event::{LeaseCleanupSucceeded, LeaseEffectUnknown, LeaseReleaseRequested};
use lease_events::lease::vocabulary::{Effect, LeaseStatus, NextActionKind, Reason};
use lease_events::lease::{LeaseEvent, LeaseState};

use super::machine::{Machine, fault, receipt};
use super::steps::{decided, receipt_of, unheard};
use super::world::{Answer, Claim, Kind, LEASES, Luck, NOW, Program, Step, World};
use crate::commands::acquire::reuse::{Judgement, declined};
use crate::commands::acquire::{acquire_failed, is_awaited, provider_acquired};
use crate::commands::cleanup::is_owed;
use crate::commands::owe;
use crate::commands::release::is_ending;
use crate::commands::settle::claim::{given_back as returned, is_stray};

impl Machine {
    /// Whether something of the lease is in flight that recovery settles.
    pub(super) fn is_to_settle(state: &LeaseState) -> bool {
        let next = state.next_action.as_ref().map(|next| next.action);
        matches!(next, Some(NextActionKind::SettleAcquire | NextActionKind::FinishRelease))
    }

    /// Whether what the lease keeps was claimed by one that will never take it over.
    pub(super) fn is_stray_claim(&self, world: &World, lease: u8) -> bool {
        let Some(state) = self.lease(world, lease).filter(|state| state.is_claimed_away()) else { return false };
        let claimant = state.claimed_by.and_then(|by| self.lease(world, self.number(by)));
        claimant.is_some_and(|claimant| is_stray(&claimant, state.lease_id))
    }

    pub(super) fn settling_step(&mut self, world: &mut World, program: &mut Program, luck: Luck) -> bool {
        match program.next {
            Step::Load => self.load(world, program),
            Step::Ask => self.take_over(world, program),
            Step::FindClaim => self.find_claim(world, program),
            Step::Mark => self.mark(world, program),
            Step::GiveUp => {
                self.append_own(world, program, Step::Over, |_, state| given_up(state)) && program.next == Step::GiveUp
            }
            Step::Return { by } => {
                let by = self.leases[usize::from(by)];
                self.append_own(world, program, Step::Over, |_, state| returned(state, by))
                    && program.next != Step::Over
            }
            Step::Clean => {
                let sandbox = Self::sandbox(&self.loaded(program)).expect("it holds one");
                program.next = Step::Cleaned { answer: self.end(world, sandbox, false, luck) };
                true
            }
            Step::Cleaned { answer } => self.cleaned(world, program, answer),
            other => unreachable!("{other:?} is a step of the commands"),
        }
    }

    fn load(&mut self, world: &World, program: &mut Program) -> bool {
        program.session = world.streams[usize::from(program.lease)];
        let Some(state) = self.lease(world, program.lease) else { return false };
        let next = match program.kind {
            Kind::Acquire | Kind::Release | Kind::Destroy => Some(Step::Ask),
            Kind::Clean => is_owed(&state).then_some(Step::Clean),
            Kind::Return => {
                let by = self.is_stray_claim(world, program.lease).then_some(state.claimed_by).flatten();
                by.map(|by| Step::Return { by: self.number(by) })
            }
            Kind::Settle if !Self::is_to_settle(&state) => None,
            Kind::Settle if state.provider_lease.is_some() => is_ending(&state).then_some(Step::Ask),
            Kind::Settle if state.status == LeaseStatus::EffectUnknown => Some(self.recipe(world, &state)),
            Kind::Settle => Some(Step::FindClaim),
        };
        let Some(next) = next else { return false };
        program.next = next;
        true
    }

    /// Makes the release that somebody asked for this process's own.
    fn take_over(&mut self, world: &mut World, program: &mut Program) -> bool {
        let here = program.next;
        let again = self.append_own(world, program, Step::End, |_, state| match &state.release {
            Some(asked) if is_ending(state) => vec![
                LeaseReleaseRequested {
                    status: asked.status,
                    teardown: asked.teardown,
                    reason: asked.reason,
                    note: None,
                    owner: "model".to_owned(),
                    settle_at: NOW,
                }
                .into(),
            ],
            _ => Vec::new(),
        });
        again && (program.next == here || is_ending(&self.loaded(program)))
    }

    /// A claim without a decision: the process died between the two.
    fn find_claim(&mut self, world: &mut World, program: &mut Program) -> bool {
        let claimed =
            self.loaded(program).resuming_from.is_none().then(|| self.claim_of(world, program.lease)).flatten();
        let Some(claim) = claimed else {
            program.next = Step::Mark;
            return true;
        };
        let chosen = self.leases[usize::from(claim.on)];
        let history = self.streams.history(world.streams[usize::from(program.lease)]);
        if let Some((verdict, fault)) = declined(&history, chosen) {
            program.next = Step::Mark;
            return self.hand_back(world, program.lease, claim.on, verdict, &fault);
        }
        self.append_own(world, program, Step::Mark, |_, state| {
            let is_open = matches!(state.status, LeaseStatus::Requested | LeaseStatus::Releasing);
            let is_undecided = is_open && state.provider_lease.is_none() && state.resuming_from.is_none();
            if is_undecided { vec![decided(Some(chosen))] } else { Vec::new() }
        })
    }

    /// The lease whose sandbox `by` has claimed and not given back.
    fn claim_of(&self, world: &World, by: u8) -> Option<Claim> {
        (0..LEASES).find_map(|on| {
            let seen = world.streams[on];
            let state = self.streams.state(seen)?;
            let is_claimed = state.claimed_by == Some(self.leases[usize::from(by)]) && state.is_claimed_away();
            is_claimed.then(|| Claim { on: u8::try_from(on).expect("there are few"), seen })
        })
    }

    fn mark(&mut self, world: &mut World, program: &mut Program) -> bool {
        let here = program.next;
        let marked = self.append_own(world, program, Step::Over, |_, state| {
            if state.provider_lease.is_some() || state.in_flight.is_none() || state.status == LeaseStatus::EffectUnknown
            {
                return Vec::new();
            }
            let effect = if state.resuming_from.is_some() { Effect::Resume } else { Effect::Acquire };
            vec![
                LeaseEffectUnknown {
                    effect,
                    fault: fault(),
                    settle_by: "recovery".to_owned(),
                    settle_at: NOW,
                    owner: None,
                }
                .into(),
            ]
        });
        if !marked || program.next == here {
            return marked;
        }
        let state = self.loaded(program);
        if state.status != LeaseStatus::EffectUnknown || state.provider_lease.is_some() {
            return false;
        }
        program.next = self.recipe(world, &state);
        true
    }

    /// How an unknown acquire is settled: what it claimed is resumed; else the provider is asked again for the same.
    fn recipe(&self, world: &World, state: &LeaseState) -> Step {
        if state.resuming_from.is_none() {
            return Step::Make;
        }
        let by = self.number(state.lease_id);
        self.claim_of(world, by).map_or(Step::GiveUp, |claim| Step::Resume { claim })
    }

    /// What came of a settling resume or acquire.
    pub(super) fn settle(&mut self, world: &mut World, program: &mut Program) -> bool {
        let here = program.next;
        let event: LeaseEvent = match here {
            // Nothing was learnt: it stays unknown, and is tried again.
            Step::Made { answer: Answer::NotDone | Answer::Lost } | Step::Resumed { answer: Answer::NotDone, .. } => {
                return false;
            }
            Step::Resumed { claim, answer } => match self.judged(program, claim, answer) {
                Judgement::Resumed(event) => event.into(),
                Judgement::NotResumed { .. } => {
                    // First on this lease's own stream; what was claimed goes back only where that was not overtaken.
                    let then = Step::GiveBack { claim, answer };
                    let before = world.streams[usize::from(program.lease)];
                    return self.append_own(world, program, then, |_, state| given_up(state))
                        && (program.next == here || program.session != before);
                }
            },
            _ => provider_acquired(&Self::acquired(program.lease)),
        };
        let stored = self.append_own(world, program, Step::Over, |_, state| {
            if state.provider_lease.is_some() { Vec::new() } else { vec![event] }
        });
        stored && self.end_if_asked(program, here)
    }

    fn cleaned(&mut self, world: &mut World, program: &mut Program, answer: Answer) -> bool {
        let here = program.next;
        let stored = self.append_own(world, program, Step::Over, |context, state| match receipt_of(answer) {
            _ if !is_owed(state) => Vec::new(),
            Some(what) => vec![LeaseCleanupSucceeded { receipt: receipt(state, what) }.into()],
            None => owe::failed(context, state, &unheard()),
        });
        stored && program.next == here
    }
}

/// Nothing of an acquire is at the provider.
fn given_up(state: &LeaseState) -> Vec<LeaseEvent> {
    if is_awaited(state) { vec![acquire_failed(Reason::RecoverySettled, Some(&fault()))] } else { Vec::new() }
}
