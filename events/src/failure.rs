//! Classes of failure that a caller can act on, and the fault that an event may carry. Pure.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller can do about a failure. One file maps it to HTTP, one to exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The request can never succeed as it stands: correct it.
    Invalid,
    /// What it names is not there, or belongs to another company.
    NotFound,
    /// What is there now does not allow it: look again, then decide.
    Conflict,
    /// The ledger or a part of it is not able to take it now: try again later.
    Unavailable,
    /// The provider or driver refused or failed; nothing of the effect is left.
    Provider,
    /// The effect may or may not have happened; the ledger has recorded that and will settle it.
    OutcomeUnknown,
    /// A fault of the ledger itself.
    Internal,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Provider => "provider",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Internal => "internal",
        })
    }
}

/// Longest fault message that is kept, in bytes; what a provider says beyond that is cut.
pub const FAULT_MESSAGE_BYTES_MAX: usize = 2_000;

/// What went wrong at a driver or provider, fit to be stored: a code and one sentence, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// A stable word for programs, kebab-case, such as `provider-timeout`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl Fault {
    /// A fault; the message is cut at [`FAULT_MESSAGE_BYTES_MAX`] on a character's border.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > FAULT_MESSAGE_BYTES_MAX {
            let cut = (0..=FAULT_MESSAGE_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
            message.push('…');
        }
        Self { code: code.to_owned(), message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_fault_is_cut_on_a_border() {
        let fault = Fault::new("x", "é".repeat(FAULT_MESSAGE_BYTES_MAX));
        assert!(fault.message.len() <= FAULT_MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(fault.message.ends_with('…'));
    }
}
