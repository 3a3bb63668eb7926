//! The configuration's JSON Schema, for editors: packaging/edge.schema.json is what is derived from the raw forms here.

use super::raw::RawConfig;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::path::Path;

/// Set to write the file anew, and not to compare it.
const WRITE: &str = "SALAD_WRITE_SCHEMA";

/// Draft 7, which editors of TOML know.
fn derived() -> String {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<RawConfig>().to_value();
    schema["title"] = "salad-edge".into();
    without_null(&mut schema);
    format!("{schema:#}\n")
}

/// TOML has no null: what is optional is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [one] = choices.as_slice() {
                    let all = Value::Array(vec![one.clone()]);
                    object.remove("anyOf");
                    object.insert("allOf".to_owned(), all);
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[test]
fn the_published_schema_is_the_derived_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/edge.schema.json");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, derived()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == derived(), "{} is not up to date: run this test with {WRITE}=1", path.display());
}

#[test]
fn every_field_is_described_and_the_example_names_the_schema() {
    fn described(schema: &Value, path: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{path}.{name} is not described");
            }
        }
        let inner = schema["definitions"].as_object().into_iter().flatten();
        inner.for_each(|(name, definition)| described(definition, name));
    }
    described(&serde_json::from_str(&derived()).unwrap(), "");
    assert!(include_str!("../../packaging/edge.toml").starts_with("#:schema ./edge.schema.json\n"));
    let service = include_str!("../../packaging/service.toml");
    assert!(service.starts_with("#:schema /usr/share/doc/salad-edge/examples/edge.schema.json\n"));
}
