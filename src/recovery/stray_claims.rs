//! Claims by leases that will never take over what they claimed: it goes back to the lease that kept it.

use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LeaseId;
use lease_projections::read_model::ROWS_MAX;

use super::due::ROWS_PER_LOOK;
use super::patience::Patience;
use super::report::{SweepReport, SweepRow};
use super::{Pass, Sweep};
use crate::commands::settle::claim::settle_claim;
use crate::commands::upkeep::command_of;

/// How often it is looked: each look reads the index of the claims of which nobody knows yet what becomes of them, and the
/// streams of both leases of each. Most are those of acquires under way.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The sweep.
#[derive(Debug, Default)]
pub struct StrayClaims(Patience<LeaseId>);

#[async_trait]
impl Sweep for StrayClaims {
    fn name(&self) -> &'static str {
        "stray-claims"
    }

    fn look_every(&self) -> Duration {
        LOOK_EVERY
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let context = &pass.context;
        let (mut report, mut after) = (SweepReport::default(), None);
        loop {
            let page = match context.read_model.open_claims(after, ROWS_MAX).await {
                Ok(page) => page,
                Err(error) => return SweepReport { fault: Some(error.to_string()), ..report },
            };
            after = page.last().map(|claim| (claim.claimed_at, claim.lease_id));
            for lease_id in page.iter().map(|claim| claim.lease_id).filter(|lease_id| !self.0.waits(lease_id)) {
                if pass.stopping.is_cancelled() || report.rows.len() >= ROWS_PER_LOOK {
                    return report;
                }
                let settled = settle_claim(context, &command_of(context, self.name()), lease_id).await;
                report.rows.extend(SweepRow::of(lease_id, settled, &self.0));
            }
            if page.len() < ROWS_MAX {
                return report;
            }
        }
    }
}
