//! One command's work on one lease's stream: load, append at the loaded revision, fold what was appended.
//!
//! **Invariants:** the state is always the fold of what the store answered. Event ids count the events that this
//! command has written to this stream, so that a command that is run again after a crash writes nothing twice.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use lease_events::codec::encode;
use lease_events::fold::{FoldError, StreamState};
use lease_events::id::{CompanyId, EventId, LeaseId};
use lease_events::lease::{LeaseEvent, LeaseState};
use lease_events::record::{Metadata, NewEvent, Position, RecordedEvent, StreamId};
use lease_events::store::{Append, AppendError, Appended, EventStore, Expected, recorded};

use tokio::time::Instant;

use super::Context;
use super::caller::Command;
use super::error::CommandError;
use super::replay::events_of;

/// How often an append is tried against others who write to the same stream. More than any honest contention: each
/// loss means that somebody else's event is durable.
const CONFLICTS_MAX: u32 = 32;

/// How long what has happened is tried to be stored: the outcome of an effect, before it is left to recovery, or the
/// end of a command, before its caller is told to ask again.
pub const OUTCOME_TRIED_FOR: Duration = Duration::from_secs(30);
/// First wait between two such tries; doubled up to [`OUTCOME_WAIT_MAX`].
const OUTCOME_WAIT_FIRST: Duration = Duration::from_millis(20);
/// Longest wait between two such tries.
const OUTCOME_WAIT_MAX: Duration = Duration::from_secs(2);

/// A command at work on a lease.
pub struct LeaseSession<'a> {
    context: &'a Context,
    command: &'a Command,
    lease_id: LeaseId,
    stream: StreamId,
    state: Option<LeaseState>,
    written: usize,
}

impl<'a> LeaseSession<'a> {
    /// The lease as its stream says now; it may not be there.
    pub async fn load(context: &'a Context, command: &'a Command, lease_id: LeaseId) -> Result<Self, CommandError> {
        let stream = StreamId::lease(lease_id);
        let mut session = Self { context, command, lease_id, stream, state: None, written: 0 };
        session.refresh().await?;
        Ok(session)
    }

    /// The lease as its stream says now, which must be there, and be of `company` where one is given.
    pub async fn load_existing(
        context: &'a Context,
        command: &'a Command,
        lease_id: LeaseId,
        company: Option<CompanyId>,
    ) -> Result<Self, CommandError> {
        let session = Self::load(context, command, lease_id).await?;
        match &session.state {
            Some(state) if company.is_none_or(|company| company == state.company_id) => Ok(session),
            _ => Err(CommandError::UnknownLease { lease_id, company_id: company }),
        }
    }

    /// Folds what was written to the stream since.
    pub async fn refresh(&mut self) -> Result<(), CommandError> {
        let from = self.state.as_ref().map_or(0, |state| state.revision + 1);
        let stream = self.stream.clone();
        let mut events = events_of(self.context.store.as_ref(), &stream, from);
        while let Some(recorded) = events.try_next().await? {
            self.follow(&recorded)?;
        }
        Ok(())
    }

    /// The state, where the lease is there.
    #[must_use]
    pub fn get(&self) -> Option<&LeaseState> {
        self.state.as_ref()
    }

    /// The state of a lease that is there.
    pub fn state(&self) -> Result<&LeaseState, CommandError> {
        self.state.as_ref().ok_or(CommandError::UnknownLease { lease_id: self.lease_id, company_id: None })
    }

    /// The state, taken out at the end of the command.
    pub fn into_state(self) -> Result<LeaseState, CommandError> {
        self.state.ok_or(CommandError::UnknownLease { lease_id: self.lease_id, company_id: None })
    }

    /// How many events this command has written to the stream, now or before a crash.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// The lease.
    #[must_use]
    pub fn lease_id(&self) -> LeaseId {
        self.lease_id
    }

    /// Appends an intent, or anything that is not the outcome of an effect, at the loaded revision. A conflict is
    /// the caller's to decide on anew.
    pub async fn append(&mut self, company: CompanyId, events: &[LeaseEvent]) -> Result<(), AppendError> {
        self.append_until(company, events, Instant::now()).await
    }

    async fn append_until(
        &mut self,
        company: CompanyId,
        events: &[LeaseEvent],
        tried_until: Instant,
    ) -> Result<(), AppendError> {
        let expected = Expected::after(self.state.as_ref().map(|state| state.revision));
        let encoded = encode(events, &self.stream, company, self.command.id, self.written, &self.metadata());
        self.check_legal(events, &encoded, expected)?;
        let append = Append { stream: self.stream.clone(), expected, events: encoded };
        let appended = append_until(self.context.store.as_ref(), append, tried_until).await?;
        let followed = appended.events.iter().try_for_each(|recorded| self.follow(recorded));
        followed.map_err(|error| AppendError::Invalid { sentence: error.to_string() })
    }

