//! Defaults and pruning: what the API server makes of an object before it looks at it.
//!
//! Given a schema and a value; given back the value with defaults and without unknown fields.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// Fills in defaults and drops what the schema does not know.
pub(super) fn complete(schema: &JSONSchemaProps, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let known = schema.properties.as_ref();
            let open = schema.additional_properties.is_some()
                || schema.x_kubernetes_preserve_unknown_fields == Some(true);
            if !open {
                fields.retain(|name, _value| known.is_some_and(|known| known.contains_key(name)));
            }
            // A null where nothing may be null is as good as nothing.
            fields.retain(|name, value| {
                !value.is_null()
                    || known
                        .and_then(|known| known.get(name))
                        .is_some_and(|schema| schema.nullable == Some(true))
            });
            for (name, schema) in known.into_iter().flatten() {
                if let Some(default) = &schema.default {
                    fields
                        .entry(name.clone())
                        .or_insert_with(|| default.0.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    complete(schema, value);
                }
            }
            if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
                fields
                    .values_mut()
                    .for_each(|value| complete(schema, value));
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for item in items {
                    complete(schema, item);
                }
            }
        }
        _ => {}
    }
}
