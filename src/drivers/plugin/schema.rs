//! A plugin's config against the JSON Schema that its manifest declares, and its secret fields (B19, B20). Pure.
//!
//! **Invariant:** no sentence and no normal form repeats what stands in a secret field but a reference.

use jsonschema::error::ValidationErrorKind;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::drivers::InvalidConfig;
use crate::drivers::secrets::SecretRef;
use crate::secrets::fields;
use crate::workers::manifest::Manifest;

/// How deep a schema is followed: far deeper than any config, and an end for one that is built to have none.
const DEPTH_MAX: usize = 32;

/// The secret fields that a schema declares, as JSON Pointers into the config.
pub(in crate::drivers) fn secret_fields(schema: Option<&Value>) -> Vec<String> {
    schema.map(fields::of_schema).unwrap_or_default()
}

/// Checks a config whose secrets are references. `owner` is whose config it is, such as `driver "x" of plugin "y"`;
/// `not_asked` are keys that the host reads itself, so that the config need not have them.
pub(in crate::drivers) fn check(
    schema: Option<&Value>,
    config: &Map<String, Value>,
    owner: &str,
    not_asked: &[&str],
) -> Result<(), InvalidConfig> {
    let secrets = secret_fields(schema);
    let plain: Vec<&String> = secrets.iter().filter(|path| !holds_reference(config, path)).collect();
    let mut faults: Vec<String> = plain.iter().map(|path| no_reference(path)).collect();
    if let Some(schema) = schema {
        let mut schema = schema.clone();
        loosen(&mut schema, 0);
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !name.as_str().is_some_and(|name| not_asked.contains(&name)));
        }
        match jsonschema::validator_for(&schema) {
            Ok(validator) => {
                let config = json!(config);
                // What is told of a secret field already is not told twice.
                let told = |key: &str| plain.iter().any(|path| dotted(path) == key);
                let errors = validator.iter_errors(&config).filter(|error| !told(&key_of(error)));
                faults.extend(errors.flat_map(|error| sentences(&error, owner)));
            }
            Err(_) => faults.push(format!("The config schema of {owner} cannot be used.")),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(InvalidConfig { faults }) }
}

/// What is wrong with a plugin's own config, by the `instanceConfigSchema` of its manifest; each fault a sentence.
/// Secrets have no place in it: it is given to every call's worker, and no company's.
#[must_use]
pub fn own_config_faults(manifest: &Manifest, config: Option<&Value>) -> Vec<String> {
    let schema = manifest.raw.get("instanceConfigSchema").filter(|schema| schema.is_object());
    let config = config.and_then(Value::as_object).cloned().unwrap_or_default();
    let secret =
        secret_fields(schema).into_iter().filter(|path| at(&config, path).is_some_and(|value| !value.is_null()));
    let told: Vec<String> = secret
        .map(|path| {
            format!(
                "\"{}\" is a secret, and a plugin's own config holds none; put it into the config of the driver, or \
                 grant a variable.",
                dotted(&path)
            )
        })
        .collect();
    if !told.is_empty() {
        return told;
    }
    let owner = format!("plugin \"{}\"", manifest.id);
    check(schema, &config, &owner, &[]).map_or_else(|invalid| invalid.faults, |()| Vec::new())
}

/// Whether what stands at a secret field is a reference, or nothing.
fn holds_reference(config: &Map<String, Value>, path: &str) -> bool {
    let value = at(config, path).filter(|value| !value.is_null());
    value.is_none_or(|value| serde_json::from_value::<SecretRef>(value.clone()).is_ok())
}

fn no_reference(path: &str) -> String {
    let example = "{\"type\":\"secret_ref\",\"secretId\":UUID,\"version\":\"latest\"}";
    format!("\"{}\" must be a reference to a secret, such as {example}.", dotted(path))
}

/// Lets a schema speak of references where it speaks of secret values.
fn loosen(schema: &mut Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    if schema["format"] == fields::FORMAT {
        *schema = json!({ "type": "object", "required": ["type", "secretId"] });
        return;
    }
    for (_, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        loosen(field, depth + 1);
    }
    for branches in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.get_mut(branches).and_then(Value::as_array_mut).into_iter().flatten() {
            loosen(branch, depth + 1);
        }
    }
}

/// Where an error is, as `a.b`.
fn key_of(error: &jsonschema::ValidationError<'_>) -> String {
    error.instance_path().to_string().trim_start_matches('/').replace('/', ".")
}

fn sentences(error: &jsonschema::ValidationError<'_>, owner: &str) -> Vec<String> {
    let key = key_of(error);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let prefix = if key.is_empty() { String::new() } else { format!("{key}.") };
            unexpected.iter().map(|name| format!("\"{prefix}{name}\" is no config key of {owner}.")).collect()
        }
        // The value is masked: a secret may stand where it should not.
        _ if key.is_empty() => vec![format!("The config of {owner}: {}.", error.masked())],
        _ => vec![format!("\"{key}\" of {owner}: {}.", error.masked())],
    }
}

/// The references in a config's secret fields.
pub(in crate::drivers) fn references(config: &Map<String, Value>, fields: &[String]) -> Vec<(String, SecretRef)> {
    let reference = |path: &String| Some((path.clone(), serde_json::from_value(at(config, path)?.clone()).ok()?));
    fields.iter().filter_map(reference).collect()
}

/// Puts values in the place of references.
pub(in crate::drivers) fn fill(config: &mut Map<String, Value>, values: &[(String, SecretString)]) {
    for (path, value) in values {
        if let Some(place) = at_mut(config, path) {
            *place = Value::from(value.expose_secret());
        }
    }
}

