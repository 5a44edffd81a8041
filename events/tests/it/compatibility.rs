//! Whether a changed JSON Schema still serves both ways: old readers of new data, and new readers of old data.
//!
//! A change within one version may only add optional fields and change descriptions. All else is a new version.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What of `new` breaks readers or data of `old`, a sentence each.
pub(crate) fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    compare("the data", old, new, &mut faults);
    let (old_types, new_types) = (members(old, "$defs"), members(new, "$defs"));
    for (name, old_type) in &old_types {
        // A type that is not there any more is seen where a field refers to another one.
        if let Some(new_type) = new_types.get(name) {
            compare(name, old_type, new_type, &mut faults);
        }
    }
    faults
}

fn compare(name: &str, old: &Value, new: &Value, faults: &mut Vec<String>) {
    let (old_fields, new_fields) = (members(old, "properties"), members(new, "properties"));
    let (old_required, new_required) = (required(old), required(new));
    for (field, old_field) in &old_fields {
        match new_fields.get(field) {
            None => faults.push(format!("the field {field} of {name} is gone")),
            Some(new_field) if shape(old_field) != shape(new_field) => {
                faults.push(format!("the field {field} of {name} has another shape"));
            }
            Some(_) => {}
        }
    }
    for field in old_required.difference(&new_required) {
        faults.push(format!("the field {field} of {name} is not always there any more"));
    }
    for field in new_required.difference(&old_required) {
        faults.push(format!("the field {field} of {name} is new or newly required: old data lacks it"));
    }
    if rest(old) != rest(new) {
        faults.push(format!("{name} has another shape"));
    }
}

fn members(schema: &Value, key: &str) -> Map<String, Value> {
    schema.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn required(schema: &Value) -> BTreeSet<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What a schema says besides its fields: its type, and the words of a vocabulary.
fn rest(schema: &Value) -> Value {
    let mut rest = shape(schema);
    if let Some(members) = rest.as_object_mut() {
        for key in ["properties", "required", "$defs", "$id", "$schema"] {
            members.remove(key);
        }
    }
    rest
}

/// A schema without what no reader looks at.
fn shape(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let said = members.iter().filter(|(key, value)| !is_prose(key, value));
            Value::Object(said.map(|(key, value)| (key.clone(), shape(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(shape).collect()),
        scalar => scalar.clone(),
    }
}

fn is_prose(key: &str, value: &Value) -> bool {
    matches!(key, "description" | "title") && value.is_string()
}

#[test]
fn prose_and_optional_fields_may_change() {
    let old = serde_json::json!({"description": "a", "type": "object", "properties": {"a": {"type": "string"}}});
    let new = serde_json::json!({
        "description": "b", "type": "object",
        "properties": {"a": {"type": "string", "description": "A."}, "b": {"type": ["string", "null"]}},
    });
    assert_eq!(breaks(&old, &new), Vec::<String>::new());
}

#[test]
fn whatever_breaks_a_reader_is_named() {
    let old = serde_json::json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"$ref": "#/$defs/Word"}},
        "required": ["a"],
        "$defs": {"Word": {"enum": ["x", "y"]}},
    });
    let changed = |change: fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        breaks(&old, &new)
    };
    let gone = changed(|new| {
        new["properties"].as_object_mut().expect("an object").remove("b");
    });
    assert_eq!(gone, ["the field b of the data is gone"]);
    let optional = changed(|new| new["required"] = serde_json::json!([]));
    assert_eq!(optional, ["the field a of the data is not always there any more"]);
    let required = changed(|new| new["required"] = serde_json::json!(["a", "b"]));
    assert_eq!(required, ["the field b of the data is new or newly required: old data lacks it"]);
    let retyped = changed(|new| new["properties"]["a"]["type"] = "integer".into());
    assert_eq!(retyped, ["the field a of the data has another shape"]);
    let reworded = changed(|new| new["$defs"]["Word"]["enum"] = serde_json::json!(["x", "y", "z"]));
    assert_eq!(reworded, ["Word has another shape"]);
}
