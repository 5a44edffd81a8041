//! The steps of acquire, release and destroy, in the order of the commands, deciding with the commands' own functions.

use lease_events::lease::LeaseEvent;
use lease_events::lease::event::{LeaseEffectUnknown, LeaseReuseDecided};
use lease_events::lease::evolve::keeps;
use lease_events::lease::vocabulary::{Effect, LeaseStatus, Reason, ReceiptState, ReleaseStatus, Teardown};

use super::machine::{Appended, FINGERPRINT, Machine, fault, receipt};
use super::world::{Answer, Claim, KEPT, Kind, Luck, NOW, Program, Step, World};
use crate::commands::acquire::reuse::{Claimed, Judgement, claim_on, given_back, judge};
use crate::commands::acquire::{acquire_failed, provider_acquired};
use crate::commands::authority::Authority;
use crate::commands::effect::held;
use crate::commands::owe::Try;
use crate::commands::release::{Ending, ReleaseRequest, Wanted, decide, done, failed, is_ending};
use crate::drivers::{Outcome, Resumed};

impl Machine {
    /// Takes the next step of a process; `None` where the command ends with it.
    pub(super) fn step(&mut self, world: &mut World, mut program: Program, luck: Luck) -> Option<Program> {
        self.tell(|| format!("{:?} of lease {}: {:?}, {luck:?}", program.kind, program.lease, program.next));
        let goes_on = match program.next {
            Step::Look => self.look(world, &mut program),
            Step::Intend { candidates } => self.intend(world, &mut program, candidates),
            Step::Pick { candidates } => self.pick(world, &mut program, candidates),
            Step::Claim { claim, others } => self.claim(world, &mut program, claim, others),
            Step::Decide { claimed } => {
                let chosen = claimed.map(|claim| self.leases[usize::from(claim.on)]);
                let then = claimed.map_or(Step::Make, |claim| Step::Resume { claim });
                self.append_own(world, &mut program, then, |_, _| vec![decided(chosen)])
            }
            Step::DecideAgain => self.append_own(world, &mut program, Step::Make, |_, _| vec![decided(None)]),
            Step::Resume { claim } => {
                let seen = self.streams.state(claim.seen).cloned().expect("it was claimed");
                let answer = self.resume(world, Self::sandbox(&seen).expect("it keeps one"), luck);
                program.next = Step::Resumed { claim, answer };
                true
            }
            Step::Resumed { .. } | Step::Made { .. } if program.kind == Kind::Settle => {
                self.settle(world, &mut program)
            }
            Step::Resumed { claim, answer } => self.resumed(world, &mut program, claim, answer),
            Step::Make => {
                let answer = self.make(world, program.lease, luck);
                program.next = Step::Made { answer };
                true
            }
            Step::Made { answer } => self.made(world, &mut program, answer),
            Step::Ask if program.kind != Kind::Settle => self.ask(world, &mut program),
            Step::End => self.call_end(world, &mut program, luck),
            Step::Ended { began, answer } => self.ended(world, &mut program, began, answer),
            _ => self.settling_step(world, &mut program, luck),
        };
        goes_on.then_some(program)
    }

    fn look(&mut self, world: &World, program: &mut Program) -> bool {
        let kept = KEPT.into_iter().filter(|lease| self.lease(world, *lease).is_some_and(|state| state.is_reusable()));
        program.next = Step::Intend { candidates: kept.map(|lease| 1 << lease).sum() };
        true
    }

    fn intend(&mut self, world: &mut World, program: &mut Program, candidates: u8) -> bool {
        let mut events = vec![LeaseEvent::from(self.requested(program.lease))];
        let then = if candidates == 0 {
            events.push(decided(None));
            Step::Make
        } else {
            Step::Pick { candidates }
        };
        match self.append(world, program.lease, program.session, &events, true) {
            Appended::Yes => {
                program.session = world.streams[usize::from(program.lease)];
                program.next = then;
                true
            }
            Appended::Overtaken | Appended::Illegal => false,
        }
    }