/// Puts a text in the place of each reference: its secret's id, as a worker knows it before it gets the value.
pub(in crate::drivers) fn name_references(config: &mut Map<String, Value>, references: &[(String, SecretRef)]) {
    for (path, reference) in references {
        if let Some(place) = at_mut(config, path) {
            *place = Value::from(reference.secret_id.to_string());
        }
    }
}

/// Replaces the texts that stand in secret fields.
pub(in crate::drivers) fn replace_texts(
    config: &mut Map<String, Value>,
    fields: &[String],
    mut by: impl FnMut(String) -> Value,
) {
    for path in fields {
        if let Some(place) = at_mut(config, path)
            && let Value::String(text) = place
        {
            *place = by(std::mem::take(text));
        }
    }
}

/// Puts references back, whatever stands there now; a field that is gone stays so.
pub(in crate::drivers) fn restore(config: &mut Map<String, Value>, references: &[(String, SecretRef)]) {
    for (path, reference) in references {
        if let Some(place) = at_mut(config, path) {
            *place = json!(reference);
        }
    }
}

/// The names on the way that a JSON Pointer goes.
fn names(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~"))
}

/// A pointer as people write it.
fn dotted(pointer: &str) -> String {
    names(pointer).collect::<Vec<_>>().join(".")
}

fn at<'a>(config: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let mut names = names(pointer);
    let first = config.get(&names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

fn at_mut<'a>(config: &'a mut Map<String, Value>, pointer: &str) -> Option<&'a mut Value> {
    let mut names = names(pointer);
    let first = config.get_mut(&names.next()?)?;
    names.try_fold(first, |value, name| value.get_mut(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object", "additionalProperties": false, "required": ["apiKey", "timeoutMs"],
            "properties": {
                "apiKey": { "type": "string", "format": "secret-ref", "minLength": 20 },
                "region": { "enum": ["eu", "us"] },
                "timeoutMs": { "type": "integer" },
                "deep": {
                    "type": "object",
                    "properties": { "token": { "oneOf": [{ "type": "null" }, { "format": "secret-ref" }] }, "x": {} },
                },
            },
            "allOf": [{ "properties": { "deep": { "anyOf": [{ "properties": { "other": { "format": "secret-ref" } } }] } } }],
        })
    }

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("it is an object") };
        map
    }

    fn reference() -> Value {
        json!({ "type": "secret_ref", "secretId": "0198c0de-0000-7000-8000-000000000001", "version": 3 })
    }

    #[test]
    fn secret_fields_are_found_through_every_way() {
        assert_eq!(secret_fields(Some(&schema())), ["/apiKey", "/deep/other", "/deep/token"]);
        assert!(secret_fields(None).is_empty());
    }

    #[test]
    fn references_pass_and_every_fault_is_told_without_a_value() {
        let good = map(json!({ "apiKey": reference(), "deep": { "token": null } }));
        check(Some(&schema()), &good, "driver \"d\"", &["timeoutMs"]).unwrap();
        let bad = map(json!({ "apiKey": "hunter2", "region": "hunter3", "more": 1, "deep": { "token": "hunter4" } }));
        let faults = check(Some(&schema()), &bad, "driver \"d\"", &["timeoutMs"]).unwrap_err().faults;
        let told = faults.join("\n");
        assert!(!told.contains("hunter"), "{told}");
        for part in [
            "\"apiKey\" must be a reference",
            "\"deep.token\" must be a reference",
            "\"more\" is no config key of driver \"d\".",
            "\"region\" of driver \"d\":",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        check(None, &bad, "driver \"d\"", &[]).unwrap();
    }

    #[test]
    fn a_plugins_own_config_keeps_its_schema_and_holds_no_secret() {
        let manifest = |own: Value| {
            let raw = json!({
                "id": "p", "apiVersion": 1, "version": "1.0.0", "displayName": "P", "capabilities": [],
                "entrypoints": { "worker": "w.mjs" }, "instanceConfigSchema": own,
            });
            Manifest::parse(raw).unwrap()
        };
        let mut own = schema();
        own["required"] = json!(["region"]);
        let declared = manifest(own);
        assert!(own_config_faults(&declared, Some(&json!({ "region": "eu" }))).is_empty());
        let faults = own_config_faults(&declared, None).join(" ");
        assert!(faults.starts_with("The config of plugin \"p\": "), "{faults}");
        for secret in [json!("hunter2"), reference()] {
            let faults = own_config_faults(&declared, Some(&json!({ "region": "eu", "apiKey": secret }))).join(" ");
            assert!(faults.starts_with("\"apiKey\" is a secret, and") && !faults.contains("hunter2"), "{faults}");
        }
        assert!(own_config_faults(&manifest(Value::Null), Some(&json!({ "anything": 1 }))).is_empty());
    }

    #[test]
    fn values_come_in_and_go_out_again() {
        let fields = secret_fields(Some(&schema()));
        let config = map(json!({ "apiKey": reference(), "deep": { "token": reference(), "x": 1 }, "region": "eu" }));
        let found = references(&config, &fields);
        assert_eq!(found.len(), 2);
        let mut filled = config.clone();
        let values: Vec<_> = found.iter().map(|(path, _)| (path.clone(), SecretString::from("v"))).collect();
        fill(&mut filled, &values);
        assert_eq!(
            Value::Object(filled.clone()),
            json!({ "apiKey": "v", "deep": { "token": "v", "x": 1 }, "region": "eu" })
        );
        restore(&mut filled, &found);
        assert_eq!(filled, config);
        fill(&mut filled, &values);
        replace_texts(&mut filled, &fields, |text| if text == "v" { reference() } else { Value::Null });
        assert_eq!(filled, config);
    }
}
