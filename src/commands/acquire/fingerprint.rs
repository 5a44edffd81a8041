//! The reuse fingerprint: what a kept sandbox must have in common with an acquire to be taken over (B14). Pure.

use data_encoding::HEXLOWER;
use lease_events::environment::EnvironmentState;
use lease_events::lease::vocabulary::Policy;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::AcquireRequest;
use crate::drivers::LeasePlan;

/// SHA-256, hex, over company, environment, provider, policy and every config key but those that the driver names;
/// for `reuse_by_execution_workspace` also workspace, agent and adapter type. `None` where nothing is reused.
///
/// Secrets are references here, so they are compared by reference and version.
pub(super) fn of(request: &AcquireRequest, environment: &EnvironmentState, plan: &LeasePlan) -> Option<String> {
    if !plan.policy.allows_reuse() {
        return None;
    }
    let config: Map<String, Value> = plan
        .config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !plan.keys_outside_fingerprint.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut parts = json!({
        "company": request.company_id,
        "environment": environment.environment_id,
        "driver": environment.driver,
        "provider": plan.provider,
        "policy": plan.policy,
        "config": config,
    });
    if plan.policy == Policy::ReuseByExecutionWorkspace {
        parts["workspace"] = json!(request.execution_workspace_id);
        parts["agent"] = json!(request.agent_id);
        parts["adapter"] = json!(request.adapter_type);
    }
    Some(sha256_hex(&canonical(&parts)))
}

/// SHA-256 of a text, hex.
pub(crate) fn sha256_hex(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// JSON text with sorted keys and no spaces: the same value is the same text, whatever `serde_json`'s map is.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let fields: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// The names of the top-level config keys in which two configs differ.
pub(super) fn differing_keys(left: &Value, right: &Value) -> Vec<String> {
    let empty = Map::new();
    let (left, right) = (left.as_object().unwrap_or(&empty), right.as_object().unwrap_or(&empty));
    let mut keys: Vec<String> =
        left.keys().chain(right.keys()).filter(|key| left.get(*key) != right.get(*key)).cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_does_not_depend_on_the_order_of_keys() {
        let left: Value = serde_json::from_str(r#"{"b":[1,{"d":2,"c":null}],"a":"x"}"#).expect("valid");
        let right: Value = serde_json::from_str(r#"{"a":"x","b":[1,{"c":null,"d":2}]}"#).expect("valid");
        assert_eq!(canonical(&left), canonical(&right));
        assert_eq!(canonical(&left), r#"{"a":"x","b":[1,{"c":null,"d":2}]}"#);
    }

    #[test]
    fn differing_keys_are_named_once_each() {
        let left = json!({"a": 1, "b": 2, "c": 3});
        let right = json!({"a": 1, "b": 5, "d": 3});
        assert_eq!(differing_keys(&left, &right), ["b", "c", "d"]);
    }
}
