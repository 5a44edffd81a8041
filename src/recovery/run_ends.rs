//! Runs that are over, worked on beside each other, each by itself: what both sweeps of runs share.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use lease_events::id::RunId;

use super::Pass;
use super::patience::Patience;
use super::report::SweepRow;
use crate::commands::Context;
use crate::commands::error::CommandError;
use crate::commands::silence::RunEnd;
use crate::commands::upkeep::Did;

/// Most runs of one look: a few seconds' work, so that a stop need not wait longer.
pub(super) const RUNS_PER_LOOK: usize = 256;
/// Most runs at once; the leases of each are released beside each other.
const AT_ONCE: usize = 8;

/// Ends these runs by `act`; answers a row a lease, or one for a run that had none or failed as a whole.
pub(super) async fn end_all<F>(
    pass: &Pass,
    runs: Vec<RunId>,
    did: Did,
    patience: &Patience<RunId>,
    act: impl Fn(Arc<Context>, RunId) -> F,
) -> Vec<SweepRow>
where
    F: Future<Output = Result<Option<RunEnd>, CommandError>> + Send + 'static,
{
    let one = |run_id| {
        let task = (!pass.stopping.is_cancelled()).then(|| tokio::spawn(act(Arc::clone(&pass.context), run_id)));
        async move {
            let Some(task) = task else { return Vec::new() };
            let result = task.await.unwrap_or_else(|broken| Err(CommandError::BrokenOff { cause: broken.to_string() }));
            let failed = result.as_ref().map_or(true, |end| end.iter().any(|end| !end.leases.failed.is_empty()));
            if failed {
                patience.failed_again(run_id);
            } else {
                patience.succeeded(&run_id);
            }
            rows(run_id, did, result)
        }
    };
    let rows: Vec<Vec<SweepRow>> = stream::iter(runs).map(one).buffer_unordered(AT_ONCE).collect().await;
    rows.into_iter().flatten().collect()
}

fn rows(run_id: RunId, did: Did, result: Result<Option<RunEnd>, CommandError>) -> Vec<SweepRow> {
    let row = |lease_id, did, because| SweepRow { lease_id, provider_lease_id: None, did, because };
    match result {
        Ok(None) => Vec::new(),
        Ok(Some(RunEnd { leases, because })) if leases.released.is_empty() && leases.failed.is_empty() => {
            vec![row(None, Some(did), because)]
        }
        Ok(Some(RunEnd { leases, because })) => {
            let released = leases.released.iter().map(|lease| row(Some(lease.lease_id), Some(did), because.clone()));
            let failed = leases.failed.iter().map(|(lease_id, error)| row(Some(*lease_id), None, error.to_string()));
            released.chain(failed).collect()
        }
        Err(error) => vec![row(None, None, format!("Run {run_id}: {error}"))],
    }
}
