//! One lease, one sandbox: acquires that are repeated, late, or whose answer is lost.

use super::kit::{Kit, Stop, Tried, failed, name, told};
use crate::drivers::Held;
use crate::drivers::LeaseScope;
use crate::drivers::plugin::outcome::Failure;
use crate::drivers::plugin::wire;

/// An acquire that is repeated gives the same.
pub(super) async fn duplicate(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let first = kit.make(&scope).await?;
    again(kit, &scope, &first, "An acquire that was repeated").await?;
    kit.is_alone(&scope).await?;
    kit.destroy(&scope, &first, "After that").await
}

/// The host stops waiting for an acquire, and repeats it; the first answer comes all the same.
pub(super) async fn late(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let (first, second) = tokio::join!(kit.acquire_within(&scope, kit.patience.late), kit.acquire(&scope));
    let first = match first {
        Ok(held) => Some(held),
        Err(Failure::Unknown(_)) => late_answer(kit, &scope).await?,
        // It was never sent, or the worker turned one of the two away.
        Err(Failure::NotDone(_)) => None,
        Err(failure) => return failed(format!("An acquire was {}.", told(&failure))),
    };
    let second = match second {
        Ok(held) => Some(held),
        Err(Failure::NotDone(_) | Failure::Unknown(_)) => None,
        Err(failure) => {
            let told = told(&failure);
            return failed(format!(
                "An acquire that was repeated while the first was under way was {told}; a worker that cannot do it now \
                 says so with -31005."
            ));
        }
    };
    let when = "An acquire that was repeated after one that was answered late";
    if let (Some(first), Some(second)) = (&first, &second)
        && let Some(other) = kit.another(first, second)
    {
        return failed(format!(
            "An acquire that was repeated while the first was under way gave {other} beside {}; there must be one \
             sandbox of a lease.",
            name(first)
        ));
    }
    match (&first, &second) {
        (Some(held), _) | (None, Some(held)) => {
            again(kit, &scope, held, when).await?;
            kit.is_alone(&scope).await?;
            kit.destroy(&scope, held, "After that").await
        }
        (None, None) => failed("Of two acquires of one lease at once, neither was done; one must be."),
    }
}

async fn late_answer(kit: &Kit, scope: &LeaseScope) -> Tried<Option<Held>> {
    match kit.late_answer(scope).await {
        None => failed("An acquire was never answered; each must be, however late."),
        Some(Err(_)) => Ok(None),
        Some(Ok(answer)) => {
            let given = wire::lease(&answer).and_then(|lease| kit.given(scope, lease));
            let none = || Stop::Failed("A late answer to an acquire named no providerLeaseId; it must.".to_owned());
            given.ok_or_else(none).map(Some)
        }
    }
}

/// The worker is killed after its answer, which counts as lost; then while it acquires.
pub(super) async fn lost_reply(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let first = kit.make(&scope).await?;
    kit.crash().await?;
    let when = "An acquire that was repeated after its worker had been killed";
    again(kit, &scope, &first, when).await?;
    kit.is_alone(&scope).await?;
    kit.destroy(&scope, &first, "After that").await?;

    let scope = kit.scope();
    let killing = async {
        tokio::time::sleep(kit.patience.before_kill).await;
        kit.crash().await
    };
    let (broken_off, killed) = tokio::join!(kit.acquire(&scope), killing);
    killed?;
    let settled = kit.make(&scope).await?;
    if let Ok(first) = broken_off
        && let Some(other) = kit.another(&first, &settled)
    {
        return failed(format!("{when} gave {other} after {}; it must give the same.", name(&first)));
    }
    again(kit, &scope, &settled, when).await?;
    kit.is_alone(&scope).await?;
    kit.destroy(&scope, &settled, "After that").await
}

/// Acquires again; the case fails where that does not give the same.
async fn again(kit: &Kit, scope: &LeaseScope, first: &Held, when: &str) -> Tried {
    match kit.acquire(scope).await {
        Ok(again) => match kit.another(first, &again) {
            None => Ok(()),
            Some(other) => failed(format!(
                "{when} gave {other} after {}; it must give the same: name it after leaseId.",
                name(first)
            )),
        },
        Err(failure) => failed(format!("{when} was {}; it must give {}.", told(&failure), name(first))),
    }
}
