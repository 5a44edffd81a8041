//! What leases left at their providers, and nobody keeps, is destroyed.

use std::sync::Arc;

use async_trait::async_trait;
use lease_events::lease::vocabulary::NextActionKind;

use super::due::DueRows;
use super::report::SweepReport;
use super::{Pass, Sweep};
use crate::commands::Context;
use crate::commands::cleanup::cleanup;
use crate::commands::upkeep::command_of;

/// The sweep.
#[derive(Debug)]
pub struct Cleaning(DueRows);

impl Default for Cleaning {
    fn default() -> Self {
        Self(DueRows::of(NextActionKind::RetryCleanup))
    }
}

#[async_trait]
impl Sweep for Cleaning {
    fn name(&self) -> &'static str {
        "cleanup"
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let act = |context: Arc<Context>, lease_id| async move {
            cleanup(&context, &command_of(&context, "cleanup"), lease_id).await
        };
        self.0.look(pass, act).await
    }
}
