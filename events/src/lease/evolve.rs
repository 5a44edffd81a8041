//! The fold itself: how each event changes a lease. One function an event; none looks at a clock.

use chrono::{DateTime, Utc};

use super::event::{
    LeaseAcquireFailed, LeaseCleanupEscalated, LeaseCleanupFailed, LeaseCommandStarted, LeaseEffectUnknown, LeaseEvent,
    LeaseReleaseRequested, LeaseReleased, LeaseRequested,
};
use super::state::{InFlight, LeaseState, NextAction, ProviderLease, ReleaseIntent, RunningCommand};
use super::transition::IllegalTransition;
use super::vocabulary::{
    CleanupStatus, Effect, ExecutionOutcome, LeaseStatus, NextActionKind, Policy, Reason, ReleaseStatus, Teardown,
    WorkspaceKind,
};
use crate::codec::DomainEvent;
use crate::failure::Fault;
use crate::id::LeaseId;
use crate::record::RecordedEvent;

impl LeaseState {
    /// The state after `event`, which was recorded as `recorded`.
    pub fn evolve(
        state: Option<Self>,
        event: &LeaseEvent,
        recorded: &RecordedEvent,
    ) -> Result<Self, IllegalTransition> {
        Self::check(state.as_ref(), event)?;
        let mut next = match (state, event) {
            (None, LeaseEvent::Requested(requested)) => Self::requested(requested, recorded),
            (Some(mut state), event) => {
                state.follow(event, recorded);
                state
            }
            // Unreachable by `check`, and still no panic on stored data.
            (None, event) => return Err(IllegalTransition { status: None, event_type: event.event_type() }),
        };
        next.revision = recorded.stream_revision;
        next.position = recorded.position;
        next.updated_at = recorded.recorded_at;
        Ok(next)
    }

    fn requested(requested: &LeaseRequested, recorded: &RecordedEvent) -> Self {
        Self {
            lease_id: requested.lease_id,
            company_id: requested.company_id,
            ledger_id: requested.ledger_id,
            environment_id: requested.environment_id,
            environment_name: requested.environment_name.clone(),
            driver: requested.driver.clone(),
            provider: requested.provider.clone(),
            policy: requested.policy,
            run_id: requested.run_id,
            issue_id: requested.issue_id.clone(),
            agent_id: requested.agent_id.clone(),
            execution_workspace_id: requested.execution_workspace_id.clone(),
            execution_workspace_mode: requested.execution_workspace_mode.clone(),
            adapter_type: requested.adapter_type.clone(),
            config: requested.config.clone(),
            reuse_fingerprint: requested.reuse_fingerprint.clone(),
            generation: requested.generation,
            workspace_kind: requested.workspace_kind,
            status: LeaseStatus::Requested,
            ended_as: None,
            cleanup_status: None,
            provider_lease: None,
            resumed_from: None,
            resuming_from: None,
            in_flight: Some(InFlight {
                effect: Effect::Acquire,
                owner: Some(requested.owner.clone()),
                settle_at: requested.settle_at,
            }),
            running: Vec::new(),
            release: None,
            claimed_by: None,
            requested_expires_at: requested.requested_expires_at,
            expires_at: requested.requested_expires_at,
            cwd: None,
            realization: None,
            end_reason: None,
            failure_reason: None,
            cleanup_attempts: 0,
            needs_attention: false,
            last_fault: None,
            next_action: Some(NextAction {
                action: NextActionKind::SettleAcquire,
                at: Some(requested.settle_at),
                because: "the acquire has begun and the provider has not answered yet".to_owned(),
            }),
            requested_at: requested.requested_at,
            acquired_at: None,
            last_used_at: requested.requested_at,
            ended_at: None,
            revision: recorded.stream_revision,
            created_position: recorded.position,
            position: recorded.position,
            updated_at: recorded.recorded_at,
        }
    }

