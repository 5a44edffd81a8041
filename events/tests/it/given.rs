//! Given a history, when an event follows, then this is so: the form of every example-based test of the lease.

use lease_events::lease::transition::IllegalTransition;
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus, NextActionKind};
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::record::{RecordedEvent, StreamId};

use crate::samples::{lease, recorded};

/// A lease with a past.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    history: Vec<RecordedEvent>,
    state: Option<LeaseState>,
}

/// A lease that is not there yet.
pub(crate) fn given() -> Given {
    Given { history: Vec::new(), state: None }
}

impl Given {
    /// One more event, which must be legal.
    #[track_caller]
    pub(crate) fn when(mut self, event: impl Into<LeaseEvent>) -> Self {
        if let Err(illegal) = self.append(&event.into()) {
            panic!("{illegal}, after {:?}", self.types());
        }
        self
    }

    /// An event that must be refused, in words that name the status and the type; the state stays as it is.
    #[track_caller]
    pub(crate) fn refuses(mut self, event: impl Into<LeaseEvent>) -> Self {
        let before = self.state.clone();
        let event: LeaseEvent = event.into();
        match self.append(&event) {
            Ok(()) => panic!("{event:?} was taken after {:?}", self.types()),
            Err(illegal) => assert_eq!(illegal.status, before.as_ref().map(|state| state.status)),
        }
        self.state = before;
        self
    }

    /// Where the lease stands: its status, its cleanup, and what comes next.
    #[track_caller]
    pub(crate) fn then(
        self,
        status: LeaseStatus,
        cleanup: impl Into<Option<CleanupStatus>>,
        next: impl Into<Option<NextActionKind>>,
    ) -> Self {
        let state = self.state();
        let found = (state.status, state.cleanup_status, state.next_action.as_ref().map(|next| next.action));
        assert_eq!(found, (status, cleanup.into(), next.into()), "after {:?}", self.types());
        self
    }

    /// Anything else that is to hold of the state.
    #[track_caller]
    pub(crate) fn and(self, check: impl FnOnce(&LeaseState)) -> Self {
        check(self.state());
        self
    }

    /// The state, of a lease that is there.
    #[track_caller]
    pub(crate) fn state(&self) -> &LeaseState {
        self.state.as_ref().expect("the history has begun")
    }

    /// The recorded events so far.
    pub(crate) fn history(&self) -> &[RecordedEvent] {
        &self.history
    }

    /// The state, where the lease is there.
    pub(crate) fn state_if_any(&self) -> Option<&LeaseState> {
        self.state.as_ref()
    }

    /// Appends what may follow; refuses what may not.
    pub(crate) fn append(&mut self, event: &LeaseEvent) -> Result<(), IllegalTransition> {
        LeaseState::check(self.state.as_ref(), event)?;
        let revision = self.history.len() as u64;
        let recorded = recorded(event, &StreamId::lease(lease("lease")), revision, revision + 1);
        self.state = Some(LeaseState::evolve(self.state.take(), event, &recorded)?);
        self.history.push(recorded);
        Ok(())
    }

    fn types(&self) -> Vec<&str> {
        self.history.iter().map(|event| &*event.event_type).collect()
    }
}
