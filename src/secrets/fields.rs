//! Which fields of a config hold secrets, and what becomes of them. Pure.
//!
//! A driver names its secret fields by JSON Pointers (RFC 6901); those of a plugin are found in its config's JSON
//! Schema, where a field says `"format": "secret-ref"` (B19).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// How a JSON Schema marks a field that holds a reference to a secret.
pub const FORMAT: &str = "secret-ref";

/// What stands in the place of a value that is not to be seen.
pub const HIDDEN: &str = "[secret]";

/// How deep schemas are followed: far deeper than any config, and an end for one that is built to have none.
const DEPTH_MAX: usize = 32;

/// The secret fields that a schema declares: through `properties`, nested, and through `allOf`, `anyOf` and `oneOf`.
#[must_use]
pub fn of_schema(schema: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    collect(schema, "", 0, &mut found);
    found.into_iter().collect()
}

fn collect(schema: &Value, pointer: &str, depth: usize, found: &mut BTreeSet<String>) {
    if depth > DEPTH_MAX {
        return;
    }
    if schema["format"] == FORMAT && !pointer.is_empty() {
        found.insert(pointer.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect(field, &format!("{pointer}/{}", escaped(name)), depth + 1, found);
    }
    for branches in ["allOf", "anyOf", "oneOf"] {
        for branch in schema[branches].as_array().into_iter().flatten() {
            collect(branch, pointer, depth + 1, found);
        }
    }
}

/// A name as a token of a JSON Pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The config with every plaintext at `fields` hidden; references stay. What a request's digest is made of.
#[must_use]
pub fn hidden(config: &Value, fields: &[String]) -> Value {
    let mut config = config.clone();
    for field in fields {
        if let Some(value) = config.pointer_mut(field).filter(|value| value.is_string()) {
            *value = Value::from(HIDDEN);
        }
    }
    config
}

/// Removes every field from what a provider says of a lease, and every parent object that this leaves empty (B20).
pub fn remove(metadata: &mut Map<String, Value>, fields: &[String]) {
    for field in fields {
        let tokens: Vec<String> = field.split('/').skip(1).map(unescaped).collect();
        remove_at(metadata, &tokens);
    }
}

fn remove_at(object: &mut Map<String, Value>, tokens: &[String]) {
    let Some((name, rest)) = tokens.split_first() else { return };
    if rest.is_empty() {
        object.remove(name);
        return;
    }
    let Some(Value::Object(child)) = object.get_mut(name) else { return };
    let before = child.len();
    remove_at(child, rest);
    // An object that was empty before is the provider's own, and stays.
    if child.is_empty() && before > 0 {
        object.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secret_fields_are_found_wherever_a_schema_declares_them() {
        let reference = json!({"type": "string", "format": "secret-ref"});
        let schema = json!({
            "properties": {
                "token": reference,
                "host": {"type": "string"},
                "auth": {"properties": {"key/pair": reference, "user": {}}},
                "either": {"oneOf": [{"type": "null"}, reference]},
            },
            "allOf": [{"properties": {"extra": reference}}],
            "anyOf": [{"properties": {"deep": {"anyOf": [{"properties": {"er": reference}}]}}}],
        });
        assert_eq!(of_schema(&schema), ["/auth/key~1pair", "/deep/er", "/either", "/extra", "/token"]);
        assert_eq!(of_schema(&json!(true)), Vec::<String>::new());
        assert_eq!(of_schema(&json!({"format": "secret-ref"})), Vec::<String>::new());
    }

    #[test]
    fn plaintext_is_hidden_and_references_stay() {
        let reference = json!({"type": "secret_ref", "secretId": "x"});
        let config = json!({"a": "plain", "b": reference, "c": {"d~/": "plain"}, "host": "h"});
        let fields = ["/a", "/b", "/c/d~0~1", "/missing"].map(str::to_owned);
        let shown = json!({"a": HIDDEN, "b": reference, "c": {"d~/": HIDDEN}, "host": "h"});
        assert_eq!(hidden(&config, &fields), shown);
    }

    #[test]
    fn fields_are_removed_with_the_parents_that_they_leave_empty() {
        let told = json!({"auth": {"inner": {"token": "x"}}, "kept": {"token": "x", "id": 1}, "empty": {}, "token": 1});
        let Value::Object(mut told) = told else { panic!("an object") };
        let fields = ["/auth/inner/token", "/kept/token", "/empty/token", "/token", "/none/x"].map(str::to_owned);
        remove(&mut told, &fields);
        assert_eq!(Value::Object(told), json!({"kept": {"id": 1}, "empty": {}}));
    }
}
