//! The explorer: every state that can be reached, breadth first, so that what it finds is found on a shortest way.

use std::collections::HashMap;

use super::invariants::{Invariant, is_settled};
use super::machine::{Case, Machine};
use super::streams::EMPTY;
use super::world::{Issued, KEPT, Kind, LEASES, Luck, Program, Step, World};
use crate::commands::cleanup::is_owed;

/// What may happen in a state.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A process begins with a command; `0` where recovery does by itself, else the bit of what was issued.
    Begins { process: usize, issued: u8, program: Program },
    /// A process takes its next step.
    Steps { process: usize, luck: Luck },
    /// A process dies, and another is started in its place.
    Dies { process: usize },
    /// The provider loses a sandbox that nobody holds.
    Vanishes { sandbox: usize },
}

/// A state that was reached, and how.
struct Reached {
    world: World,
    from: Option<(u32, Event)>,
}

/// What was found.
pub(super) struct Found {
    /// How many different states can be reached.
    pub(super) states: usize,
    /// How many ways lead from one to another.
    pub(super) ways: usize,
    /// The longest of the shortest ways to a state, in steps.
    pub(super) depth: usize,
    /// What is wrong, and the shortest way to it; `None` where nothing is.
    pub(super) wrong: Option<String>,
}

struct Explorer {
    machine: Machine,
    reached: Vec<Reached>,
    known: HashMap<World, u32>,
    ways: Vec<(u32, u32)>,
}

/// Visits every state of a case. Each must satisfy the invariants, and have a way on to a settled one.
pub(super) fn explore(case: Case, invariants: &[Invariant]) -> Found {
    let mut explorer =
        Explorer { machine: Machine::new(case), reached: Vec::new(), known: HashMap::new(), ways: Vec::new() };
    let start = explorer.machine.start();
    explorer.reach(start, None);
    let mut at = 0;
    while at < explorer.reached.len() {
        let wrong = explorer.check(at, invariants);
        if wrong.is_some() {
            return explorer.found(wrong);
        }
        for event in explorer.events(at) {
            let world = explorer.after(&explorer.reached[at].world.clone(), event);
            let to = explorer.reach(world, Some((name(at), event)));
            explorer.ways.push((name(at), to));
        }
        at += 1;
    }
    let stuck = explorer.stuck();
    explorer.found(stuck)
}

impl Explorer {
    fn reach(&mut self, world: World, from: Option<(u32, Event)>) -> u32 {
        if let Some(known) = self.known.get(&world) {
            return *known;
        }
        let reached = name(self.reached.len());
        self.known.insert(world.clone(), reached);
        self.reached.push(Reached { world, from });
        reached
    }

    fn events(&self, at: usize) -> Vec<Event> {
        let world = &self.reached[at].world;
        let mut events = Vec::new();
        for (process, program) in world.processes.iter().enumerate() {
            if process > 0 && world.processes[process - 1] == *program {
                // The other one is at the same: it makes no difference which of them goes on.
                continue;
            }
            match program {
                None => self.beginnings(world, process, &mut events),
                Some(program) => {
                    let lucks =
                        if program.next.is_call() && world.faults_left > 0 { &Luck::ALL[..] } else { &Luck::ALL[..1] };
                    events.extend(lucks.iter().map(|luck| Event::Steps { process, luck: *luck }));
                    events.extend((world.crashes_left > 0).then_some(Event::Dies { process }));
                }
            }
        }
        if world.faults_left > 0 {
            let kept = KEPT.into_iter().map(usize::from).filter(|sandbox| world.there[*sandbox]);
            events.extend(kept.map(|sandbox| Event::Vanishes { sandbox }));
        }
        events
    }

    fn beginnings(&self, world: &World, process: usize, events: &mut Vec<Event>) {
        let program = |kind, lease, next| Program { kind, lease, session: EMPTY, next, is_late: false };
        for (index, issued) in self.machine.case.issued.iter().enumerate() {
            let bit = 1 << index;
            let program = match *issued {
                Issued::Acquire(lease) => program(Kind::Acquire, lease, Step::Look),
                Issued::Release(lease) => program(Kind::Release, lease, Step::Load),
                Issued::Destroy(lease) => program(Kind::Destroy, lease, Step::Load),
            };
            let is_there = program.kind == Kind::Acquire || self.machine.lease(world, program.lease).is_some();
            if world.begun & bit == 0 && is_there {
                events.push(Event::Begins { process, issued: bit, program });
            }
        }
        for lease in (0..LEASES).map(|lease| u8::try_from(lease).expect("there are few")) {
            let Some(state) = self.machine.lease(world, lease) else { continue };
            let is_at_it = |program: &Program| match program.kind {
                Kind::Acquire => !(self.machine.case.takeovers_stall && program.next.is_of_take_over()),
                Kind::Release | Kind::Destroy => true,
                Kind::Settle => self.machine.case.settled_by_one,
                Kind::Clean | Kind::Return => false,
            };
            // Whoever began it is dead, has left it, or stalls.
            let mut programs = world.processes.iter().flatten();
            let is_orphan = !programs.any(|program| program.lease == lease && is_at_it(program));
            if is_orphan && Machine::is_to_settle(&state) {
                events.push(Event::Begins { process, issued: 0, program: program(Kind::Settle, lease, Step::Load) });
            }
            if self.machine.is_stray_claim(world, lease) {
                events.push(Event::Begins { process, issued: 0, program: program(Kind::Return, lease, Step::Load) });
            }
            if is_owed(&state) {
                events.push(Event::Begins { process, issued: 0, program: program(Kind::Clean, lease, Step::Load) });
            }
        }
    }

