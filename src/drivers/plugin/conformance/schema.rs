//! A config against the schema that the driver declares, as the worker itself judges it.

use serde_json::{Map, Value, json};

use super::kit::{Kit, Tried, failed, not_offered};
use super::method;
use crate::drivers::plugin::schema;
use crate::workers::connection::Call;

/// A key that no schema names.
const STRANGE_KEY: &str = "noSuchKeyOfTheLedgersCheck";

/// `environmentValidateConfig` keeps to the declared schema.
pub(super) async fn declared(kit: &Kit) -> Tried {
    kit.needs(method::VALIDATE).await?;
    let mut config = kit.config.clone();
    let references = schema::references(&config, &schema::secret_fields(kit.driver.config_schema.as_ref()));
    schema::name_references(&mut config, &references);

    let answer = ask(kit, &config).await?;
    if answer["ok"] != true {
        return failed(format!("Its own normal form was not taken ({}); it must be.", answer["errors"]));
    }
    let normal = answer["normalizedConfig"].as_object().cloned().unwrap_or_else(|| config.clone());
    let again = ask(kit, &normal).await?;
    if again["ok"] != true || again.get("normalizedConfig").is_some_and(|again| *again != json!(normal)) {
        return failed("The normal form of its normal form was another one; it must be its own.");
    }
    let Some((broken, how)) = broken(kit.driver.config_schema.as_ref(), &config) else {
        return not_offered("The driver declares no configSchema that a config could break.");
    };
    if ask(kit, &broken).await?["ok"] == true {
        return failed(format!("A config {how} was taken; it must answer ok: false, with a sentence in errors."));
    }
    Ok(())
}

async fn ask(kit: &Kit, config: &Map<String, Value>) -> Tried<Value> {
    let running = kit.running().await?;
    let params = json!({ "driverKey": kit.driver.driver_key, "config": config });
    match running.connection.call(Call::new(method::VALIDATE, params, kit.patience.call)).await {
        Ok(answer) => Ok(answer),
        Err(error) => failed(format!("environmentValidateConfig failed: {error} It must answer with ok and errors.")),
    }
}

/// The config, made to break the schema in the plainest way that there is, and what is wrong with it.
fn broken(schema: Option<&Value>, config: &Map<String, Value>) -> Option<(Map<String, Value>, String)> {
    let schema = schema?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(key) = required.filter(|key| config.contains_key(*key)).max() {
        let mut without = config.clone();
        without.remove(key);
        return Some((without, format!("without \"{key}\", which the schema requires,")));
    }
    let typed = schema["properties"].as_object().into_iter().flatten().find(|(_, field)| field["type"].is_string());
    let mut wrong = config.clone();
    if let Some((key, field)) = typed {
        let value = if field["type"] == "object" { json!(7) } else { json!({}) };
        wrong.insert(key.clone(), value);
        return Some((wrong, format!("with a \"{key}\" of another type")));
    }
    if schema["additionalProperties"] == false {
        wrong.insert(STRANGE_KEY.to_owned(), json!(1));
        return Some((wrong, "with a key that the schema does not know".to_owned()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_broken_in_the_plainest_way() {
        let config = json!({ "root": "/x" }).as_object().cloned().unwrap();
        let told = |schema: Value| broken(Some(&schema), &config).map(|(broken, how)| (Value::Object(broken), how));
        let (without, how) = told(json!({ "required": ["root"] })).unwrap();
        assert_eq!((without, how.contains("without \"root\"")), (json!({}), true));
        let (wrong, _) = told(json!({ "properties": { "size": { "type": "integer" } } })).unwrap();
        assert_eq!(wrong, json!({ "root": "/x", "size": {} }));
        let (wrong, _) = told(json!({ "additionalProperties": false })).unwrap();
        assert!(wrong.as_object().unwrap().contains_key(STRANGE_KEY));
        assert_eq!(told(json!({})), None);
        assert!(broken(None, &config).is_none());
    }
}
