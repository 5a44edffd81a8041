//! Probe an environment: would it work? The finding is put on record. A probe is no activity of any lease.

use lease_events::environment::{EnvironmentProbed, EnvironmentState};
use lease_events::id::{CompanyId, EnvironmentId};
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::{Command, CommandError, Context};
use crate::commands::effect;
use crate::drivers::{ProbeReport, ProbeScope};

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeEnvironment {
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
}

/// Asks the driver, and records what it found.
pub async fn probe(
    context: &Context,
    command: &Command,
    request: &ProbeEnvironment,
) -> Result<(EnvironmentState, ProbeReport), CommandError> {
    if let Some(left) = super::left_by(context, command, request.environment_id).await?
        && let Some(found) = &left.last_probe
    {
        // What was found is on record; what was said besides is not.
        let report = ProbeReport { ok: found.ok, summary: found.summary.clone(), diagnostics: Vec::new() };
        return Ok((left, report));
    }
    let environment = super::load_in(context, request.environment_id, request.company_id).await?;
    let driver = effect::driver(context, &environment.driver)?;
    let scope = ProbeScope { company_id: request.company_id, environment_id: request.environment_id };
    let report = context.step(Step::ProbeEffect, driver.probe(&scope, &environment.config)).await;
    let probed = EnvironmentProbed { ok: report.ok, summary: report.summary.clone() };
    let state = super::change(context, command, request.environment_id, request.company_id, |_| {
        Ok(Some(probed.clone().into()))
    })
    .await?;
    Ok((state, report))
}
