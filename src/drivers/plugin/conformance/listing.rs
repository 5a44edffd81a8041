//! What is listed, how soon, and what is left behind.

use std::sync::PoisonError;

use super::kit::{Kit, Tried, failed, name};
use super::method;

/// What is made appears in the listing, labelled, and goes with its destroy.
pub(super) async fn listing(kit: &Kit) -> Tried {
    kit.needs(method::LIST).await?;
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    let limit = kit.patience.visibility;
    let shown = |one: &crate::drivers::Listed| Some(&one.provider_lease_id) == held.provider_lease_id.as_ref();
    let Some(delay) = kit.until_listed(|listed| listed.iter().any(shown)).await? else {
        return failed(format!("{} was not listed within {limit:?}; what is there must appear.", name(&held)));
    };
    let listed = kit.listed().await?;
    let Some(one) = listed.iter().find(|one| shown(one)) else {
        return failed(format!("{} was listed and then was not; what is there must stay listed.", name(&held)));
    };
    if one.ledger_id != Some(scope.ledger_id) || one.lease_id != Some(scope.lease_id) {
        return failed(format!(
            "{} is listed without its labels; metadata must have ledgerId and leaseId as acquire gave them.",
            name(&held)
        ));
    }
    *kit.visibility.lock().unwrap_or_else(PoisonError::into_inner) = Some(delay);
    kit.destroy(&scope, &held, "Then").await
}

/// The worker ends when it is asked to, with all that it started.
pub(super) async fn cleans_up(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    kit.destroy(&scope, &held, "At the end").await?;
    kit.bridge.workers.stop(&kit.plugin_key).await;
    if kit.switch.signalled() {
        return failed("The worker did not end by itself after `shutdown`; it must answer, and exit.");
    }
    if kit.switch.left() {
        return failed("Processes that the worker had started were there after its end; it must end them first.");
    }
    Ok(())
}