    /// Appends the outcome of an effect that has happened, whatever others wrote meanwhile: `outcome` is asked
    /// again with each fresh state, and answers nothing where somebody else has recorded it. A store that is away is
    /// tried for [`OUTCOME_TRIED_FOR`]; then the outcome is left to recovery, which finds the intent.
    pub async fn append_outcome(
        &mut self,
        mut outcome: impl FnMut(&LeaseState) -> Vec<LeaseEvent>,
    ) -> Result<(), CommandError> {
        let tried_until = Instant::now() + OUTCOME_TRIED_FOR;
        let mut conflicts = 0;
        loop {
            let state = self.state()?;
            let (company, events) = (state.company_id, outcome(state));
            if events.is_empty() {
                return Ok(());
            }
            match self.append_until(company, &events, tried_until).await {
                Ok(()) => return Ok(()),
                Err(AppendError::WrongExpectedRevision { .. }) if conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    self.refresh().await?;
                }
                Err(AppendError::WrongExpectedRevision { stream, .. }) => {
                    return Err(CommandError::Contention { stream });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Loads, decides and appends until the append is not overtaken. `decide` answers nothing where there is
    /// nothing to append.
    pub async fn decide(
        &mut self,
        mut decide: impl FnMut(&LeaseState) -> Result<Vec<LeaseEvent>, CommandError>,
    ) -> Result<(), CommandError> {
        for _ in 0..CONFLICTS_MAX {
            let state = self.state()?;
            let (company, events) = (state.company_id, decide(state)?);
            if events.is_empty() {
                return Ok(());
            }
            match self.append(company, &events).await {
                Err(AppendError::WrongExpectedRevision { .. }) => self.refresh().await?,
                result => return Ok(result?),
            }
        }
        Err(CommandError::Contention { stream: self.stream.clone() })
    }

    /// Refuses events of which one may not follow: what is stored once is never taken back.
    fn check_legal(&self, events: &[LeaseEvent], encoded: &[NewEvent], expected: Expected) -> Result<(), AppendError> {
        let mut state = self.state.clone();
        for (revision, (event, encoded)) in (expected.first_revision()..).zip(events.iter().zip(encoded)) {
            let now = self.context.clock.now();
            let provisional = recorded(encoded.clone(), &self.stream, revision, Position(u64::MAX), now);
            state = match LeaseState::evolve(state, event, &provisional) {
                Ok(state) => Some(state),
                Err(illegal) => {
                    return Err(AppendError::Invalid { sentence: format!("{}: {illegal}", self.stream) });
                }
            };
        }
        Ok(())
    }

    /// What stands beside the data: the lease's run is the conversation, whoever acts on it.
    fn metadata(&self) -> Metadata {
        let metadata = self.command.metadata();
        match self.state.as_ref().and_then(|state| state.run_id) {
            Some(run_id) => Metadata { correlation_id: run_id.to_string(), ..metadata },
            None => metadata,
        }
    }

    fn follow(&mut self, recorded: &RecordedEvent) -> Result<(), FoldError> {
        self.state = Some(LeaseState::apply(self.state.take(), recorded)?);
        if recorded.event_id == EventId::of_command(self.command.id, self.stream.as_str(), self.written) {
            self.written += 1;
        }
        Ok(())
    }
}

/// How often an append whose reply was lost is sent again; the store knows it by its ids.
const LOST_REPLIES_MAX: u32 = 3;

/// Appends, and sends an append whose reply was lost again: it is the same append.
pub async fn append_surely(store: &dyn EventStore, append: Append) -> Result<Appended, AppendError> {
    let mut lost = 0;
    loop {
        match store.append(append.clone()).await {
            Err(AppendError::OutcomeUnknown { .. }) if lost < LOST_REPLIES_MAX => lost += 1,
            result => return result,
        }
    }
}

/// Appends surely, and tries a store that is away again until then.
pub async fn append_until(
    store: &dyn EventStore,
    append: Append,
    tried_until: Instant,
) -> Result<Appended, AppendError> {
    let mut wait = OUTCOME_WAIT_FIRST;
    loop {
        match append_surely(store, append.clone()).await {
            Err(AppendError::Unavailable { cause }) if Instant::now() < tried_until => {
                tracing::warn!(stream = %append.stream, %cause, "what has happened could not be stored yet");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(OUTCOME_WAIT_MAX);
            }
            result => return result,
        }
    }
}
