//! What a worker knows of the one before it.

use lease_events::lease::vocabulary::ReceiptState;

use super::kit::{Kit, TOKEN, Tried, failed, name, told};
use super::{execute, method};
use crate::drivers::LeaseScope;

/// A worker that is started again knows what the one before made.
pub(super) async fn knows_what_was_made(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    execute::write_note(kit, &scope, &held).await?;
    kit.restart().await?;
    let when = "After its worker was started again";
    let next = LeaseScope { fencing_token: TOKEN + 1, ..scope };
    if kit.offers(method::RESUME).await? {
        kit.resume_same(&next, &held, when).await?;
    }
    execute::read_note(kit, &next, &held, "a new start of its worker").await?;
    kit.restart().await?;
    match kit.end(&next, &held, false).await {
        Ok(receipt) if receipt.state == ReceiptState::Destroyed => Ok(()),
        Ok(receipt) => {
            let left = receipt.state.as_str();
            failed(format!("{when} a destroy of {} answered {left}; it must remove it.", name(&held)))
        }
        Err(failure) => failed(format!("{when} a destroy of {} was {}; it must be done.", name(&held), told(&failure))),
    }
}
