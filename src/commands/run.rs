//! A run's stream as commands see it: its last event says all that is true of it.

use lease_events::codec::{decode, encode};
use lease_events::fold::FoldError;
use lease_events::id::{CompanyId, RunId};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::run::RunEvent;
use lease_events::store::{Append, AppendError, Direction, Expected};

use super::Context;
use super::caller::Command;
use super::error::CommandError;
use super::session::append_surely;

/// How often a change of a run is tried against others who change it.
pub(super) const CONFLICTS_MAX: u32 = 32;

/// A run as its stream says now: its last event, whose revision the next one must follow.
pub(super) struct RunNow {
    run_id: RunId,
    last: Option<(RecordedEvent, RunEvent)>,
}

impl RunNow {
    /// Reads one event, however long the stream is.
    pub(super) async fn load(context: &Context, run_id: RunId) -> Result<Self, CommandError> {
        let events = context.store.read_stream(&StreamId::run(run_id), u64::MAX, Direction::Backwards, 1).await?;
        let last = match events.into_iter().next() {
            Some(recorded) => {
                let event = decode(&recorded).map_err(FoldError::from)?;
                Some((recorded, event))
            }
            None => None,
        };
        Ok(Self { run_id, last })
    }

    /// The last event, where there is one; refused where the run is another company's.
    pub(super) fn event_in(&self, company_id: CompanyId) -> Result<Option<&RunEvent>, CommandError> {
        match &self.last {
            Some((recorded, _)) if recorded.company_id != company_id => {
                Err(CommandError::UnknownRun { run_id: self.run_id, company_id })
            }
            last => Ok(last.as_ref().map(|(_, event)| event)),
        }
    }

    /// The last event as it is recorded, and what it says.
    pub(super) fn last(&self) -> Option<(&RecordedEvent, &RunEvent)> {
        self.last.as_ref().map(|(recorded, event)| (recorded, event))
    }

    /// Refuses where the run was released.
    pub(super) fn check_not_released(&self) -> Result<(), CommandError> {
        match &self.last {
            Some((recorded, RunEvent::Released(_))) => {
                Err(CommandError::RunReleased { run_id: self.run_id, released_at: recorded.recorded_at })
            }
            _ => Ok(()),
        }
    }

    /// Appends one event at the loaded revision; `None` where somebody else's was first.
    pub(super) async fn append(
        &self,
        context: &Context,
        command: &Command,
        company_id: CompanyId,
        event: RunEvent,
    ) -> Result<Option<Position>, CommandError> {
        let stream = StreamId::run(self.run_id);
        let append = Append {
            events: encode(&[event], &stream, company_id, command.id, 0, &command.metadata()),
            stream,
            expected: Expected::after(self.last.as_ref().map(|(recorded, _)| recorded.stream_revision)),
        };
        match append_surely(context.store.as_ref(), append).await {
            Ok(appended) => Ok(Some(appended.position())),
            Err(AppendError::WrongExpectedRevision { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Too many others change the run.
    pub(super) fn contention(run_id: RunId) -> CommandError {
        CommandError::Contention { stream: StreamId::run(run_id) }
    }
}
