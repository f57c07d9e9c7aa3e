//! Types, sizes, patterns and required fields.
//!
//! Given a schema and a value; given back what is wrong with the value. CEL rules are in
//! [`super::rules`].

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::KNOWN;

/// Adds what is wrong with a value.
pub(super) fn check(
    schema: &JSONSchemaProps,
    value: &Value,
    path: &str,
    problems: &mut Vec<String>,
) {
    let fits = match schema.type_.as_deref() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ if schema.x_kubernetes_int_or_string == Some(true) => {
            value.is_i64() || value.is_u64() || value.is_string()
        }
        _ => true,
    };
    if !fits {
        let wanted = schema.type_.as_deref().unwrap_or("integer or string");
        problems.push(format!("{path}: Invalid value: must be of type {wanted}"));
        return;
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|allowed| allowed.0 == *value)
    {
        problems.push(format!("{path}: Unsupported value: {value}"));
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), &schema.pattern)
        && let Some(Some(known)) = KNOWN.patterns.get(pattern)
        && !known.is_match(text)
    {
        problems.push(format!(
            "{path}: Invalid value: {value}: should match {pattern}"
        ));
    }
    size(schema, value, path, problems);
    match value {
        Value::Object(fields) => {
            for name in schema.required.iter().flatten() {
                if !fields.contains_key(name) {
                    problems.push(format!("{path}.{name}: Required value"));
                }
            }
            for (name, value) in fields {
                if let Some(schema) = of_field(schema, name) {
                    check(schema, value, &format!("{path}.{name}"), problems);
                }
            }
        }
        Value::Array(items) => {
            unique(schema, items, path, problems);
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(schema, item, &format!("{path}[{index}]"), problems);
                }
            }
        }
        _ => {}
    }
}

/// The schema of a field.
pub(super) fn of_field<'schema>(
    schema: &'schema JSONSchemaProps,
    name: &str,
) -> Option<&'schema JSONSchemaProps> {
    let own = schema.properties.as_ref().and_then(|known| known.get(name));
    own.or(match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(schema),
        _ => None,
    })
}

/// Items of a set, and keys of a list that is a map, occur once.
fn unique(schema: &JSONSchemaProps, items: &[Value], path: &str, problems: &mut Vec<String>) {
    let keys = schema.x_kubernetes_list_map_keys.as_deref();
    let key_of = |item: &Value| match schema.x_kubernetes_list_type.as_deref() {
        Some("set") => Some(item.clone()),
        Some("map") => keys.map(|keys| keys.iter().map(|key| item[key].clone()).collect()),
        _ => None,
    };
    let found: Vec<Value> = items.iter().filter_map(key_of).collect();
    for (index, key) in found.iter().enumerate() {
        if found.iter().take(index).any(|earlier| earlier == key) {
            problems.push(format!("{path}[{index}]: Duplicate value: {key}"));
        }
    }
}

fn size(schema: &JSONSchemaProps, value: &Value, path: &str, problems: &mut Vec<String>) {
    let size = match value {
        Value::String(text) => Some((text.chars().count(), schema.min_length, schema.max_length)),
        Value::Array(items) => Some((items.len(), schema.min_items, schema.max_items)),
        Value::Object(fields) => Some((fields.len(), schema.min_properties, schema.max_properties)),
        _ => None,
    };
    if let Some((size, least, most)) = size {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if least.is_some_and(|least| size < least) {
            problems.push(format!(
                "{path}: Invalid value: shorter than {}",
                least.unwrap_or(0)
            ));
        }
        if most.is_some_and(|most| size > most) {
            problems.push(format!(
                "{path}: Too long: may not be longer than {}",
                most.unwrap_or(0)
            ));
        }
    }
    if let Some(number) = value.as_f64() {
        if schema.minimum.is_some_and(|least| number < least) {
            problems.push(format!(
                "{path}: Invalid value: {value}: less than the minimum"
            ));
        }
        if schema.maximum.is_some_and(|most| number > most) {
            problems.push(format!(
                "{path}: Invalid value: {value}: more than the maximum"
            ));
        }
    }
}
