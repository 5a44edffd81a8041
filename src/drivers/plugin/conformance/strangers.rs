//! Calls by whoever does not hold the sandbox: another company, another ledger, other credentials, a holder of before.

use lease_events::id::{CompanyId, LedgerId};
use lease_events::lease::vocabulary::ReceiptState;
use serde_json::Value;

use super::kit::{Kit, TOKEN, Tried, failed, name, not_offered, told};
use super::{execute, method};
use crate::drivers::plugin::outcome::Failure;
use crate::drivers::{Held, LeaseScope};

/// How a call under a lower token than was seen is refused.
const STALE: &str = "stale-fencing-token";
/// A token above that of every first holder.
const HIGHER_TOKEN: u64 = TOKEN + 2;

/// *Gone* is not said to strangers of what is there.
pub(super) async fn not_gone_for_others(kit: &Kit) -> Tried {
    for who in ["another company", "another ledger"] {
        // A thing for each: whoever takes a stranger's destroy leaves nothing to ask the next one about.
        let scope = kit.scope();
        let stranger = if who == "another company" {
            LeaseScope { company_id: CompanyId(kit.ids.fresh()), ..scope.clone() }
        } else {
            LeaseScope { ledger_id: LedgerId(kit.ids.fresh()), ..scope.clone() }
        };
        let held = kit.make(&scope).await?;
        let mut gone = Vec::new();
        if kit.offers(method::RESUME).await? && matches!(kit.resume(&stranger, &held).await, Ok(None)) {
            gone.push("a resume");
        }
        let destroyed = kit.end(&stranger, &held, false).await;
        if matches!(&destroyed, Ok(receipt) if receipt.state == ReceiptState::Gone) {
            gone.push("a destroy");
        }
        if !gone.is_empty() {
            return failed(format!(
                "To {who}, {} of {} that is there said that it is gone; it must be refused: not seeing it is no proof.",
                gone.join(" and "),
                name(&held)
            ));
        }
        if destroyed.is_err() {
            kit.destroy(&scope, &held, "Then, by its holder,").await?;
        }
    }
    Ok(())
}

/// *Gone* is not said of what other credentials do not see.
pub(super) async fn other_credentials(kit: &Kit) -> Tried {
    let Some(other) = &kit.other_config else {
        return not_offered("No other config was given; give that of another account with --other-config-json.");
    };
    let scope = kit.scope();
    let elsewhere = LeaseScope { config: kit.keeping(other, false), ..scope.clone() };
    let held = kit.make(&scope).await?;
    if kit.offers(method::RESUME).await? {
        match kit.resume(&elsewhere, &held).await {
            Ok(Some(_)) => {
                kit.destroy(&scope, &held, "Then").await?;
                return not_offered("The other config reaches what the first one made, so it shows nothing.");
            }
            Ok(None) => return gone_elsewhere(&held, "a resume", "that it is gone"),
            Err(_) => {}
        }
    }
    match kit.end(&elsewhere, &held, false).await {
        Ok(receipt) if receipt.state == ReceiptState::Gone => {
            return gone_elsewhere(&held, "a destroy", "that it is gone");
        }
        Ok(_) => return gone_elsewhere(&held, "a destroy", "that it was done"),
        Err(_) => {}
    }
    kit.destroy(&scope, &held, "Then, under its own config,").await
}

fn gone_elsewhere(held: &Held, call: &str, said: &str) -> Tried {
    failed(format!(
        "Under the other config, {call} of {} said {said}; it must be refused: what one account does not see, another has.",
        name(held)
    ))
}

/// Another ledger's calls are refused.
pub(super) async fn other_ledger(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    let stranger = LeaseScope { ledger_id: LedgerId(kit.ids.fresh()), fencing_token: HIGHER_TOKEN, ..scope.clone() };
    let mut wrong = Vec::new();
    not_refused(kit, &stranger, &held, "not-ours", &mut wrong).await?;
    if !wrong.is_empty() {
        return failed(format!(
            "For another ledger, {}; every call for it must be refused with -31003.",
            wrong.join(", ")
        ));
    }
    kit.destroy(&scope, &held, "Then, by its holder,").await
}

/// A holder that lost the sandbox is refused.
pub(super) async fn stale_token(kit: &Kit) -> Tried {
    let stale = kit.scope();
    let held = kit.make(&stale).await?;
    let (stale, holder) = if kit.offers(method::RESUME).await? {
        let holder = LeaseScope { fencing_token: HIGHER_TOKEN, ..stale.clone() };
        kit.resume_same(&holder, &held, "Under a higher fencing token,").await?;
        (stale, holder)
    } else {
        (LeaseScope { fencing_token: TOKEN - 1, ..stale.clone() }, stale)
    };
    let mut wrong = Vec::new();
    note(&mut wrong, STALE, "an acquire", kit.acquire(&stale).await.map(drop));
    not_refused(kit, &stale, &held, STALE, &mut wrong).await?;
    if !wrong.is_empty() {
        return failed(format!(
            "Under a lower fencing token than was seen, {}; every call must be refused with -31002.",
            wrong.join(", ")
        ));
    }
    kit.destroy(&holder, &held, "Then, by its holder,").await
}

/// Makes every call for what is held, the harmless ones first; those that were not refused with this code are noted.
async fn not_refused(kit: &Kit, scope: &LeaseScope, held: &Held, code: &str, wrong: &mut Vec<String>) -> Tried {
    if kit.offers(method::RESUME).await? {
        note(wrong, code, "a resume", kit.resume(scope, held).await.map(drop));
    }
    if kit.offers(method::REALIZE).await? {
        note(wrong, code, "a realize", kit.realize(scope, held).await.map(drop));
    }
    if kit.offers(method::EXECUTE).await? {
        note(wrong, code, "a command", kit.execute(scope, held, execute::shell("true")).await.map(drop));
    }
    if kit.offers(method::RELEASE).await? {
        let keeping = LeaseScope { config: with_reuse(&scope.config), ..scope.clone() };
        note(wrong, code, "a release", kit.end(&keeping, held, true).await.map(drop));
    }
    if kit.offers(method::DESTROY).await? {
        note(wrong, code, "a destroy", kit.end(scope, held, false).await.map(drop));
    }
    Ok(())
}

fn note(wrong: &mut Vec<String>, code: &str, call: &str, answer: Result<(), Failure>) {
    match answer {
        Ok(()) => wrong.push(format!("{call} was done")),
        Err(Failure::Refused(fault)) if fault.code == code => {}
        Err(failure) => wrong.push(format!("{call} was {}", told(&failure))),
    }
}

/// The config under which a release keeps, where it can be said.
fn with_reuse(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(keep) = config.get_mut("reuseLease") {
        *keep = true.into();
    }
    config
}
