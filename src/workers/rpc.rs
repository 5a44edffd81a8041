//! JSON-RPC 2.0, as the two sides speak it: error codes, and what a line can be. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The error codes of the protocol, and those of ours.
pub mod code {
    /// The message is no JSON.
    pub const PARSE: i64 = -32_700;
    /// It is no request.
    pub const INVALID_REQUEST: i64 = -32_600;
    /// The other side has no such method.
    pub const UNKNOWN_METHOD: i64 = -32_601;
    /// The parameters do not fit.
    pub const INVALID_PARAMS: i64 = -32_602;
    /// The other side is broken.
    pub const INTERNAL: i64 = -32_603;
    /// The worker is not there.
    pub const WORKER_UNAVAILABLE: i64 = -32_000;
    /// The plugin may not do that.
    pub const CAPABILITY_DENIED: i64 = -32_001;
    /// The handler failed: every exception that says nothing else.
    pub const WORKER_ERROR: i64 = -32_002;
    /// The handler took too long.
    pub const TIMEOUT: i64 = -32_003;
    /// The plugin lacks an optional method.
    pub const METHOD_NOT_IMPLEMENTED: i64 = -32_004;
    /// The call would leave its company.
    pub const INVOCATION_SCOPE_DENIED: i64 = -32_005;
    /// The worker holds another company's config.
    pub const CROSS_TENANT_CONFIG: i64 = -32_006;
    /// Anything else.
    pub const UNKNOWN: i64 = -32_099;

    /// Ours: what the call is about is gone.
    pub const GONE: i64 = -31_001;
    /// Ours: the call's fencing token is below one that was seen.
    pub const STALE_FENCING_TOKEN: i64 = -31_002;
    /// Ours: it bears the label of another ledger.
    pub const NOT_OURS: i64 = -31_003;
    /// Ours: the provider will not do it, and nothing of it is there.
    pub const REFUSED: i64 = -31_004;
    /// Ours: it did not happen, nothing of it is there, and it may be tried again.
    pub const NOT_DONE: i64 = -31_005;
}

/// An error as the wire has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// One of [`code`], or the worker's own.
    pub code: i64,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

impl RpcError {
    /// An error.
    #[must_use]
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a worker can send.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// The answer to a call of ours.
    Answer { id: u64, answer: Result<Value, RpcError> },
    /// A request of its own; it must be answered under the same id.
    Request { id: Value, method: String, params: Value, invocation: Option<String> },
    /// News.
    Notification { method: String, params: Value, invocation: Option<String> },
    /// It could not read something of ours, and cannot say what.
    Unread(RpcError),
}

/// Reads a line. The error says what is wrong with it, without its text: that may hold a secret.
pub(super) fn parse(line: &[u8]) -> Result<Message, &'static str> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(line) else { return Err("it is no JSON object") };
    if object.get("jsonrpc").is_none_or(|version| version != "2.0") {
        return Err("it is no JSON-RPC 2.0");
    }
    let id = object.remove("id");
    let invocation = object.get("paperclipInvocationId").and_then(Value::as_str).map(str::to_owned);
    if let Some(method) = object.get("method") {
        let Some(method) = method.as_str().map(str::to_owned) else { return Err("its method is no text") };
        let params = object.remove("params").unwrap_or(Value::Null);
        return match id {
            Some(id @ (Value::String(_) | Value::Number(_))) => Ok(Message::Request { id, method, params, invocation }),
            None => Ok(Message::Notification { method, params, invocation }),
            Some(_) => Err("its id is neither text nor number"),
        };
    }
    let error = object.remove("error").filter(|error| !error.is_null());
    let answer = match (object.remove("result"), error) {
        (_, Some(error)) => Err(serde_json::from_value(error).map_err(|_| "its error has no code")?),
        (Some(result), None) => Ok(result),
        (None, None) => return Err("it has neither method, result nor error"),
    };
    match (id, answer) {
        (Some(Value::Number(id)), answer) => {
            id.as_u64().map(|id| Message::Answer { id, answer }).ok_or("its id is none of ours")
        }
        (None | Some(Value::Null), Err(error)) => Ok(Message::Unread(error)),
        _ => Err("its id is none of ours"),
    }
}

/// An answer of ours.
pub(super) fn answer(id: &Value, answer: Result<Value, RpcError>) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_by_its_shape() {
        let parsed = |value: Value| parse(value.to_string().as_bytes());
        assert_eq!(
            parsed(json!({ "jsonrpc": "2.0", "id": 3, "result": null })),
            Ok(Message::Answer { id: 3, answer: Ok(Value::Null) })
        );
        let error = RpcError::new(code::WORKER_ERROR, "no");
        assert_eq!(
            parsed(json!({ "jsonrpc": "2.0", "id": 3, "error": { "code": -32002, "message": "no", "data": 1 } })),
            Ok(Message::Answer { id: 3, answer: Err(error.clone()) })
        );
        assert_eq!(
            parsed(json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32002, "message": "no" } })),
            Ok(Message::Unread(error))
        );
        // A worker's own request under an id that a call of ours bears too: told by its direction.
        assert!(matches!(
            parsed(json!({ "jsonrpc": "2.0", "id": 3, "method": "state.get", "paperclipInvocationId": "i" })),
            Ok(Message::Request { invocation: Some(id), .. }) if id == "i"
        ));
        for strange in [
            json!([]),
            json!({ "id": 1, "result": 1 }),
            json!({ "jsonrpc": "2.0", "id": 1 }),
            json!({ "jsonrpc": "2.0", "id": "x", "result": 1 }),
            json!({ "jsonrpc": "2.0", "id": [], "method": "m" }),
        ] {
            assert!(parsed(strange.clone()).is_err(), "{strange}");
        }
        assert!(parse(b"Debugger attached.").is_err());
    }
}
