//! The API document: `docs/openapi.json` is what the code says, and the code serves it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::Api;
use crate::tidy::root;

const METHODS: [&str; 3] = ["get", "post", "patch"];

fn document() -> Value {
    serde_json::to_value(lease_ledger::http::document()).expect("a document is JSON")
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, item)| {
            METHODS.iter().filter_map(move |method| Some((format!("{method} {path}"), item.get(*method)?)))
        })
        .collect()
}

#[test]
fn the_published_document_is_what_the_code_says() {
    let path = root().join("docs/openapi.json");
    let said = format!("{}\n", serde_json::to_string_pretty(&document()).expect("a document is JSON"));
    if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
        fs::write(&path, &said).expect("docs/ can be written");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert!(published == said, "docs/openapi.json is not what the code says; run `cargo xtask generate`");
}

#[tokio::test]
async fn the_document_is_served() {
    let served = Api::new().get("/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.json(), document());
}

#[test]
fn every_operation_is_documented_whole() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{name}");
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id"));
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &parameters {
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let is_problem = response["content"].get("application/problem+json").is_some();
            assert!(is_problem || name == "get /readyz", "{name}: {status} is no problem");
        }
        if operation.get("requestBody").is_some() {
            assert!(responses.contains_key("409") && responses.contains_key("415"), "{name}");
        }
    }
    assert_eq!(ids.len(), 35, "{ids:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(name), "there is no schema {name}");
    }
}

#[test]
fn an_answer_has_all_its_keys_and_a_request_refuses_others() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let lease = &schemas["Lease"];
    let keys = lease["properties"].as_object().expect("properties").len();
    assert_eq!(lease["required"].as_array().expect("required").len(), keys);
    let acquire = &schemas["AcquireLease"];
    assert_eq!(acquire["additionalProperties"], false);
    assert_eq!(acquire["required"], serde_json::json!(["companyId", "environmentId"]));
}