    fn follow(&mut self, event: &LeaseEvent, recorded: &RecordedEvent) {
        match event {
            // Illegal on a lease that is there; `check` refused it.
            LeaseEvent::Requested(_) => {}
            LeaseEvent::ReuseDecided(decided) => self.decide_reuse(decided.chosen),
            LeaseEvent::ProviderAcquired(acquired) => {
                let held = ProviderLease {
                    provider_lease_id: acquired.provider_lease_id.clone(),
                    metadata: acquired.metadata.clone(),
                    expires_at: acquired.expires_at,
                    fencing_token: acquired.fencing_token,
                };
                if self.ended_as.is_some() {
                    self.owe(held, recorded);
                } else {
                    self.hold(held, recorded);
                }
            }
            LeaseEvent::Resumed(resumed) => {
                let held = ProviderLease {
                    provider_lease_id: Some(resumed.provider_lease_id.clone()),
                    metadata: resumed.metadata.clone(),
                    expires_at: resumed.expires_at,
                    fencing_token: resumed.fencing_token,
                };
                if resumed.from_lease_id.is_some() {
                    self.resumed_from = resumed.from_lease_id;
                }
                self.hold(held, recorded);
            }
            LeaseEvent::AcquireFailed(failed) => self.fail_acquire(failed, recorded),
            LeaseEvent::EffectUnknown(unknown) => self.lose_sight(unknown),
            LeaseEvent::Realized(realized) => {
                self.cwd = Some(realized.cwd.clone());
                self.realization = Some(realized.realization.clone());
                self.last_used_at = recorded.recorded_at;
            }
            LeaseEvent::Renewed(renewed) => {
                self.requested_expires_at = Some(renewed.expires_at);
                self.last_used_at = recorded.recorded_at;
                self.plan_expiry("its holder renewed it until then");
            }
            LeaseEvent::CommandStarted(started) => self.start_command(started, recorded),
            LeaseEvent::CommandExecuted(executed) => {
                self.running.retain(|running| Some(running.command_id) != executed.command_id);
                // That nobody knows is no sign of its holder.
                if executed.outcome != ExecutionOutcome::Unknown {
                    self.last_used_at = recorded.recorded_at;
                }
            }
            LeaseEvent::ReleaseRequested(release) => self.intend_release(release),
            LeaseEvent::Released(released) => self.end_released(released, recorded),
            LeaseEvent::ReuseClaimed(claimed) => {
                // What it held is the claimant's from here on, and so is the duty to clean it up.
                self.claimed_by = Some(claimed.by_lease_id);
                self.cleanup_status = None;
                self.next_action = None;
                // Should it come back, whoever holds it next needs a higher token than the claimant had.
                if let Some(held) = &mut self.provider_lease {
                    held.fencing_token = claimed.next_fencing_token;
                }
            }
            LeaseEvent::CleanupFailed(failed) => self.fail_cleanup(failed, recorded),
            LeaseEvent::CleanupEscalated(escalated) => self.escalate(escalated, recorded),
            LeaseEvent::CleanupSucceeded(_) | LeaseEvent::CleanupWaived(_) => self.clean(recorded),
            LeaseEvent::Destroyed(destroyed) => {
                self.end_reason = self.end_reason.or(Some(destroyed.reason));
                self.end(destroyed.status, recorded);
                self.clean(recorded);
            }
        }
    }

    fn decide_reuse(&mut self, chosen: Option<LeaseId>) {
        self.resuming_from = chosen;
        if let Some(in_flight) = &mut self.in_flight
            && matches!(in_flight.effect, Effect::Acquire | Effect::Resume)
        {
            in_flight.effect = if chosen.is_some() { Effect::Resume } else { Effect::Acquire };
        }
    }

    /// The provider's answer came after the acquire was given up: nobody holds it, and it is to be cleaned up.
    fn owe(&mut self, held: ProviderLease, recorded: &RecordedEvent) {
        self.provider_lease = Some(held);
        self.bound_by_provider();
        self.cleanup_status = Some(CleanupStatus::Failed);
        self.next_action = Some(NextAction {
            action: NextActionKind::RetryCleanup,
            at: Some(recorded.recorded_at),
            because: "its provider answered after its acquire was given up".to_owned(),
        });
    }

    fn hold(&mut self, held: ProviderLease, recorded: &RecordedEvent) {
        self.provider_lease = Some(held);
        self.resuming_from = None;
        self.acquired_at = self.acquired_at.or(Some(recorded.recorded_at));
        self.last_used_at = recorded.recorded_at;
        self.last_fault = None;
        self.needs_attention = false;
        self.cleanup_status = None;
        // Tries to find it do not count as tries to be rid of it.
        self.cleanup_attempts = 0;
        self.bound_by_provider();
        if let Some(release) = &self.release
            && let Some(in_flight) = &mut self.in_flight
        {
            // The release overtook the acquire: what the provider gave is released at once.
            self.status = LeaseStatus::Releasing;
            in_flight.effect = effect_of(release.teardown);
            self.next_action = Some(NextAction {
                action: NextActionKind::FinishRelease,
                at: Some(in_flight.settle_at),
                because: "it was released before the provider had answered".to_owned(),
            });
        } else {
            self.status = LeaseStatus::Active;
            self.in_flight = None;
            self.release = None;
            self.ended_as = None;
            self.ended_at = None;
            self.end_reason = None;
            self.failure_reason = None;
            self.plan_expiry("its time is over then, and nobody renewed it");
        }
    }

