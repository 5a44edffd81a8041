//! What the commands' steps share: the real parts that they decide with, appends, the provider, and the telling.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lease_events::codec::DomainEvent;
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use lease_events::lease::event::{LeaseReleaseRequested, LeaseRequested, Receipt};
use lease_events::lease::vocabulary::{Policy, Reason, ReceiptState, ReleaseStatus, Teardown, WorkspaceKind};
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::seam::crash::NoCrash;
use lease_events::seam::{Clock, SystemIds};
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_stores::memory::MemoryStore;
use lease_stores::sealed::MemorySealed;
use serde_json::json;

use super::streams::{EMPTY, Stream, Streams};
use super::world::{Answer, Issued, KEPT, LEASES, Luck, NOW, Program, Step, World};
use crate::commands::Context;
use crate::commands::acquire::{FIRST_TOKEN, provider_acquired};
use crate::commands::effect::held;
use crate::commands::locks::KeyedLocks;
use crate::commands::owe::CareSettings;
use crate::commands::owners::ToldOwners;
use crate::commands::release::done;
use crate::drivers::sandbox::SandboxDriver;
use crate::drivers::sandbox::fake::FakeProvider;
use crate::drivers::{Acquired, Drivers, EnvironmentDriver, Held};
use crate::secrets::SecretProviders;
use crate::secrets::settings::SecretSettings;

/// The fingerprint that all leases of the model share.
pub(super) const FINGERPRINT: &str = "fingerprint";

/// What is to be explored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// What is issued from outside, each once, at any moment.
    pub(super) issued: &'static [Issued],
    /// How many processes may die in the middle of a command.
    pub(super) crashes: u8,
    /// How often the provider may fail, or lose a sandbox.
    pub(super) faults: u8,
    /// Whether the store compares the revision of a claim: the model without it must fail.
    pub(super) claims_are_checked: bool,
    /// Whether a take-over may stall beyond its deadline at any step of it, so that it is settled beside it.
    pub(super) takeovers_stall: bool,
    /// Whether one process at a time settles a lease: the model without it must fail.
    pub(super) settled_by_one: bool,
}

/// Always the same moment.
struct Still;

impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        NOW
    }
}

/// All that steps work with.
pub(super) struct Machine {
    pub(super) case: Case,
    pub(super) context: Context,
    pub(super) streams: Streams,
    pub(super) leases: [LeaseId; LEASES],
    /// What the steps say of themselves, while a trace is told.
    pub(super) told: Option<Vec<String>>,
}

/// How an append went.
pub(super) enum Appended {
    Yes,
    /// Somebody else wrote first.
    Overtaken,
    /// The events may not follow what was loaded: the command ends with an error.
    Illegal,
}

impl Machine {
    pub(super) fn new(case: Case) -> Self {
        let leases = std::array::from_fn(|lease| LeaseId::derived(&["model", &lease.to_string()]));
        Self { case, context: context(), streams: Streams::new(), leases, told: None }
    }

    /// The state at the start: two leases are over, and keep their sandboxes for whoever comes.
    pub(super) fn start(&mut self) -> World {
        let mut streams = [EMPTY; LEASES];
        let mut there = [false; LEASES];
        let mut tokens = [(0, 0); LEASES];
        for lease in KEPT {
            let mut stream = EMPTY;
            for event in [self.requested(lease).into(), provider_acquired(&Self::acquired(lease)), intent().into()] {
                stream = self.streams.with(stream, &event);
            }
            let state = Arc::clone(self.streams.state(stream).expect("it was requested"));
            let asked = state.release.clone().expect("it was asked for");
            for event in done(&self.context, &state, &asked, &receipt(&state, ReceiptState::Kept)) {
                stream = self.streams.with(stream, &event);
            }
            assert!(self.streams.state(stream).is_some_and(|state| state.is_reusable()));
            let lease = usize::from(lease);
            (streams[lease], there[lease], tokens[lease]) = (stream, true, (FIRST_TOKEN, KEPT[lease]));
        }
        World {
            streams,
            there,
            vanished: [false; LEASES],
            tokens,
            processes: [None; 2],
            begun: 0,
            crashes_left: self.case.crashes,
            faults_left: self.case.faults,
            flaw: None,
        }
    }

    /// The lease as its stream says in this state of the world.
    pub(super) fn lease(&self, world: &World, lease: u8) -> Option<Arc<LeaseState>> {
        self.streams.state(world.streams[usize::from(lease)]).cloned()
    }

