//! `docs/events.md`: every event with its fields, written from the schemas and so from the code.

use std::fmt::Write;

use serde_json::Value;

use crate::generated::{EventSchema, compare, event_schemas, in_crate};

const INTRODUCTION: &str = "# Events

Generated from the event types by `cargo xtask generate`; a test compares it. The JSON Schemas stand in
`events/schemas/`, stored samples of every type and version in `events/golden/`.

An event stands in a stream named `CATEGORY-ID`. Beside its data a store keeps `event_id`, `stream_revision` (from 0,
no gap), `position` (in the whole log: from 1, no gap, in commit order), `company_id`, `recorded_at`, and the metadata
`$correlationId`, `$causationId`, `commandId`, `actor` and `traceparent`. Names of types and fields never change;
readers pass over fields that they do not know.
";

#[test]
fn the_catalogue_is_that_of_the_code() {
    let mut text = INTRODUCTION.to_owned();
    let events = event_schemas();
    for category in ["lease", "environment", "secret", "run", "orphan", "command"] {
        let of_category = || events.iter().filter(|event| event.category == category);
        let _ = writeln!(text, "\n## Streams `{category}-<uuid>`\n\n| type | version | meaning |\n| --- | --- | --- |");
        for event in of_category() {
            let _ = writeln!(
                text,
                "| [`{0}`](#{0}) | {1} | {2} |",
                event.event_type,
                event.version,
                meaning(&event.schema)
            );
        }
        for event in of_category() {
            describe(event, &mut text);
        }
    }
    compare(&in_crate("../docs/events.md"), &text);
}

fn describe(event: &EventSchema, text: &mut String) {
    let _ = writeln!(
        text,
        "\n### {}\n\n| field | type | always there | meaning |\n| --- | --- | --- | --- |",
        event.event_type
    );
    let required = event.schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in event.schema["properties"].as_object().into_iter().flatten() {
        let always = if required.iter().any(|required| required == name) { "yes" } else { "no" };
        let _ =
            writeln!(text, "| `{name}` | {} | {always} | {} |", kind(field, &event.schema["$defs"]), meaning(field));
    }
}

/// The description, in one line of a table.
fn meaning(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// A field's type in few words.
fn kind(field: &Value, types: &Value) -> String {
    if let Some(name) = field["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return named(name, &types[name], types);
    }
    if let Some(options) = field["anyOf"].as_array() {
        let named: Vec<String> =
            options.iter().filter(|option| option["type"] != "null").map(|option| kind(option, types)).collect();
        return named.join(" or ");
    }
    match &field["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&field["items"], types)),
        Value::String(name) => qualified(name, field),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .map(|name| qualified(name, field))
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "JSON".to_owned(),
    }
}

fn qualified(name: &str, field: &Value) -> String {
    field["format"].as_str().map_or_else(|| name.to_owned(), |format| format!("{name} ({format})"))
}

/// A named type: the words of a vocabulary, the fields of an object, or what an id is.
fn named(name: &str, schema: &Value, types: &Value) -> String {
    if let Some(options) = schema["oneOf"].as_array() {
        let words: Vec<String> =
            options.iter().filter_map(|option| option["const"].as_str()).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    match schema["properties"].as_object() {
        Some(fields) => {
            let fields: Vec<String> = fields.keys().map(|field| format!("`{field}`")).collect();
            format!("{name} {{{}}}", fields.join(", "))
        }
        None => kind(schema, types),
    }
}
