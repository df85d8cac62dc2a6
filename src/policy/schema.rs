//! The language as a JSON Schema, for editors: made from the tables that the reader itself uses.
//!
//! It knows less than the reader: a policy that it takes may still be refused. One that the reader
//! takes it takes too, unless a value reads differently without quotes (P106).

use super::read::keys::{Form, Key, MATCH_KEYS, POLICY_KEYS};
use serde_json::{Map, Value, json};

/// The schema of a policy file and of a drop-in.
pub fn json_schema() -> Value {
    let mut schema = of("Policy of pvusb-agent", &POLICY_KEYS);
    // A drop-in may hold less than the main file: `rules` must be where `defaults` are.
    schema["required"] = json!(["version"]);
    schema["dependencies"] = json!({"defaults": ["rules"]});
    let mut matcher = map(&MATCH_KEYS, 1);
    matcher.insert("description".into(), json!("Which devices: all keys must hold."));
    schema["definitions"] = json!({"match": matcher});
    schema
}

/// The schema of files with these keys (draft 7, which editors know best). A match is defined in that of
/// policies alone.
pub(crate) fn of(title: &str, keys: &'static [Key]) -> Value {
    let mut schema = map(keys, 0);
    schema.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".into(), json!(title));
    Value::Object(schema)
}

/// A map with these keys.
fn map(keys: &'static [Key], least: usize) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("additionalProperties".into(), json!(false));
    let properties: Map<_, _> = keys.iter().map(|key| (key.name.into(), property(key))).collect();
    schema.insert("properties".into(), Value::Object(properties));
    let musts: Vec<_> = keys.iter().filter(|key| key.must).map(|key| key.name).collect();
    if !musts.is_empty() {
        schema.insert("required".into(), json!(musts));
    }
    if least > 0 {
        schema.insert("minProperties".into(), json!(least));
    }
    schema
}

/// A key with what it is for.
fn property(key: &Key) -> Value {
    let mut schema = value(&key.form);
    if let Some(there) = schema.as_object_mut() {
        // Beside a reference nothing counts.
        if let Some(reference) = there.remove("$ref") {
            there.insert("allOf".into(), json!([{"$ref": reference}]));
        }
        there.insert("description".into(), json!(key.about));
    }
    schema
}

/// What a value is. What is text here may be a number to a reader of YAML.
fn value(form: &Form) -> Value {
    match form {
        Form::Version => json!({"enum": [1, "1"]}),
        Form::Text | Form::Group | Form::Tag => text("\\S"),
        Form::Lines => json!({"type": ["string", "number", "boolean"]}),
        Form::Pattern => json!({"type": ["string", "number", "boolean"], "minLength": 1}),
        Form::Guest => {
            let mut schema = text("^\\S(.*\\S)?$");
            schema["not"] = json!({"enum": ["dom0", "Domain-0"]});
            schema
        }
        Form::Truth => json!({"enum": [true, false, "true", "false"]}),
        Form::True => json!({"enum": [true, "true"]}),
        Form::Words(words) => json!({"enum": words()}),
        Form::Number(from, to) => json!({
            "type": ["integer", "string"], "minimum": from, "maximum": to, "pattern": "^[0-9]+$",
        }),
        Form::Duration => json!({
            "type": ["string", "integer"], "maximum": 0, "minimum": 0,
            "pattern": "^([0-9]+(ms|s|m)|0)$",
        }),
        Form::For(word) => json!({
            "type": "string", "pattern": format!("^{word} +[0-9]+(ms|s|m)$"),
        }),
        Form::Id => json!({
            "type": "string", "pattern": "^(\\*|([0-9A-Fa-f]{4}|\\*):([0-9A-Fa-f]{4}|\\*))$",
        }),
        Form::Port => json!({
            "type": "string",
            "pattern": "^([0-9]+-|[A-Za-z0-9_:.-]+-usb-0:)[0-9]+(\\.[0-9]+)*(\\.\\*)?$",
        }),
        Form::BusAddress => json!({"type": ["string", "number"], "pattern": "^[0-9]+\\.[0-9]+$"}),
        Form::Class => json!({
            "type": ["string", "integer"],
            "pattern": "^([0-9A-Fa-f]{2}|\\*)(:([0-9A-Fa-f]{2}|\\*):([0-9A-Fa-f]{2}|\\*))?$",
        }),
        Form::Release => json!({
            "type": ["string", "number"], "pattern": "^[0-9]+\\.([0-9]+|\\*)$",
        }),
        Form::Like(pattern) => json!({"type": ["string", "number"], "pattern": pattern}),
        Form::Nothing => json!({"type": "null"}),
        Form::Match => json!({"$ref": "#/definitions/match"}),
        Form::Map(keys, least) => Value::Object(map(keys, *least)),
        Form::Choice(keys, choice) => {
            let mut schema = map(keys, 0);
            let one_of = choice.iter().map(|key| json!({"required": [key]})).collect();
            schema.insert("oneOf".into(), Value::Array(one_of));
            Value::Object(schema)
        }
        Form::Named(each) => json!({"type": "object", "additionalProperties": value(each)}),
        Form::List(each, least) => list(each, *least),
        Form::Some(one) => json!({"anyOf": [value(one), list(one, 1)]}),
        Form::Each(one) => json!({"anyOf": [value(one), list(one, 0)]}),
        Form::Either(forms) => json!({"anyOf": forms.iter().map(value).collect::<Vec<_>>()}),
    }
}

fn text(pattern: &str) -> Value {
    json!({"type": ["string", "number", "boolean"], "pattern": pattern})
}

fn list(each: &Form, least: usize) -> Value {
    let mut schema = json!({"type": "array", "items": value(each)});
    if least > 0 {
        schema["minItems"] = json!(least);
    }
    schema
}
