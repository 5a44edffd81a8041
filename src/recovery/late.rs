//! What providers give after their time was over: each answer settles its lease at once, and nothing is looked for.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lease_events::id::LeaseId;

use super::Pass;
use crate::commands::settle::settle_late;
use crate::commands::upkeep::command_of;

/// For which lease something was made, and the provider's name of it.
pub type LateLease = (LeaseId, String);

/// Settles what comes until the ledger stops. An answer that is lost then is found as every other outcome that nobody
/// stored.
pub async fn keep(mut answers: BoxStream<'static, LateLease>, pass: Pass) {
    loop {
        let (lease_id, provider_lease_id) = tokio::select! {
            () = pass.stopping.cancelled() => return,
            next = answers.next() => match next {
                Some(next) => next,
                None => return,
            },
        };
        let command = command_of(&pass.context, "late-answers");
        match settle_late(&pass.context, &command, lease_id, provider_lease_id).await {
            Ok(Some(did)) => tracing::info!(%lease_id, did = did.did.as_str(), because = did.because, "recovered"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%lease_id, %error, "a late answer could not be settled"),
        }
    }
}
