//! Resume: the provider lease of an active lease, or of one retained for inspection, is made to run again, under a
//! new and higher fencing token. Nothing new is made, so there is no intent to leave behind.

use lease_events::failure::Fault;
use lease_events::id::{CompanyId, LeaseId};
use lease_events::lease::LeaseState;
use lease_events::lease::event::{LeaseCleanupSucceeded, LeaseEvent, LeaseResumed, Receipt};
use lease_events::lease::vocabulary::{CleanupStatus, Effect, LeaseStatus, ReceiptState};
use lease_events::seam::crash::Step;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Context;
use super::authority::{self, Authority};
use super::caller::Command;
use super::effect::{driver_of, held, scope, within};
use super::error::CommandError;
use super::session::LeaseSession;
use crate::drivers::{Acquired, Held, IDENTITY_FIELDS, Outcome, Resumed};

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct ResumeRequest {
    /// The tenant, where the caller is bound to one.
    pub company_id: Option<CompanyId>,
    /// The lease.
    pub lease_id: LeaseId,
    /// By what right.
    pub authority: Option<Authority>,
    /// The revision that the caller decided on.
    pub if_revision: Option<u64>,
}

/// Resumes what the lease holds; the answer bears the new token.
pub async fn resume(context: &Context, command: &Command, request: &ResumeRequest) -> Result<LeaseState, CommandError> {
    // A release of the same lease waits until the resume is on record, and so hits what is then held.
    let _held = context.locks.hold(request.lease_id.0).await;
    let mut session = LeaseSession::load_existing(context, command, request.lease_id, request.company_id).await?;
    if session.written() > 0 {
        return session.into_state();
    }
    let state = session.state()?;
    authority::check_revision(request.if_revision, state)?;
    check_resumable(state, context.clock.now())?;
    authority::check(request.authority.as_ref(), state)?;

    let lease_id = request.lease_id;
    let token = state.fencing_token().unwrap_or_default() + 1;
    let driver = driver_of(context, state)?;
    let limit = driver.traits(&state.config).call_timeout;
    let before = held(state);
    let scope = scope(state, token, 1);
    let effect = within(limit, driver.resume(&scope, &before));
    match context.step(Step::ResumeEffect, effect).await {
        Outcome::Done(Resumed::Same(now_held)) if is_same(&before, &now_held) => {
            let record = session.append_outcome(|_| vec![resumed(now_held.clone(), token, None).into()]);
            context.step(Step::ResumeOutcome, record).await?;
            session.into_state()
        }
        Outcome::Done(Resumed::Gone | Resumed::Same(_)) => {
            let fault = Fault::new("gone", "the provider has nothing of it any more; acquire a new lease");
            if session.state()?.status == LeaseStatus::Retained {
                session.append_outcome(|state| vec![gone(state)]).await?;
            }
            Err(CommandError::Provider { lease_id, effect: Effect::Resume, fault })
        }
        Outcome::NotDone(fault) | Outcome::Refused(fault) => {
            Err(CommandError::Provider { lease_id, effect: Effect::Resume, fault })
        }
        Outcome::Unknown(fault) => Err(CommandError::OutcomeUnknown { lease_id, effect: Effect::Resume, fault }),
    }
}

fn check_resumable(state: &LeaseState, now: chrono::DateTime<chrono::Utc>) -> Result<(), CommandError> {
    // What failed to be torn down is torn down again: it can no longer be trusted to be there.
    let is_kept = state.cleanup_status == Some(CleanupStatus::Pending);
    if state.status == LeaseStatus::Retained && is_kept && state.claimed_by.is_none() {
        return Ok(());
    }
    authority::check_usable(state, now)
}

/// What a resume puts on record.
pub(super) fn resumed(now_held: Acquired, fencing_token: u64, from_lease_id: Option<LeaseId>) -> LeaseResumed {
    LeaseResumed {
        provider_lease_id: now_held.provider_lease_id.unwrap_or_default(),
        metadata: now_held.metadata,
        expires_at: now_held.expires_at,
        fencing_token,
        from_lease_id,
    }
}

/// That nothing of the lease is at the provider any more.
pub(super) fn gone(state: &LeaseState) -> LeaseEvent {
    let provider_lease_id = state.provider_lease_id().map(str::to_owned);
    LeaseCleanupSucceeded { receipt: Receipt { state: ReceiptState::Gone, provider_lease_id } }.into()
}

/// Whether what was resumed is what was held: the same id, the same place where both name one, and the same in every
/// field that was recorded as identity (B16).
pub(super) fn is_same(before: &Held, now: &Acquired) -> bool {
    let same_place = match (said(&before.metadata, "remoteCwd"), said(&now.metadata, "remoteCwd")) {
        (Some(before), Some(now)) => before == now,
        _ => true,
    };
    let declared = before.metadata.get(IDENTITY_FIELDS).and_then(Value::as_array);
    let mut declared = declared.into_iter().flatten().filter_map(Value::as_str);
    now.provider_lease_id.is_some()
        && before.provider_lease_id == now.provider_lease_id
        && same_place
        && declared.all(|field| said(&before.metadata, field) == said(&now.metadata, field))
}

/// What the provider said under this key: beside the host's keys, or apart from them.
fn said<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    metadata.get(key).or_else(|| metadata.get("providerMetadata")?.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sandbox_is_known_by_its_id_its_place_and_what_was_declared() {
        let held = |metadata: Value| Held {
            provider_lease_id: Some("box-1".to_owned()),
            metadata: metadata.as_object().cloned().unwrap_or_default(),
        };
        let same = |before: Value, now: Value| {
            let now = held(now);
            let now = Acquired { provider_lease_id: now.provider_lease_id, metadata: now.metadata, expires_at: None };
            is_same(&held(before), &now)
        };
        assert!(same(json!({}), json!({ "remoteCwd": "/work", "x": 1 })));
        assert!(!same(json!({ "remoteCwd": "/work" }), json!({ "remoteCwd": "/elsewhere" })));
        let apart = |place: &str| json!({ "providerMetadata": { "remoteCwd": place } });
        assert!(same(apart("/work"), apart("/work")) && !same(apart("/work"), apart("/elsewhere")));

        let declared = |volume: Value| json!({ "identityFields": ["volume"], "volume": volume });
        assert!(same(declared(json!("a")), json!({ "volume": "a" })), "what counts is what was recorded");
        for now in [json!({ "volume": "b" }), json!({}), json!({ "volume": null })] {
            assert!(!same(declared(json!("a")), now.clone()), "{now}: it is not shown to be the same");
        }
        assert!(same(json!({ "volume": "a" }), declared(json!("b"))), "a later declaration says nothing of it");
        let mut other = held(json!({}));
        other.provider_lease_id = Some("box-2".to_owned());
        assert!(!is_same(&other, &Acquired { provider_lease_id: Some("box-1".to_owned()), ..Acquired::default() }));
        assert!(!is_same(&other, &Acquired::default()));
    }
}
