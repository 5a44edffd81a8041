//! Leases whose time is over are released as `expired`.

use async_trait::async_trait;
use lease_events::lease::vocabulary::NextActionKind;

use super::due::DueRows;
use super::report::SweepReport;
use super::{Pass, Sweep};
use crate::commands::expire::expire;
use crate::commands::upkeep::command_of;

/// The sweep.
#[derive(Debug)]
pub struct Expiry(DueRows);

impl Default for Expiry {
    fn default() -> Self {
        Self(DueRows::of(NextActionKind::Expire))
    }
}

#[async_trait]
impl Sweep for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let act = |context: std::sync::Arc<crate::commands::Context>, lease_id| async move {
            let command = command_of(&context, "expiry");
            expire(&context, &command, lease_id).await
        };
        self.0.look(pass, act).await
    }
}
