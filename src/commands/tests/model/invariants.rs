//! What holds in every state, and when a state is settled.

use std::sync::Arc;

use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::LeaseStatus;

use super::machine::Machine;
use super::world::{LEASES, World};
use crate::commands::cleanup::is_owed;

/// Something that holds in every state; it answers what is wrong.
pub(super) type Invariant = fn(&Machine, &World, &[Option<Arc<LeaseState>>; LEASES]) -> Option<String>;

/// All of them.
pub(super) const INVARIANTS: [Invariant; 5] =
    [one_holder, none_forgotten, none_pulled_away, tokens_grow, streams_are_legal];

/// No sandbox has two holders.
pub(super) fn one_holder(_: &Machine, _: &World, leases: &[Option<Arc<LeaseState>>; LEASES]) -> Option<String> {
    let mut holder = [None; LEASES];
    for (number, state) in leases.iter().enumerate() {
        let Some(sandbox) = state.as_ref().filter(|state| state.status.is_open()).and_then(|it| Machine::sandbox(it))
        else {
            continue;
        };
        if let Some(other) = holder[sandbox].replace(number) {
            return Some(format!("sandbox {sandbox} has two holders: leases {other} and {number}"));
        }
    }
    None
}

/// Whatever is at the provider is held, kept, owed as cleanup, or in flight where recovery finds it.
fn none_forgotten(machine: &Machine, world: &World, leases: &[Option<Arc<LeaseState>>; LEASES]) -> Option<String> {
    let is_accounted_for = |sandbox: usize| {
        leases.iter().enumerate().any(|(number, state)| {
            let Some(state) = state else { return false };
            if Machine::sandbox(state) != Some(sandbox) {
                // The acquire that makes it, or a take-over of it, is under way, and has a deadline.
                let makes = number == sandbox && state.provider_lease.is_none();
                return makes && state.status.is_open() && Machine::is_to_settle(state);
            }
            let claimant = state.claimed_by.filter(|_| state.is_claimed_away()).map(|by| machine.number(by));
            let claimant = claimant.and_then(|by| leases[usize::from(by)].as_ref());
            machine.is_stray_claim(world, name(number))
                || state.status == LeaseStatus::Active
                || (state.status.is_open() && Machine::is_to_settle(state))
                || (state.keeps_something() && state.next_action.is_some())
                || claimant
                    .is_some_and(|by| by.status.is_open() && by.provider_lease.is_none() && Machine::is_to_settle(by))
        })
    };
    let forgotten = (0..LEASES).find(|sandbox| world.there[*sandbox] && !is_accounted_for(*sandbox))?;
    Some(format!("sandbox {forgotten} is at the provider, and no lease accounts for it"))
}

/// What a run holds is there, unless it went away by itself.
fn none_pulled_away(_: &Machine, world: &World, leases: &[Option<Arc<LeaseState>>; LEASES]) -> Option<String> {
    leases.iter().enumerate().find_map(|(number, state)| {
        let state = state.as_ref().filter(|state| state.status == LeaseStatus::Active)?;
        let sandbox = Machine::sandbox(state)?;
        let is_pulled = !world.there[sandbox] && !world.vanished[sandbox];
        is_pulled.then(|| format!("lease {number} is active, and its sandbox {sandbox} was removed"))
    })
}

/// The tokens of one sandbox only grow, and a new holder has a higher one.
fn tokens_grow(_: &Machine, world: &World, _: &[Option<Arc<LeaseState>>; LEASES]) -> Option<String> {
    world.flaw.map(str::to_owned)
}

/// What is stored can be folded.
fn streams_are_legal(machine: &Machine, world: &World, _: &[Option<Arc<LeaseState>>; LEASES]) -> Option<String> {
    let corrupt = world.streams.iter().position(|stream| !machine.streams.is_legal(*stream))?;
    Some(format!("the stream of lease {corrupt} holds an event that may not follow"))
}

/// Whether nothing is under way, in flight or owed: what is left is held, kept, or gone.
pub(super) fn is_settled(machine: &Machine, world: &World) -> bool {
    let mut leases = world.streams.iter().filter_map(|stream| machine.streams.state(*stream));
    world.processes == [None; 2]
        && leases.all(|state| !Machine::is_to_settle(state) && !is_owed(state))
        && (0..LEASES).all(|lease| !machine.is_stray_claim(world, name(lease)))
}

fn name(lease: usize) -> u8 {
    u8::try_from(lease).expect("there are few")
}
