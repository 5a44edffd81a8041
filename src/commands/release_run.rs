//! Release of a run: every lease of it ends, and it can acquire nothing any more. The run's own stream remembers
//! it, so that a release which overtakes an acquire wins, even one that has not arrived yet.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lease_events::codec::{decode, encode};
use lease_events::id::{CompanyId, LeaseId, RunId};
use lease_events::lease::LeaseState;
use lease_events::lease::vocabulary::{Reason, ReleaseStatus};
use lease_events::record::StreamId;
use lease_events::run::{RunEvent, RunReleased};
use lease_events::seam::crash::Step;
use lease_events::store::{Append, AppendError, Direction, Expected};
use serde::Serialize;

use super::Context;
use super::authority::Authority;
use super::caller::Command;
use super::error::CommandError;
use super::release::{ReleaseRequest, release};
use super::session::append_surely;

/// How long a release of a run waits for the projections to have seen all that was stored before it.
const PROJECTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseRunRequest {
    /// The tenant.
    pub company_id: CompanyId,
    /// The run.
    pub run_id: RunId,
    /// How its leases shall end.
    pub status: ReleaseStatus,
}

/// What became of a run's leases: one entry a lease, in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReleaseReport {
    /// Leases that are over, or on their way.
    pub released: Vec<LeaseState>,
    /// Leases that could not even be recorded as released, with the reason (W5: they stop none of the others).
    pub failed: Vec<(LeaseId, CommandError)>,
}

/// Releases all that the run holds. One lease's failure never stops the others.
pub async fn release_run(
    context: &Context,
    command: &Command,
    request: &ReleaseRunRequest,
) -> Result<RunReleaseReport, CommandError> {
    let remembered_at = context.step(Step::ReleaseRunIntent, remember(context, command, request)).await?;
    // A lease whose intent was stored before the run's release is in the projection by then; one whose intent
    // comes later finds the release on the run's stream.
    context.read_model.wait_for(remembered_at, PROJECTED_WITHIN).await?;
    let leases = context.read_model.open_leases_of_run(Some(request.company_id), request.run_id).await?;
    let mut releases: FuturesUnordered<_> = leases
        .into_iter()
        .map(|lease_id| async move {
            let follow_up = command.follow_up(&format!("release {lease_id}"));
            let one = ReleaseRequest {
                company_id: Some(request.company_id),
                lease_id,
                authority: Some(Authority::Run),
                if_revision: None,
                status: request.status,
            };
            (lease_id, release(context, &follow_up, &one).await)
        })
        .collect();
    let mut report = RunReleaseReport { released: Vec::new(), failed: Vec::new() };
    while let Some((lease_id, result)) = releases.next().await {
        match result {
            Ok(state) => report.released.push(state),
            Err(error) => report.failed.push((lease_id, error)),
        }
    }
    report.released.sort_by_key(|state| state.lease_id);
    report.failed.sort_by_key(|(lease_id, _)| *lease_id);
    Ok(report)
}

/// Records the run's release, once; answers the position behind which no acquire of it can go on.
async fn remember(
    context: &Context,
    command: &Command,
    request: &ReleaseRunRequest,
) -> Result<lease_events::record::Position, CommandError> {
    let stream = StreamId::run(request.run_id);
    let reason = if request.status == ReleaseStatus::Failed { Reason::RunLost } else { Reason::RunEnded };
    let event: RunEvent = RunReleased { run_id: request.run_id, status: request.status, reason }.into();
    let append = Append {
        events: encode(&[event], &stream, request.company_id, command.id, 0, &command.metadata()),
        stream,
        expected: Expected::NoStream,
    };
    match append_surely(context.store.as_ref(), append).await {
        Ok(appended) => Ok(appended.position()),
        // It was released before; its leases are looked at again all the same.
        Err(AppendError::WrongExpectedRevision { .. }) => Ok(context.store.head().await?),
        Err(error) => Err(error.into()),
    }
}

/// Refuses where the run was released, whenever that was.
pub async fn check_not_released(context: &Context, run_id: RunId) -> Result<(), CommandError> {
    let events = context.store.read_stream(&StreamId::run(run_id), 0, Direction::Forwards, 1).await?;
    match events.first() {
        Some(recorded) => {
            let RunEvent::Released(_) = decode(recorded).map_err(lease_events::lease::state::FoldError::from)?;
            Err(CommandError::RunReleased { run_id, released_at: recorded.recorded_at })
        }
        None => Ok(()),
    }
}
