//! What a release keeps, what a destroy removes, and that both may be repeated.

use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::ReceiptState;

use super::kit::{Kit, TOKEN, Tried, failed, name, not_offered, told};
use super::{execute, method};
use crate::drivers::LeaseScope;

/// A release that is repeated.
pub(super) async fn duplicate_release(kit: &Kit) -> Tried {
    kit.needs_reuse().await?;
    let scope = kit.keeping_scope();
    let held = kit.make(&scope).await?;
    for time in ["A release", "A release that was repeated"] {
        match kit.end(&scope, &held, true).await {
            Ok(receipt) if receipt.state == ReceiptState::Kept => {}
            Ok(receipt) => {
                let left = receipt.state.as_str();
                return failed(format!("{time} with reuseLease left {} {left}; it must keep it.", name(&held)));
            }
            Err(failure) => return failed(format!("{time} was {}; it must be done.", told(&failure))),
        }
    }
    kit.destroy(&scope, &held, "After that").await
}

/// A release that keeps, and a resume for another lease.
pub(super) async fn release_keeps(kit: &Kit) -> Tried {
    kit.needs_reuse().await?;
    let scope = kit.keeping_scope();
    let held = kit.make(&scope).await?;
    execute::write_note(kit, &scope, &held).await?;
    if let Err(failure) = kit.end(&scope, &held, true).await {
        return failed(format!("A release was {}; it must be done.", told(&failure)));
    }
    let next = LeaseScope { lease_id: LeaseId(kit.ids.fresh()), fencing_token: TOKEN + 1, ..scope };
    kit.resume_same(&next, &held, "After a release with reuseLease").await?;
    execute::read_note(kit, &next, &held, "a release with reuseLease").await?;
    kit.destroy(&next, &held, "After that").await
}

/// A destroy that is repeated.
pub(super) async fn duplicate_destroy(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    kit.destroy(&scope, &held, "At first,").await?;
    kit.destroy(&scope, &held, "Repeated,").await
}

/// What was destroyed is not there.
pub(super) async fn destroy_removes(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    kit.destroy(&scope, &held, "At first,").await?;
    let mut asked = false;
    if kit.offers(method::RESUME).await? {
        asked = true;
        if let Ok(Some(_)) = kit.resume(&scope, &held).await {
            return failed(format!("{} was resumed after its destroy; a destroy must remove it.", name(&held)));
        }
    }
    if kit.offers(method::EXECUTE).await? {
        asked = true;
        if kit.execute(&scope, &held, execute::shell("true")).await.is_ok() {
            return failed(format!("A command ran in {} after its destroy; a destroy must remove it.", name(&held)));
        }
    }
    if kit.offers(method::LIST).await? {
        asked = true;
        let gone = kit.until_listed(|listed| listed.iter().all(|one| one.lease_id != Some(scope.lease_id))).await?;
        if gone.is_none() {
            let limit = kit.patience.visibility;
            return failed(format!("{} was listed {limit:?} after its destroy; it must go.", name(&held)));
        }
    }
    if asked { Ok(()) } else { not_offered("There is no method that could tell.") }
}

/// *Gone* is said of what is gone.
pub(super) async fn confirms_absence(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    kit.destroy(&scope, &held, "At first,").await?;
    if kit.offers(method::RESUME).await? {
        match kit.resume(&scope, &held).await {
            Ok(None) => {}
            Ok(Some(_)) => return not_offered(format!("{} is there after its destroy: nothing is gone.", name(&held))),
            Err(failure) => {
                return failed(format!(
                    "A resume of what was destroyed was {}; it must answer without a providerLeaseId, or with -31001.",
                    told(&failure)
                ));
            }
        }
    }
    match kit.end(&scope, &held, false).await {
        Ok(receipt) if receipt.state == ReceiptState::Gone => Ok(()),
        Ok(_) => not_offered("A destroy of what is gone answers as if it had removed it, not with -31001."),
        // Whether it may be repeated is another case's.
        Err(_) => not_offered("A destroy of what is gone fails without saying that it is gone (-31001)."),
    }
}
