//! Renew: an active lease lasts until a new moment. No effect: what the provider confirmed stays its bound (B23).

use chrono::{DateTime, Utc};
use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::LeaseRenewed;
use lease_events::seam::crash::Step;
use serde::Serialize;

use super::Context;
use super::authority::{self, Authority};
use super::caller::Command;
use super::error::{CommandError, moment};
use super::session::LeaseSession;

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct RenewRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// By what right.
    pub authority: Option<Authority>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
    /// The new end.
    pub expires_at: DateTime<Utc>,
}

/// Sets a new end. An expired lease cannot be renewed, and none beyond what its provider confirmed.
pub async fn renew(context: &Context, command: &Command, request: &RenewRequest) -> Result<LeaseState, CommandError> {
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    if session.written() > 0 {
        return session.into_state();
    }
    authority::check_revision(request.if_revision, session.state()?)?;
    let renewal = session.decide(|state| decide(state, request, context.clock.now()));
    context.step(Step::RenewOutcome, renewal).await?;
    session.into_state()
}

fn decide(
    state: &LeaseState,
    request: &RenewRequest,
    now: DateTime<Utc>,
) -> Result<Vec<lease_events::lease::LeaseEvent>, CommandError> {
    authority::check_usable(state, now)?;
    authority::check(request.authority.as_ref(), state)?;
    let refuse = |sentence: String| Err(CommandError::Invalid { field: "expiresAt", sentence });
    if request.expires_at <= now {
        return refuse(format!(
            "\"expiresAt\" {} is not in the future; it is {} now.",
            moment(request.expires_at),
            moment(now)
        ));
    }
    match state.provider_lease.as_ref().and_then(|held| held.expires_at) {
        Some(end) if request.expires_at > end => refuse(format!(
            "\"expiresAt\" {} is beyond the end that the provider confirmed; ask for {} at the latest.",
            moment(request.expires_at),
            moment(end)
        )),
        _ => Ok(vec![LeaseRenewed { expires_at: request.expires_at }.into()]),
    }
}
