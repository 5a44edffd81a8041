//! Errors that say how a call went.

use serde_json::Map;

use super::kit::{Kit, Tried, failed, told};
use super::{execute, method};
use crate::drivers::Held;
use crate::drivers::plugin::outcome::Failure;

/// An id that cannot be: refused, so that nobody tries again or looks for what it left.
pub(super) async fn codes(kit: &Kit) -> Tried {
    let scope = kit.scope();
    let id = "no such sandbox/../..".to_owned();
    let held = Held { provider_lease_id: Some(id), metadata: Map::new() };
    let mut wrong = Vec::new();
    let mut note = |call: &str, failure: &Failure| {
        if !matches!(failure, Failure::Refused(_)) {
            wrong.push(format!("{call} was {}", told(failure)));
        }
    };
    if kit.offers(method::RESUME).await? {
        match kit.resume(&scope, &held).await {
            Ok(None) => {}
            Ok(Some(_)) => return failed("A resume of an id that cannot be gave a sandbox; it must be refused."),
            Err(failure) => note("a resume", &failure),
        }
    }
    if kit.offers(method::EXECUTE).await? {
        match kit.execute(&scope, &held, execute::shell("true")).await {
            Ok(_) => return failed("A command ran in a sandbox whose id cannot be; it must be refused."),
            Err(failure) => note("a command", &failure),
        }
    }
    // That nothing is left of it is a right answer too.
    if let Err(failure) = kit.end(&scope, &held, false).await {
        note("a destroy", &failure);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    failed(format!("With an id that cannot be, {}; it must be refused (-31001, -31004 or -32602).", wrong.join(", ")))
}