    fn pick(&mut self, world: &World, program: &mut Program, candidates: u8) -> bool {
        let Some(on) = KEPT.into_iter().find(|lease| candidates & (1 << lease) != 0) else {
            program.next = Step::Decide { claimed: None };
            return true;
        };
        let (seen, others) = (world.streams[usize::from(on)], candidates & !(1 << on));
        let state = self.streams.state(seen).expect("it was kept");
        program.next =
            match claim_on(state, FINGERPRINT, self.leases[usize::from(program.lease)], Self::run(program.lease)) {
                Ok(_) => Step::Claim { claim: Claim { on, seen }, others },
                Err(_) => Step::Pick { candidates: others },
            };
        true
    }

    fn claim(&mut self, world: &mut World, program: &mut Program, claim: Claim, others: u8) -> bool {
        let seen = self.streams.state(claim.seen).expect("it was kept");
        let by = self.leases[usize::from(program.lease)];
        let event = claim_on(seen, FINGERPRINT, by, Self::run(program.lease)).expect("it was decided on just this");
        match self.append(world, claim.on, claim.seen, &[event.into()], self.case.claims_are_checked) {
            Appended::Yes => program.next = Step::Decide { claimed: Some(claim) },
            Appended::Overtaken => program.next = Step::Pick { candidates: others },
            Appended::Illegal => return false,
        }
        true
    }

    /// What a claim gives, from the stream as it was decided on, or as recovery finds it.
    pub(super) fn claimed(&self, program: &Program, claim: Claim) -> Claimed {
        let seen = self.streams.state(claim.seen).expect("it was claimed");
        let token = seen.fencing_token().unwrap_or_default();
        // Behind the claim the stream bears the claim's own token.
        let next_token = if program.kind == Kind::Settle { token } else { token + 1 };
        Claimed { lease_id: self.leases[usize::from(claim.on)], held: held(seen), next_token }
    }

    /// How the resume of a claim is to be taken.
    pub(super) fn judged(&self, program: &Program, claim: Claim, answer: Answer) -> Judgement {
        let claimed = self.claimed(program, claim);
        let outcome = match answer {
            Answer::Gone => Outcome::Done(Resumed::Gone),
            Answer::NotDone => Outcome::NotDone(fault()),
            Answer::Lost => Outcome::Unknown(fault()),
            Answer::Done | Answer::Kept | Answer::Destroyed => Outcome::Done(Resumed::Same(Self::same(&claimed.held))),
        };
        judge(&claimed, outcome)
    }

    fn resumed(&mut self, world: &mut World, program: &mut Program, claim: Claim, answer: Answer) -> bool {
        match self.judged(program, claim, answer) {
            Judgement::Resumed(event) => {
                let here = program.next;
                self.append_own(world, program, Step::Over, |_, _| vec![event.into()])
                    && self.end_if_asked(program, here)
            }
            Judgement::NotResumed { verdict, fault } => {
                program.next = Step::DecideAgain;
                let by = self.leases[usize::from(program.lease)];
                self.give_back(world, claim.on, |state| given_back(state, by, verdict, &fault))
            }
        }
    }

    /// Appends to the lease that was claimed from, on its fresh state.
    pub(super) fn give_back(
        &mut self,
        world: &mut World,
        on: u8,
        events: impl FnOnce(&lease_events::lease::LeaseState) -> Vec<LeaseEvent>,
    ) -> bool {
        let fresh = world.streams[usize::from(on)];
        let events = events(self.streams.state(fresh).expect("it was claimed"));
        matches!(self.append(world, on, fresh, &events, true), Appended::Yes)
    }

