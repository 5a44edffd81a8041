//! The steps of acquire, release and destroy, in the order of the commands, deciding with the commands' own functions.

use lease_events::failure::Fault;
use lease_events::lease::LeaseEvent;
use lease_events::lease::event::{Candidate, LeaseEffectUnknown, LeaseReuseDecided};
use lease_events::lease::evolve::keeps;
use lease_events::lease::vocabulary::{Effect, LeaseStatus, Reason, ReceiptState, ReleaseStatus, Teardown, Verdict};

use super::machine::{Appended, FINGERPRINT, Machine, fault, receipt};
use super::world::{Answer, Claim, KEPT, Kind, Luck, NOW, Program, Step, World};
use crate::commands::acquire::reuse::{Claimed, Judgement, claim_on, given_back, judge};
use crate::commands::acquire::{acquire_failed, is_mine, knows_of, provider_acquired};
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
            Step::Decide { claimed } => self.decide_on(world, &mut program, claimed),
            Step::Decline { claim, answer } => self.decline(world, &mut program, claim, answer),
            Step::GiveBack { claim, answer } => {
                program.next = if program.kind == Kind::Settle { Step::Over } else { Step::Make };
                self.give_back(world, &program, claim, answer) && program.next == Step::Make
            }
            Step::Withdraw { claim } => {
                self.give_back(world, &program, claim, Answer::Lost);
                false
            }
            Step::Resume { .. } | Step::Make if program.is_late => false,
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

    /// The decision, unless recovery has taken the lease over; then what was claimed goes back, where recovery does not
    /// know of it.
    fn decide_on(&mut self, world: &mut World, program: &mut Program, claimed: Option<Claim>) -> bool {
        let chosen = claimed.map(|claim| self.leases[usize::from(claim.on)]);
        let state = self.loaded(program);
        if is_mine(&state) {
            let then = claimed.map_or(Step::Make, |claim| Step::Resume { claim });
            return self.append_own(world, program, then, |_, _| vec![decided(chosen)]);
        }
        match claimed {
            Some(claim) if !knows_of(&state, self.leases[usize::from(claim.on)]) => {
                program.next = Step::Withdraw { claim };
                true
            }
            _ => false,
        }
    }

    /// The decision against what was claimed, unless recovery has taken the lease over: then it resumes it.
    fn decline(&mut self, world: &mut World, program: &mut Program, claim: Claim, answer: Answer) -> bool {
        if !is_mine(&self.loaded(program)) {
            return false;
        }
        let Judgement::NotResumed { verdict, fault } = self.judged(program, claim, answer) else { return false };
        let candidate = Candidate {
            lease_id: self.leases[usize::from(claim.on)],
            provider_lease_id: None,
            verdict,
            detail: Some(fault.message),
        };
        let declined = LeaseReuseDecided { candidates: vec![candidate], chosen: None };
        self.append_own(world, program, Step::GiveBack { claim, answer }, |_, _| vec![declined.into()])
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
                let (here, on) = (program.next, self.leases[usize::from(claim.on)]);
                self.append_own(world, program, Step::Over, |_, state| {
                    // Recovery gave up waiting, and has settled it.
                    let is_settled = state.provider_lease.is_some() || state.resuming_from != Some(on);
                    if is_settled { Vec::new() } else { vec![event.into()] }
                }) && self.end_if_asked(program, here)
            }
            Judgement::NotResumed { .. } => {
                program.next = Step::Decline { claim, answer };
                true
            }
        }
    }

    /// Appends to the lease that was claimed from, on its fresh state, that it went back, because of this answer to its
    /// resume.
    pub(super) fn give_back(&mut self, world: &mut World, program: &Program, claim: Claim, answer: Answer) -> bool {
        let Judgement::NotResumed { verdict, fault } = self.judged(program, claim, answer) else { return false };
        self.hand_back(world, program.lease, claim.on, verdict, &fault)
    }

    pub(super) fn hand_back(&mut self, world: &mut World, by: u8, on: u8, verdict: Verdict, fault: &Fault) -> bool {
        let fresh = world.streams[usize::from(on)];
        let state = self.streams.state(fresh).expect("it was claimed");
        let events = given_back(state, self.leases[usize::from(by)], verdict, fault);
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
        let is_acquired = matches!(event, LeaseEvent::ProviderAcquired(_));
        self.append_own(world, program, Step::Over, |_, state| {
            // Recovery may be at it meanwhile, and asks for what this call did not give.
            let is_known = state.provider_lease.is_some() || (!is_acquired && !is_mine(state));
            if is_known { Vec::new() } else { vec![event] }
        }) && self.end_if_asked(program, here)
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
