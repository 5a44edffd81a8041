//! Recovery: what finds, at start and all the time, whatever is due: leases whose time is over, effects that an intent
//! began and no outcome ended, cleanup that is owed. One file a sweep; `lease-ledger recover` runs them by hand.
//!
//! **Invariants**
//! - Recovery chooses and calls commands; it never appends. A command revalidates on the stream that it loads, so a
//!   sweep may look at a stale projection, twice, or beside another process.
//! - One bad row never holds up the others: each is worked on in a task of its own, and one that fails waits longer
//!   each time while the look goes on behind it ([`due`]).
//! - A look is bounded in rows, and in how many it works on at once for one provider, so that what has piled up (a
//!   restart, a provider that was away) does not storm it.
//! - What is due is found through an index, never by reading the log or folding all streams.

pub mod cleaning;
pub mod due;
pub mod duties;
pub mod ended_runs;
pub mod expiry;
pub mod late;
pub mod patience;
pub mod reconcile;
pub mod report;
pub mod service;
pub mod settling;
pub mod silent_runs;

mod run_ends;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::commands::Context;
use report::{NamedReport, SweepReport};

/// Looks for one kind of what is due, and sees to it.
#[async_trait]
pub trait Sweep: Send + Sync {
    /// Its name, such as `expiry`: in reports, in logs, and as the actor of what it does.
    fn name(&self) -> &'static str;

    /// The longest time between two looks, where nothing is due earlier. It is also how long something may wait that
    /// another process stored, or that a jump of the clock made due.
    fn look_every(&self) -> std::time::Duration {
        service::LOOK_EVERY
    }

    /// Takes one look.
    async fn run_once(&self, pass: &Pass) -> SweepReport;
}

/// What a look works with.
#[derive(Clone)]
pub struct Pass {
    /// What commands use.
    pub context: Arc<Context>,
    /// Set when the ledger stops: a row that was begun is finished, and no other is begun.
    pub stopping: CancellationToken,
    /// Whether somebody waits for it: then nothing that is costly to find is left for a later look.
    pub by_hand: bool,
}

/// The sweeps that a ledger has, in the order of a pass by hand: what is settled or expired first may owe a cleanup, and
/// what nobody owes is looked for last.
#[must_use]
pub fn standard(reconciler: &Arc<reconcile::Reconciler>) -> Vec<Arc<dyn Sweep>> {
    vec![
        Arc::new(settling::Settling::acquires()),
        Arc::new(settling::Settling::releases()),
        Arc::new(silent_runs::SilentRuns::default()),
        Arc::new(ended_runs::EndedRuns::default()),
        Arc::new(expiry::Expiry::default()),
        Arc::new(cleaning::Cleaning::default()),
        Arc::clone(reconciler) as Arc<dyn Sweep>,
    ]
}

/// Most looks that one sweep takes in a pass by hand: a million rows, should as many be due.
const LOOKS_MAX: usize = 4_096;

/// One pass of all sweeps, by hand: each looks until nothing more is due.
pub async fn pass(pass: &Pass, sweeps: &[Arc<dyn Sweep>]) -> Vec<NamedReport> {
    let mut reports = Vec::new();
    for sweep in sweeps {
        let mut report = sweep.run_once(pass).await;
        for _ in 1..LOOKS_MAX {
            if !report.more || report.fault.is_some() || pass.stopping.is_cancelled() {
                break;
            }
            report = report.followed_by(sweep.run_once(pass).await);
        }
        reports.push(NamedReport { sweep: sweep.name(), report });
    }
    reports
}