    /// The lease as the command has loaded it.
    pub(super) fn loaded(&self, program: &Program) -> Arc<LeaseState> {
        Arc::clone(self.streams.state(program.session).expect("the lease is there"))
    }

    /// The number of the lease of this id.
    pub(super) fn number(&self, lease_id: LeaseId) -> u8 {
        let at = self.leases.iter().position(|known| *known == lease_id).expect("it is one of the model's");
        u8::try_from(at).expect("there are few")
    }

    /// The sandbox that a lease holds or held, named by the lease that it was made for.
    pub(super) fn sandbox(state: &LeaseState) -> Option<usize> {
        let name = state.provider_lease_id()?;
        (0..LEASES).find(|lease| sandbox_name(*lease) == name)
    }

    /// Appends to `lease` behind what was loaded as `session`; `checked` is whether the store compares the two.
    pub(super) fn append(
        &mut self,
        world: &mut World,
        lease: u8,
        session: Stream,
        events: &[LeaseEvent],
        checked: bool,
    ) -> Appended {
        let mut loaded = session;
        for event in events {
            loaded = self.streams.with(loaded, event);
            if !self.streams.is_legal(loaded) {
                self.tell(|| format!("    lease {lease}: {} may not follow: the command fails", event.event_type()));
                return Appended::Illegal;
            }
        }
        let stream = world.streams[usize::from(lease)];
        if checked && stream != session {
            self.tell(|| format!("    lease {lease}: overtaken"));
            return Appended::Overtaken;
        }
        for event in events {
            let before = world.streams[usize::from(lease)];
            self.note_token(world, lease, event);
            world.streams[usize::from(lease)] = self.streams.with(before, event);
            self.tell(|| format!("    lease {lease}: {}", event.event_type()));
        }
        Appended::Yes
    }

    /// Watches the tokens: each sandbox's only grow, and no two leases get the same.
    fn note_token(&self, world: &mut World, lease: u8, event: &LeaseEvent) {
        let (sandbox, token, to) = match event {
            LeaseEvent::ProviderAcquired(acquired) => {
                (acquired.provider_lease_id.as_deref(), acquired.fencing_token, lease)
            }
            LeaseEvent::Resumed(resumed) => (Some(resumed.provider_lease_id.as_str()), resumed.fencing_token, lease),
            LeaseEvent::ReuseClaimed(claimed) => {
                (Some(claimed.provider_lease_id.as_str()), claimed.next_fencing_token, self.number(claimed.by_lease_id))
            }
            _ => return,
        };
        let Some(sandbox) = (0..LEASES).find(|lease| sandbox == Some(sandbox_name(*lease).as_str())) else { return };
        let (highest, holder) = world.tokens[sandbox];
        if token < highest || (token == highest && to != holder) {
            world.flaw = Some("a fencing token did not grow");
        }
        world.tokens[sandbox] = (token, to);
    }

    /// Appends what `decide` says of the command's lease; where it was overtaken, the next try of this step decides
    /// anew. Answers whether the command goes on.
    pub(super) fn append_own(
        &mut self,
        world: &mut World,
        program: &mut Program,
        then: Step,
        decide: impl FnOnce(&Context, &LeaseState) -> Vec<LeaseEvent>,
    ) -> bool {
        let events = decide(&self.context, &self.loaded(program));
        match self.append(world, program.lease, program.session, &events, true) {
            Appended::Yes => {
                program.next = then;
                program.session = world.streams[usize::from(program.lease)];
                true
            }
            Appended::Overtaken => {
                program.session = world.streams[usize::from(program.lease)];
                true
            }
            Appended::Illegal => false,
        }
    }

    /// The provider makes the sandbox of a lease, or has it already.
    pub(super) fn make(&mut self, world: &mut World, lease: u8, luck: Luck) -> Answer {
        if luck.happens() {
            world.there[usize::from(lease)] = true;
            self.tell(|| format!("    the provider makes sandbox {lease}"));
        }
        answered(luck, Answer::Done)
    }

    /// The provider resumes a sandbox. It looks at no token: the ledger must do alone.
    pub(super) fn resume(&mut self, world: &World, sandbox: usize, luck: Luck) -> Answer {
        self.tell(|| format!("    the provider is asked to resume sandbox {sandbox}"));
        answered(luck, if world.there[sandbox] { Answer::Done } else { Answer::Gone })
    }

