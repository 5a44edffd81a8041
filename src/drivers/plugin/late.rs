//! What workers answer to an acquire when nobody waits for it any more. Pure.

use lease_events::id::LeaseId;

use super::wire;
use crate::workers::calls::LateAnswer;

/// The method that makes something.
const ACQUIRE: &str = "environmentAcquireLease";

/// For which lease the worker has made something, and what it is called there; `None` where the answer says of nothing
/// new.
#[must_use]
pub fn late_lease(late: &LateAnswer) -> Option<(LeaseId, String)> {
    let answer = late.answer.as_ref().ok().filter(|_| late.method == ACQUIRE)?;
    let lease_id = late.tag["leaseId"].as_str()?.parse().ok()?;
    Some((lease_id, wire::lease(answer)?.id?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::workers::rpc::{RpcError, code};

    #[test]
    fn only_what_an_acquire_made_counts() {
        let lease = LeaseId::derived(&["late"]);
        let late = |method: &str, answer: Result<Value, RpcError>| LateAnswer {
            plugin_key: "p".to_owned(),
            method: method.to_owned(),
            tag: json!({ "leaseId": lease, "attempt": 1 }),
            answer,
        };
        let made = json!({ "providerLeaseId": "box-1", "metadata": {} });
        assert_eq!(late_lease(&late(ACQUIRE, Ok(made.clone()))), Some((lease, "box-1".to_owned())));
        assert_eq!(late_lease(&late("environmentResumeLease", Ok(made.clone()))), None);
        assert_eq!(late_lease(&late(ACQUIRE, Ok(Value::Null))), None);
        assert_eq!(late_lease(&late(ACQUIRE, Err(RpcError::new(code::UNKNOWN, "?".to_owned())))), None);
        assert_eq!(late_lease(&LateAnswer { tag: Value::Null, ..late(ACQUIRE, Ok(made)) }), None);
    }
}
