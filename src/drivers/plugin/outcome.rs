//! What a failed call to a worker means for its effect. Pure.
//!
//! | what came | outcome | code |
//! | --- | --- | --- |
//! | plugin missing, disabled, or its worker not there (B8) | not done | `plugin-missing`, `plugin-not-ready`, `worker-unavailable` |
//! | the request was never written to the worker | not done | `worker-unavailable`, `provider-timeout`, `request-not-sent` |
//! | the worker went, or the deadline passed, after it was written | unknown | `worker-unavailable`, `provider-timeout` |
//! | -32601, -32004: it has no such method | refused | `not-supported` |
//! | -32600, -32602: the request does not fit | refused | `provider-refused` |
//! | -32001, -32005, -32006: it may not | refused | `provider-denied` |
//! | -32700: it could not read the request | not done | `provider-unreadable` |
//! | -31001 (ours): what it is about is gone | refused; a receipt or "gone" where that is an answer | `gone` |
//! | -31002, -31003, -31004 (ours) | refused | `stale-fencing-token`, `not-ours`, `provider-refused` |
//! | -31005 (ours): it did not happen | not done | `provider-not-done` |
//! | every other error, -32000, -32002, -32003, -32603, -32099 among them | unknown | `provider-error` |
//! | an answer that is none: `null`, or without what it must have | unknown | `provider-answer-invalid` |
//!
//! An error that says nothing of its effect is *unknown*: the published SDK answers every exception with -32002,
//! also one that was thrown after the sandbox was made. A provider that knows better says so with one of ours.

use lease_events::failure::Fault;

use crate::drivers::Outcome;
use crate::workers::NotRunning;
use crate::workers::calls::CallError;
use crate::workers::rpc::code;

/// A call without a result.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::drivers) enum Failure {
    NotDone(Fault),
    Refused(Fault),
    Unknown(Fault),
}

impl Failure {
    /// As an outcome.
    pub(in crate::drivers) fn outcome<T>(self) -> Outcome<T> {
        match self {
            Self::NotDone(fault) => Outcome::NotDone(fault),
            Self::Refused(fault) => Outcome::Refused(fault),
            Self::Unknown(fault) => Outcome::Unknown(fault),
        }
    }

    /// Whether what the call was about is gone.
    pub(in crate::drivers) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused(fault) if fault.code == "gone")
    }

    pub(in crate::drivers) fn fault(&self) -> &Fault {
        match self {
            Self::NotDone(fault) | Self::Refused(fault) | Self::Unknown(fault) => fault,
        }
    }

    /// The plugin has no such method.
    pub(super) fn not_supported(plugin_key: &str, method: &str) -> Self {
        Self::Refused(Fault::new("not-supported", format!("The plugin \"{plugin_key}\" does not support {method}.")))
    }

    /// The answer is not one.
    pub(super) fn no_answer(plugin_key: &str, method: &str, what: &str) -> Self {
        let sentence =
            format!("The plugin \"{plugin_key}\" answered {method} with {what}; that is the provider's fault.");
        Self::Unknown(Fault::new("provider-answer-invalid", sentence))
    }
}

/// A call's result as an outcome.
pub(in crate::drivers) fn settled<T>(result: Result<T, Failure>) -> Outcome<T> {
    result.map_or_else(Failure::outcome, Outcome::Done)
}

impl From<NotRunning> for Failure {
    fn from(error: NotRunning) -> Self {
        Self::NotDone(Fault::new(error.code(), error.to_string()))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let sentence = error.to_string();
        match error {
            CallError::NotSent { .. } => Self::NotDone(Fault::new("request-not-sent", sentence)),
            CallError::Unavailable { sent, .. } => after(sent, Fault::new("worker-unavailable", sentence)),
            CallError::TimedOut { sent, .. } => after(sent, Fault::new("provider-timeout", sentence)),
            CallError::Answered(error) => answered(error.code, &sentence),
        }
    }
}

fn after(sent: bool, fault: Fault) -> Failure {
    if sent { Failure::Unknown(fault) } else { Failure::NotDone(fault) }
}

fn answered(error: i64, sentence: &str) -> Failure {
    let fault = |code: &str| Fault::new(code, sentence);
    match error {
        code::UNKNOWN_METHOD | code::METHOD_NOT_IMPLEMENTED => Failure::Refused(fault("not-supported")),
        code::INVALID_REQUEST | code::INVALID_PARAMS | code::REFUSED => Failure::Refused(fault("provider-refused")),
        code::CAPABILITY_DENIED | code::INVOCATION_SCOPE_DENIED | code::CROSS_TENANT_CONFIG => {
            Failure::Refused(fault("provider-denied"))
        }
        code::GONE => Failure::Refused(fault("gone")),
        code::STALE_FENCING_TOKEN => Failure::Refused(fault("stale-fencing-token")),
        code::NOT_OURS => Failure::Refused(fault("not-ours")),
        code::PARSE => Failure::NotDone(fault("provider-unreadable")),
        code::NOT_DONE => Failure::NotDone(fault("provider-not-done")),
        _ => Failure::Unknown(fault("provider-error")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workers::rpc::RpcError;

    #[test]
    fn only_what_cannot_have_happened_is_not_done() {
        let unavailable = |sent| CallError::Unavailable { plugin_key: "p".into(), because: "it went".into(), sent };
        let timed_out = |sent| {
            let (plugin_key, method) = ("p".to_owned(), "m".to_owned());
            CallError::TimedOut { plugin_key, method, after: Duration::from_secs(1), sent }
        };
        let answered = |code| CallError::Answered(RpcError::new(code, "said"));
        for (error, outcome, word) in [
            (unavailable(false), "NotDone", "worker-unavailable"),
            (unavailable(true), "Unknown", "worker-unavailable"),
            (timed_out(false), "NotDone", "provider-timeout"),
            (timed_out(true), "Unknown", "provider-timeout"),
            (answered(-32_601), "Refused", "not-supported"),
            (answered(-32_004), "Refused", "not-supported"),
            (answered(-32_602), "Refused", "provider-refused"),
            (answered(-32_006), "Refused", "provider-denied"),
            (answered(-32_700), "NotDone", "provider-unreadable"),
            (answered(-31_001), "Refused", "gone"),
            (answered(-31_005), "NotDone", "provider-not-done"),
            // The worker says that *it* could not reach something: what it did before, nobody knows.
            (answered(-32_000), "Unknown", "provider-error"),
            (answered(-32_002), "Unknown", "provider-error"),
            (answered(404), "Unknown", "provider-error"),
        ] {
            let failure = Failure::from(error);
            assert!(format!("{failure:?}").starts_with(outcome), "{failure:?}");
            assert_eq!(failure.fault().code, word);
        }
    }
}