    /// The provider ends a holding.
    pub(super) fn end(&mut self, world: &mut World, sandbox: usize, keep: bool, luck: Luck) -> Answer {
        let was_there = world.there[sandbox];
        if luck.happens() && !keep {
            world.there[sandbox] = false;
            self.tell(|| format!("    the provider removes sandbox {sandbox}"));
        }
        answered(
            luck,
            if !was_there {
                Answer::Gone
            } else if keep {
                Answer::Kept
            } else {
                Answer::Destroyed
            },
        )
    }

    /// Tells, where somebody listens.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(what());
        }
    }

    /// The run of a lease.
    pub(super) fn run(lease: u8) -> RunId {
        RunId::derived(&["model", &lease.to_string()])
    }

    /// What the provider gives for a lease.
    pub(super) fn acquired(lease: u8) -> Acquired {
        Acquired { provider_lease_id: Some(sandbox_name(usize::from(lease))), ..Acquired::default() }
    }

    /// What the provider gives of a sandbox that is held.
    pub(super) fn same(held: &Held) -> Acquired {
        Acquired { provider_lease_id: held.provider_lease_id.clone(), ..Acquired::default() }
    }

    /// The intent to acquire.
    pub(super) fn requested(&self, lease: u8) -> LeaseRequested {
        LeaseRequested {
            lease_id: self.leases[usize::from(lease)],
            company_id: CompanyId::derived(&["model"]),
            ledger_id: LedgerId::derived(&["model"]),
            environment_id: EnvironmentId::derived(&["model"]),
            environment_name: "model".to_owned(),
            environment_revision: 0,
            driver: "sandbox".to_owned(),
            provider: "fake".to_owned(),
            policy: Policy::ReuseByEnvironment,
            run_id: Some(Self::run(lease)),
            issue_id: None,
            agent_id: None,
            execution_workspace_id: None,
            execution_workspace_mode: None,
            adapter_type: None,
            requested_expires_at: None,
            config: json!({ "provider": "fake" }),
            reuse_fingerprint: Some(FINGERPRINT.to_owned()),
            generation: 0,
            workspace_kind: WorkspaceKind::Derived,
            owner: "model".to_owned(),
            requested_at: NOW,
            settle_at: NOW,
        }
    }
}

/// The intent by which the first leases ended.
fn intent() -> LeaseReleaseRequested {
    LeaseReleaseRequested {
        status: ReleaseStatus::Released,
        teardown: Teardown::ByPolicy,
        reason: Reason::RunEnded,
        note: None,
        owner: "model".to_owned(),
        settle_at: NOW,
    }
}

/// What the provider says of an end.
pub(super) fn receipt(state: &LeaseState, what: ReceiptState) -> Receipt {
    Receipt { state: what, provider_lease_id: held(state).provider_lease_id }
}

/// What a call that failed is said to have failed by.
pub(super) fn fault() -> Fault {
    Fault::new("model", "the model lets it fail")
}

fn answered(luck: Luck, answer: Answer) -> Answer {
    match luck {
        Luck::Done => answer,
        Luck::NotDone => Answer::NotDone,
        Luck::DoneUnheard | Luck::NotDoneUnheard => Answer::Lost,
    }
}

fn sandbox_name(lease: usize) -> String {
    format!("sandbox-{lease}")
}

/// What the real decisions read: the driver's traits, the owner, the time. Nothing is stored through it.
fn context() -> Context {
    let clock = || Arc::new(Still) as Arc<dyn Clock>;
    let projections = MemoryProjections::new_standard();
    let store = MemoryStore::new(clock(), Some(projections.clone()));
    let sandbox = SandboxDriver::new([Arc::new(FakeProvider::in_memory(clock())) as _]);
    let secrets = SecretProviders::granted(
        &SecretSettings::default(),
        Arc::new(MemorySealed::default()),
        clock(),
        Arc::new(|_| None),
    );
    Context {
        ledger_id: LedgerId::derived(&["model"]),
        read_model: MemoryReadModel::attach(projections, store.clone()),
        store,
        drivers: Drivers::new([Arc::new(sandbox) as Arc<dyn EnvironmentDriver>]),
        secrets: secrets.expect("there is no key to read"),
        clock: clock(),
        ids: Arc::new(SystemIds),
        owner: "model".to_owned(),
        owners: Arc::new(ToldOwners::default()),
        care: CareSettings::default(),
        crash: Arc::new(NoCrash),
        locks: KeyedLocks::default(),
    }
}
