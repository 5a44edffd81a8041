//! Commands in workspaces that were started and never ended: those whose process is dead, or whose time is over, are put on
//! record as unknown.

use std::collections::BTreeSet;

use std::time::Duration;

use async_trait::async_trait;
use lease_events::id::LeaseId;
use lease_events::lease::LeaseState;
use lease_projections::projection::QueryError;
use lease_projections::read_model::{LeaseFilter, ROWS_MAX};

use super::due::ROWS_PER_LOOK;
use super::patience::Patience;
use super::report::{SweepReport, SweepRow};
use super::{Pass, Sweep};
use crate::commands::Context;
use crate::commands::settle::command::{lost, settle_commands};
use crate::commands::upkeep::command_of;

/// How often it is looked: each look reads the index of the leases in which commands run, and asks for each of their
/// processes whether it is dead.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The sweep.
#[derive(Debug, Default)]
pub struct LostCommands(Patience<LeaseId>);

impl LostCommands {
    /// The leases in whose workspace a command is lost; and whether there may be more than one look takes.
    async fn find(&self, context: &Context) -> Result<(Vec<LeaseId>, bool), QueryError> {
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let filter = LeaseFilter { running_commands: true, before, limit: ROWS_MAX, ..LeaseFilter::default() };
            let page = context.read_model.leases(&filter).await?;
            before = page.last().map(|lease| lease.created_position);
            let running = page.iter().flat_map(|lease| &lease.running);
            let owners: BTreeSet<&str> = running.map(|running| running.owner.as_str()).collect();
            for owner in owners.into_iter().filter(|owner| *owner != context.owner) {
                context.owners.look_up(owner).await;
            }
            let is_lost = |lease: &LeaseState| lease.running.iter().any(|running| lost(context, running).is_some());
            let lost = page.iter().filter(|lease| !self.0.waits(&lease.lease_id) && is_lost(lease));
            found.extend(lost.map(|lease| lease.lease_id));
            if found.len() > ROWS_PER_LOOK {
                found.truncate(ROWS_PER_LOOK);
                return Ok((found, true));
            }
            if page.len() < ROWS_MAX {
                return Ok((found, false));
            }
        }
    }
}

#[async_trait]
impl Sweep for LostCommands {
    fn name(&self) -> &'static str {
        "lost-commands"
    }

    fn look_every(&self) -> Duration {
        LOOK_EVERY
    }

    async fn run_once(&self, pass: &Pass) -> SweepReport {
        let context = &pass.context;
        let (found, more) = match self.find(context).await {
            Ok(found) => found,
            Err(error) => return SweepReport::failed(&error),
        };
        let mut report = SweepReport { more, ..SweepReport::default() };
        for lease_id in found {
            if pass.stopping.is_cancelled() {
                break;
            }
            let settled = settle_commands(context, &command_of(context, self.name()), lease_id).await;
            report.rows.extend(SweepRow::of(lease_id, settled, &self.0));
        }
        report
    }
}