    fn fail_acquire(&mut self, failed: &LeaseAcquireFailed, recorded: &RecordedEvent) {
        let status = self.release.as_ref().map_or(LeaseStatus::Failed, |release| status_of(release.status));
        self.end_reason = Some(failed.reason);
        self.failure_reason = failed.fault.as_ref().map(|fault| fault.message.clone());
        self.last_fault.clone_from(&failed.fault);
        self.resuming_from = None;
        // Nothing of it is at the provider: whatever was tried to settle it is done with.
        self.cleanup_status = None;
        self.needs_attention = false;
        self.end(status, recorded);
        self.next_action = None;
    }

    fn lose_sight(&mut self, unknown: &LeaseEffectUnknown) {
        self.status = LeaseStatus::EffectUnknown;
        self.last_fault = Some(unknown.fault.clone());
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.effect = unknown.effect;
            in_flight.settle_at = unknown.settle_at;
            in_flight.owner.clone_from(&unknown.owner);
        }
        self.next_action = Some(NextAction {
            action: self.settling(),
            at: Some(unknown.settle_at),
            because: format!("{}; it is settled by {}", unknown.fault.message, unknown.settle_by),
        });
    }

    fn start_command(&mut self, started: &LeaseCommandStarted, recorded: &RecordedEvent) {
        self.running.push(RunningCommand {
            command_id: started.command_id,
            command: started.command.clone(),
            argument_count: started.argument_count,
            owner: started.owner.clone(),
            started_at: recorded.recorded_at,
            settle_at: started.settle_at,
        });
        self.last_used_at = recorded.recorded_at;
    }

    fn intend_release(&mut self, release: &LeaseReleaseRequested) {
        self.release =
            Some(ReleaseIntent { status: release.status, teardown: release.teardown, reason: release.reason });
        if self.provider_lease.is_none() {
            // Still acquiring: the acquire's own deadline stands, and its owner will see this intent. What is
            // unknown stays unknown until it is settled.
            if self.status == LeaseStatus::Requested {
                self.status = LeaseStatus::Releasing;
            }
            return;
        }
        self.status = if self.ended_as.is_some() { LeaseStatus::PendingCleanup } else { LeaseStatus::Releasing };
        self.in_flight = Some(InFlight {
            effect: effect_of(release.teardown),
            owner: Some(release.owner.clone()),
            settle_at: release.settle_at,
        });
        self.next_action = Some(NextAction {
            action: NextActionKind::FinishRelease,
            at: Some(release.settle_at),
            because: format!("its release was asked for ({})", release.reason),
        });
    }

    fn end_released(&mut self, released: &LeaseReleased, recorded: &RecordedEvent) {
        if self.is_claimed_away() && released.status == LeaseStatus::Released {
            // The claim came to nothing before anybody touched what it claimed: it is kept as it was.
            self.claimed_by = None;
        }
        self.end(released.status, recorded);
        self.end_reason = Some(released.reason);
        self.failure_reason.clone_from(&released.failure_reason);
        self.cleanup_status = released.cleanup_status;
        if released.cleanup_status != Some(CleanupStatus::Failed) {
            self.needs_attention = false;
        }
        self.next_action = self.after_release(recorded);
    }

    /// What follows an end: whatever nobody is meant to keep is due for cleanup at once.
    fn after_release(&self, recorded: &RecordedEvent) -> Option<NextAction> {
        let due = |because: &str| NextAction {
            action: NextActionKind::RetryCleanup,
            at: Some(recorded.recorded_at),
            because: because.to_owned(),
        };
        match self.cleanup_status? {
            CleanupStatus::Success => None,
            CleanupStatus::Failed => Some(due("its cleanup failed")),
            CleanupStatus::Pending if self.status == LeaseStatus::Retained => {
                Some(waits(NextActionKind::AwaitOperator, "what it holds is kept for inspection"))
            }
            CleanupStatus::Pending if self.is_reusable() => {
                Some(waits(NextActionKind::AwaitReuse, &format!("its policy is {}", self.policy)))
            }
            CleanupStatus::Pending if self.claimed_by.is_some() => Some(waits(
                NextActionKind::AwaitOperator,
                "another lease took it over, could not resume it, and kept it",
            )),
            CleanupStatus::Pending if self.workspace_kind == WorkspaceKind::SoleCopy => {
                Some(waits(NextActionKind::AwaitOperator, "its workspace may be the only copy of somebody's work"))
            }
            CleanupStatus::Pending => Some(due("nobody keeps what it held")),
        }
    }

    fn fail_cleanup(&mut self, failed: &LeaseCleanupFailed, recorded: &RecordedEvent) {
        if failed.charged {
            self.cleanup_attempts = failed.attempt;
        }
        self.await_next_try(&failed.fault, failed.next_try_at, recorded);
    }

    fn escalate(&mut self, escalated: &LeaseCleanupEscalated, recorded: &RecordedEvent) {
        self.needs_attention = true;
        self.await_next_try(&escalated.fault, escalated.next_try_at, recorded);
    }

    fn await_next_try(&mut self, fault: &Fault, next_try_at: Option<DateTime<Utc>>, recorded: &RecordedEvent) {
        self.cleanup_status = Some(CleanupStatus::Failed);
        self.last_fault = Some(fault.clone());
        if let Some(ended_as) = self.ended_as {
            self.end(ended_as, recorded);
        }
        if let Some(in_flight) = &mut self.in_flight {
            // Until then nobody is at it.
            in_flight.owner = None;
        }
        let action = match next_try_at {
            None => NextActionKind::AwaitOperator,
            Some(_) if self.status.is_open() => self.settling(),
            Some(_) => NextActionKind::RetryCleanup,
        };
        self.next_action = Some(NextAction { action, at: next_try_at, because: fault.message.clone() });
    }

    fn clean(&mut self, recorded: &RecordedEvent) {
        let wanted = self.release.as_ref().map(|release| (status_of(release.status), release.reason));
        let (status, reason) = wanted.unwrap_or((LeaseStatus::Failed, Reason::RecoverySettled));
        self.end_reason = self.end_reason.or(Some(reason));
        self.end(self.ended_as.unwrap_or(status), recorded);
        self.cleanup_status = Some(CleanupStatus::Success);
        self.needs_attention = false;
        self.next_action = None;
    }

    fn end(&mut self, status: LeaseStatus, recorded: &RecordedEvent) {
        self.status = status;
        self.ended_as = Some(status);
        self.ended_at = self.ended_at.or(Some(recorded.recorded_at));
        self.in_flight = None;
        self.release = None;
    }

    /// What settles the effect in flight.
    fn settling(&self) -> NextActionKind {
        if self.provider_lease.is_some() { NextActionKind::FinishRelease } else { NextActionKind::SettleAcquire }
    }

    /// Works out the end: the earlier of the wanted one and the provider's. Gives the provider's.
    fn bound_by_provider(&mut self) -> Option<DateTime<Utc>> {
        let provider_end = self.provider_lease.as_ref().and_then(|held| held.expires_at);
        self.expires_at = [self.requested_expires_at, provider_end].into_iter().flatten().min();
        provider_end
    }

    fn plan_expiry(&mut self, because: &str) {
        let provider_end = self.bound_by_provider();
        self.next_action = self.expires_at.map(|at| NextAction {
            action: NextActionKind::Expire,
            at: Some(at),
            because: if provider_end == Some(at) { "the provider ends it then".to_owned() } else { because.to_owned() },
        });
    }
}

fn effect_of(teardown: Teardown) -> Effect {
    match teardown {
        Teardown::ByPolicy => Effect::Release,
        Teardown::Destroy => Effect::Destroy,
    }
}

fn waits(action: NextActionKind, because: &str) -> NextAction {
    NextAction { action, at: None, because: because.to_owned() }
}

/// The status that a release which wants `wanted` ends in, where nothing is retained.
#[must_use]
pub fn status_of(wanted: ReleaseStatus) -> LeaseStatus {
    match wanted {
        ReleaseStatus::Released => LeaseStatus::Released,
        ReleaseStatus::Expired => LeaseStatus::Expired,
        ReleaseStatus::Failed => LeaseStatus::Failed,
    }
}

/// Whether a release of `policy` that wants `wanted` keeps what is at the provider.
#[must_use]
pub fn keeps(policy: Policy, wanted: ReleaseStatus) -> bool {
    match policy {
        Policy::Ephemeral => false,
        Policy::ReuseByEnvironment | Policy::ReuseByExecutionWorkspace => wanted == ReleaseStatus::Released,
        Policy::RetainOnFailure => wanted == ReleaseStatus::Failed,
    }
}
