//! Calls by whoever does not hold the sandbox: another company, another ledger, other credentials, a holder of before.

use lease_events::id::{CompanyId, LedgerId};
use lease_events::lease::vocabulary::ReceiptState;
use serde_json::Value;

use super::kit::{Kit, TOKEN, Tried, failed, name, not_offered, told};
use super::{execute, method};
use crate::drivers::plugin::outcome::Failure;
use crate::drivers::{Held, LeaseScope};

/// A token above that of every first holder.
const HIGHER_TOKEN: u64 = TOKEN + 2;

/// *Gone* is not said to strangers of what is there.
pub(super) async fn not_gone_for_others(kit: &Kit) -> Tried {
    let own = kit.scope();
    let company = LeaseScope { company_id: CompanyId(kit.ids.fresh()), ..own.clone() };
    let ledger = LeaseScope { ledger_id: LedgerId(kit.ids.fresh()), ..own };
    for (who, stranger) in [("another company", company), ("another ledger", ledger)] {
        // A thing for each: whoever takes a stranger's destroy leaves nothing to ask the next one about.
        let scope = LeaseScope { lease_id: kit.scope().lease_id, ..kit.scope() };
        let stranger = LeaseScope { lease_id: scope.lease_id, run_id: scope.run_id, ..stranger };
        let held = kit.make(&scope).await?;
        let mut gone = Vec::new();
        if kit.offers(method::RESUME).await? && says_gone(&kit.resume(&stranger, &held).await) {
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

fn says_gone(resumed: &Result<Option<Held>, Failure>) -> bool {
    matches!(resumed, Ok(None))
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
    let wrong = not_refused(kit, &stranger, &held, "not-ours").await?;
    if !wrong.is_empty() {
        return failed(format!("For another ledger, {}; every call must be refused with -31003.", wrong.join(", ")));
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
    let wrong = not_refused(kit, &stale, &held, "stale-fencing-token").await?;
    if !wrong.is_empty() {
        return failed(format!(
            "Under a lower fencing token than was seen, {}; every call must be refused with -31002.",
            wrong.join(", ")
        ));
    }
    kit.destroy(&holder, &held, "Then, by its holder,").await
}

/// Makes every call, the harmless ones first; those that were not refused with this code, each as words.
async fn not_refused(kit: &Kit, scope: &LeaseScope, held: &Held, code: &str) -> Tried<Vec<String>> {
    let mut wrong = Vec::new();
    let mut note = |call: &str, answer: Result<(), Failure>| match answer {
        Ok(()) => wrong.push(format!("{call} was done")),
        Err(Failure::Refused(fault)) if fault.code == code => {}
        Err(failure) => wrong.push(format!("{call} was {}", told(&failure))),
    };
    note("an acquire", kit.acquire(scope).await.map(drop));
    if kit.offers(method::RESUME).await? {
        note("a resume", kit.resume(scope, held).await.map(drop));
    }
    if kit.offers(method::REALIZE).await? {
        note("a realize", kit.realize(scope, held).await.map(drop));
    }
    if kit.offers(method::EXECUTE).await? {
        note("a command", kit.execute(scope, held, execute::shell("true")).await.map(drop));
    }
    let keeping = LeaseScope { config: with_reuse(&scope.config), ..scope.clone() };
    if kit.offers(method::RELEASE).await? {
        note("a release", kit.end(&keeping, held, true).await.map(drop));
    }
    if kit.offers(method::DESTROY).await? {
        note("a destroy", kit.end(scope, held, false).await.map(drop));
    }
    Ok(wrong)
}

/// The config under which a release keeps, where it can be said.
fn with_reuse(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(keep) = config.get_mut("reuseLease") {
        *keep = true.into();
    }
    config
}