    fn after(&mut self, world: &World, event: Event) -> World {
        let mut world = world.clone();
        match event {
            Event::Begins { process, issued, program } => {
                self.machine.tell(|| format!("{:?} of lease {} begins", program.kind, program.lease));
                world.begun |= issued;
                if program.kind == Kind::Settle {
                    let stalled = |it: &&mut Program| it.kind == Kind::Acquire && it.lease == program.lease;
                    world.processes.iter_mut().flatten().filter(stalled).for_each(|it| it.is_late = true);
                }
                world.processes[process] = Some(program);
            }
            Event::Steps { process, luck } => {
                world.faults_left -= u8::from(luck != Luck::Done);
                let program = world.processes[process].expect("it is at something");
                world.processes[process] = self.machine.step(&mut world, program, luck);
            }
            Event::Dies { process } => {
                let dead = world.processes[process].take().expect("it is at something");
                self.machine.tell(|| {
                    format!("the process dies: {:?} of lease {}, before {:?}", dead.kind, dead.lease, dead.next)
                });
                world.crashes_left -= 1;
            }
            Event::Vanishes { sandbox } => {
                self.machine.tell(|| format!("sandbox {sandbox} goes away by itself"));
                (world.there[sandbox], world.vanished[sandbox]) = (false, true);
                world.faults_left -= 1;
            }
        }
        world.processes.sort_unstable();
        world
    }

    fn check(&self, at: usize, invariants: &[Invariant]) -> Option<String> {
        let world = &self.reached[at].world;
        let leases = world.streams.map(|stream| self.machine.streams.state(stream).cloned());
        let wrong = invariants.iter().find_map(|invariant| invariant(&self.machine, world, &leases))?;
        Some((at, wrong)).map(|(at, wrong)| format!("{wrong}\n{}", self.way_to(at)))
    }

    /// The first state from which no way leads to a settled one.
    fn stuck(&mut self) -> Option<String> {
        let mut backwards: Vec<Vec<u32>> = vec![Vec::new(); self.reached.len()];
        for (from, to) in &self.ways {
            backwards[*to as usize].push(*from);
        }
        let mut settles: Vec<bool> = self.reached.iter().map(|it| is_settled(&self.machine, &it.world)).collect();
        let mut open: Vec<usize> = (0..settles.len()).filter(|at| settles[*at]).collect();
        while let Some(at) = open.pop() {
            for from in &backwards[at] {
                if !std::mem::replace(&mut settles[*from as usize], true) {
                    open.push(*from as usize);
                }
            }
        }
        let stuck = settles.iter().position(|settles| !settles)?;
        Some(format!("no way leads from here to a settled state\n{}", self.way_to(stuck)))
    }

    /// The way from the start to a state, told step by step, and the state.
    fn way_to(&self, at: usize) -> String {
        let mut events = Vec::new();
        let mut here = at;
        while let Some((from, event)) = self.reached[here].from {
            events.push(event);
            here = from as usize;
        }
        let mut teller = Explorer {
            machine: Machine::new(self.machine.case),
            reached: Vec::new(),
            known: HashMap::new(),
            ways: Vec::new(),
        };
        let mut world = teller.machine.start();
        teller.machine.told = Some(Vec::new());
        for event in events.iter().rev() {
            world = teller.after(&world, *event);
        }
        let mut told = teller.machine.told.take().unwrap_or_default();
        for (lease, stream) in world.streams.iter().enumerate() {
            let Some(state) = teller.machine.streams.state(*stream) else { continue };
            let next = state.next_action.as_ref().map_or("nothing", |next| next.action.as_str());
            told.push(format!(
                "  lease {lease} is {}, next {next}; sandbox {:?}",
                state.status,
                Machine::sandbox(state)
            ));
        }
        told.push(format!("  at the provider: {:?}", world.there));
        told.join("\n")
    }

    fn found(&self, wrong: Option<String>) -> Found {
        let mut depths: Vec<usize> = Vec::with_capacity(self.reached.len());
        for reached in &self.reached {
            depths.push(reached.from.map_or(0, |(from, _)| depths[from as usize] + 1));
        }
        let depth = depths.into_iter().max().unwrap_or(0);
        Found { states: self.reached.len(), ways: self.ways.len(), depth, wrong }
    }
}

fn name(at: usize) -> u32 {
    u32::try_from(at).expect("far fewer states")
}
