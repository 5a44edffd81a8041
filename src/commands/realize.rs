//! Realize: makes the workspace of an active lease ready, and records where it is (B24).
//!
//! It leaves no intent behind: a realize that was broken off makes nothing that is not the lease's already, and goes
//! with it. Whoever wants it asks again.

use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::LeaseRealized;
use lease_events::lease::vocabulary::Effect;
use lease_events::seam::crash::Step;
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use super::authority::{self, Authority};
use super::caller::Command;
use super::effect::{driver_of, held, scope, within};
use super::error::CommandError;
use super::session::LeaseSession;
use crate::drivers::{Outcome, Realized, Workspace};

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct RealizeRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// By what right.
    pub authority: Option<Authority>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
    /// The workspace.
    pub workspace: Workspace,
}

/// Makes the workspace ready; the lease's `cwd` and realization record are set in the answer.
pub async fn realize(
    context: &Context,
    command: &Command,
    request: &RealizeRequest,
) -> Result<LeaseState, CommandError> {
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    if session.written() > 0 {
        return session.into_state();
    }
    let state = session.state()?;
    authority::check_revision(request.if_revision, state)?;
    authority::check_usable(state, context.clock.now())?;
    authority::check(request.authority.as_ref(), state)?;

    let driver = driver_of(context, state)?;
    let call = scope(state, state.fencing_token().unwrap_or_default(), 1);
    let limit = driver.traits(&state.config).call_timeout;
    let held = held(state);
    let effect = within(limit, driver.realize(&call, &held, &request.workspace));
    let outcome = context.step(Step::RealizeEffect, effect).await;
    let lease_id = request.lease_id;
    match outcome {
        Outcome::Done(realized) => {
            let event =
                LeaseRealized { cwd: realized.cwd.clone(), realization: record(state, &request.workspace, &realized) };
            // The lease may have been released meanwhile; then there is no workspace to speak of.
            let record = session.decide(|state| {
                if state.status.is_open() {
                    Ok(vec![event.clone().into()])
                } else {
                    authority::check_usable(state, state.updated_at).map(|()| Vec::new())
                }
            });
            context.step(Step::RealizeOutcome, record).await?;
            session.into_state()
        }
        Outcome::NotDone(fault) | Outcome::Refused(fault) => {
            Err(CommandError::Provider { lease_id, effect: Effect::Realize, fault })
        }
        Outcome::Unknown(fault) => Err(CommandError::OutcomeUnknown { lease_id, effect: Effect::Realize, fault }),
    }
}

/// The workspace realization record, version 1 (B24). The host builds it, whatever the driver.
fn record(state: &LeaseState, workspace: &Workspace, realized: &Realized) -> Value {
    let mut record = json!({
        "version": 1,
        "transport": state.driver,
        "provider": state.provider,
        "environmentId": state.environment_id,
        "leaseId": state.lease_id,
        "providerLeaseId": state.provider_lease_id(),
        "remote": realized.remote,
        "sync": realized.sync,
        "summary": realized.summary,
    });
    if let Some(path) = &workspace.local_path {
        record["local"] = json!({ "path": path });
    }
    if !realized.metadata.is_empty() {
        record["metadata"] = Value::Object(realized.metadata.clone());
    }
    record
}
