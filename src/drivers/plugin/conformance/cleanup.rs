//! What a check made and has not seen go, and how it is removed in the end.

use std::sync::{MutexGuard, PoisonError};

use lease_events::lease::vocabulary::ReceiptState;
use serde_json::Map;

use super::kit::{Kit, name, told};
use crate::drivers::plugin::wire;
use crate::drivers::{Held, LeaseScope};

/// The token of whoever cleans up: above every other.
const CLEANING_TOKEN: u64 = 1_000_000;

/// Something that the check made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    scope: LeaseScope,
    held: Held,
}

/// Something that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The provider's name of it.
    pub provider_lease_id: String,
    /// How the worker answered.
    pub because: String,
}

impl Kit {
    pub(super) fn is_answered(&self, scope: &LeaseScope) {
        self.pending().retain(|one| one.lease_id != scope.lease_id);
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Vec<LeaseScope>> {
        // Whole after every statement.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember(&self, scope: &LeaseScope, held: &Held) {
        let mut made = self.made();
        made.retain(|one| one.held.provider_lease_id != held.provider_lease_id);
        made.push(Made { scope: scope.clone(), held: held.clone() });
    }

    /// Remembers what only the listing told of.
    pub(super) fn remember_listed(&self, scope: &LeaseScope, id: &str) {
        let known = self.made().iter().any(|made| made.held.provider_lease_id.as_deref() == Some(id));
        if !known {
            self.remember(scope, &Held { provider_lease_id: Some(id.to_owned()), metadata: Map::new() });
        }
    }

    pub(super) fn forget(&self, held: &Held) {
        self.made().retain(|one| one.held.provider_lease_id != held.provider_lease_id);
    }

    fn made(&self) -> MutexGuard<'_, Vec<Made>> {
        // Whole after every statement.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answers to acquires that were broken off; those that never came are answered.
    async fn settle_pending(&self) -> Vec<LeaseScope> {
        let pending = self.pending().clone();
        let mut unanswered = Vec::new();
        for scope in pending {
            match self.late_answer(&scope).await {
                Some(Ok(answer)) => drop(wire::lease(&answer).and_then(|lease| self.given(&scope, lease))),
                Some(Err(_)) => {}
                None => unanswered.push(scope),
            }
        }
        unanswered
    }

    /// Removes whatever the check made and is still there; what could not be removed is answered.
    pub(super) async fn clean(&self) -> Vec<Left> {
        let mut unanswered = self.settle_pending().await;
        let listed = self.listed().await.unwrap_or_default();
        for one in listed.iter().filter(|one| one.ledger_id == Some(self.ledger_id)) {
            let scope = self.scope();
            let lease_id = one.lease_id.unwrap_or(scope.lease_id);
            unanswered.retain(|scope| scope.lease_id != lease_id);
            self.remember_listed(&LeaseScope { lease_id, ..scope }, &one.provider_lease_id);
        }
        let unknown = unanswered.iter().map(|scope| Left {
            provider_lease_id: format!("(unknown, of lease {})", scope.lease_id),
            because: "its acquire was never answered".to_owned(),
        });
        let mut left: Vec<Left> = unknown.collect();
        let made = self.made().clone();
        for Made { scope, held } in made {
            let config = self.keeping(&self.config, false);
            let scope = LeaseScope { fencing_token: CLEANING_TOKEN, config, ..scope };
            let because = match self.end(&scope, &held, false).await {
                Ok(receipt) if receipt.state == ReceiptState::Kept => "it was stopped, not removed".to_owned(),
                Ok(_) => continue,
                Err(failure) => format!("its destroy was {}", told(&failure)),
            };
            left.push(Left { provider_lease_id: name(&held).to_owned(), because });
        }
        left
    }
}