    fn made(&mut self, world: &mut World, program: &mut Program, answer: Answer) -> bool {
        let event = match answer {
            Answer::NotDone | Answer::Gone => acquire_failed(Reason::ProviderFailed, Some(&fault())),
            Answer::Lost => LeaseEffectUnknown {
                effect: Effect::Acquire,
                fault: fault(),
                settle_by: "asking again".to_owned(),
                settle_at: NOW,
                owner: None,
            }
            .into(),
            Answer::Done | Answer::Kept | Answer::Destroyed => provider_acquired(&Self::acquired(program.lease)),
        };
        let here = program.next;
        self.append_own(world, program, Step::Over, |_, _| vec![event]) && self.end_if_asked(program, here)
    }

    /// Behind an acquire's outcome: a release that was asked for meanwhile is run now. `here` is the step that appended
    /// the outcome, and is still the next where it was overtaken.
    pub(super) fn end_if_asked(&self, program: &mut Program, here: Step) -> bool {
        if program.next == here {
            return true;
        }
        let state = self.loaded(program);
        program.next = Step::End;
        state.status != LeaseStatus::Active && is_ending(&state)
    }

    fn ask(&mut self, world: &mut World, program: &mut Program) -> bool {
        let loaded = self.loaded(program);
        let ending = ending(program, &loaded);
        let Ok(events) = decide(&self.context, &loaded, &ending) else {
            self.tell(|| "    it is refused".to_owned());
            return false;
        };
        let here = program.next;
        if !self.append_own(world, program, Step::End, |_, _| events) {
            return false;
        }
        if program.next == here {
            return true;
        }
        program.session = world.streams[usize::from(program.lease)];
        is_ending(&self.loaded(program))
    }

    fn call_end(&mut self, world: &mut World, program: &mut Program, luck: Luck) -> bool {
        let state = self.loaded(program);
        let Some(intent) = state.release.clone().filter(|_| is_ending(&state)) else { return false };
        let keep = intent.teardown == Teardown::ByPolicy && keeps(state.policy, intent.status);
        let answer = self.end(world, Self::sandbox(&state).expect("it holds one"), keep, luck);
        program.next = Step::Ended { began: program.session, answer };
        true
    }

    fn ended(&mut self, world: &mut World, program: &mut Program, began: u32, answer: Answer) -> bool {
        let intent = self.streams.state(began).and_then(|state| state.release.clone()).expect("it was asked for");
        let here = program.next;
        let appended = self.append_own(world, program, Step::Over, |context, state| match receipt_of(answer) {
            // Somebody else has finished it.
            _ if state.release.is_none() => Vec::new(),
            Some(what) => done(context, state, &intent, &receipt(state, what)),
            None => failed(context, state, &intent, &unheard()),
        });
        appended && program.next == here
    }
}

/// What a provider's answer to an end says; `None` where it failed.
pub(super) fn receipt_of(answer: Answer) -> Option<ReceiptState> {
    match answer {
        Answer::Kept => Some(ReceiptState::Kept),
        Answer::Destroyed | Answer::Done => Some(ReceiptState::Destroyed),
        Answer::Gone => Some(ReceiptState::Gone),
        Answer::NotDone | Answer::Lost => None,
    }
}

/// What a failed call counts as: it may have reached the provider.
pub(super) fn unheard() -> Try {
    Try { fault: fault(), charged: true, hopeless: false }
}

pub(super) fn decided(chosen: Option<lease_events::id::LeaseId>) -> LeaseEvent {
    LeaseReuseDecided { candidates: Vec::new(), chosen }.into()
}

fn ending(program: &Program, loaded: &lease_events::lease::LeaseState) -> Ending {
    let teardown = if program.kind == Kind::Destroy { Teardown::Destroy } else { Teardown::ByPolicy };
    let status = ReleaseStatus::Released;
    let request = ReleaseRequest {
        company_id: None,
        lease_id: loaded.lease_id,
        authority: Some(Authority::Operator { reason: "the model".to_owned() }),
        if_revision: None,
        status,
    };
    Ending { request, wanted: Wanted { status, teardown, reason: Reason::OperatorReleased }, only_if: None }
}
