//! What the ledger does of its own accord: recovery and reconciliation, in the background and by hand.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;

use super::Ledger;
use crate::commands::error::CommandError;
use crate::recovery::late::{self, LateLease};
use crate::recovery::reconcile::ReconcileRequest;
use crate::recovery::reconcile::report::Reconciliation;
use crate::recovery::report::NamedReport;
use crate::recovery::{self, Pass, service};

impl Ledger {
    /// Starts recovery: from now on until the ledger stops, whatever is due is seen to. To be called once by whoever
    /// keeps a ledger open; without it, leases expire and what was broken off is settled only by [`Self::recover`].
    pub fn start_recovery(&self) {
        for sweep in self.sweeps.iter().map(Arc::clone) {
            let (context, duties) = (Arc::clone(&self.context), Arc::clone(&self.duties));
            let pass = |stopping| Pass { context, stopping, by_hand: false };
            self.in_background(|stopping| service::keep(sweep, pass(stopping), duties));
        }
    }

    /// Settles leases by what their providers answer too late, for as long as the ledger runs.
    pub fn settle_late(&self, answers: BoxStream<'static, LateLease>) {
        let context = Arc::clone(&self.context);
        self.in_background(|stopping| late::keep(answers, Pass { context, stopping, by_hand: false }));
    }

    /// Runs one pass of recovery by hand: every sweep, until nothing more is due. Answers what was done and why.
    pub async fn recover(&self) -> Result<Vec<NamedReport>, CommandError> {
        if self.stopping.is_cancelled() {
            return Err(CommandError::Stopping);
        }
        let pass = Pass { context: Arc::clone(&self.context), stopping: self.stopping.clone(), by_hand: true };
        let sweeps = Arc::clone(&self.sweeps);
        let task = self.tasks.spawn(async move { recovery::pass(&pass, &sweeps).await });
        task.await.map_err(|broken| CommandError::BrokenOff { cause: broken.to_string() })
    }

    /// Sets how often recovery reconciles the ledger with its providers; every 5 minutes where nobody does.
    pub fn reconcile_every(&self, every: Duration) {
        self.reconciler.look_each(every);
    }

    /// Reconciles the ledger with its providers, now. Answers where they disagree, and what was done about it.
    pub async fn reconcile(&self, request: ReconcileRequest) -> Result<Reconciliation, CommandError> {
        if self.stopping.is_cancelled() {
            return Err(CommandError::Stopping);
        }
        let pass = Pass { context: Arc::clone(&self.context), stopping: self.stopping.clone(), by_hand: true };
        let reconciler = Arc::clone(&self.reconciler);
        let task = self.tasks.spawn(async move { reconciler.by_hand(&pass, request).await });
        task.await.map_err(|broken| CommandError::BrokenOff { cause: broken.to_string() })
    }
}
