//! The command: a reservation of its id, and its outcome, for callers who may send it twice. Pure.
//!
//! A stream `command-<uuid>` is appended with "no stream" before a command with an idempotency key does anything:
//! who gets it runs the command, and whoever comes later is given the outcome that stands there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::events_of_category;

events_of_category! {
    /// A transition of a command with an idempotency key.
    CommandEvent, upcasters: &[];
    Accepted(CommandAccepted) = "command-accepted" v 1;
    Completed(CommandCompleted) = "command-completed" v 1;
}

/// The command id is taken, for this operation and this request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandAccepted {
    /// The operation, such as `acquire`.
    pub operation: String,
    /// SHA-256 of the request, hex: the same key with another request is refused.
    pub request_digest: String,
}

/// What every repetition of the command is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandCompleted {
    /// The outcome in the operation's own shape; never a secret, never a command's output.
    pub outcome: Value,
}
