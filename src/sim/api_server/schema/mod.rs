//! What the CustomResourceDefinitions say of our kinds: defaults, unknown fields, and what is not
//! acceptable.
//!
//! Given an object; given back the same with defaults and without unknown fields, or why it is
//! refused. The schemas are those of `tonnage crds`. Patterns and CEL rules are not run as such: an
//! object must be readable as its Rust type and pass that type's own checks, which say the same.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::refusal::Refusal;
use super::resource::{Key, Resource};
use crate::api::{
    self, EC2NodeClass, NodeClaim, NodePool, node_class_validation, node_pool_validation,
};

/// The schemas of our kinds.
#[derive(Debug)]
pub(super) struct Schemas(BTreeMap<&'static str, JSONSchemaProps>);

impl Schemas {
    /// As the binary would install them.
    pub(super) fn of_our_kinds() -> Self {
        let definitions = api::crds::definitions();
        let schemas = definitions.into_iter().filter_map(|definition| {
            let resource = Resource::ALL.into_iter().find(|resource| {
                let known = resource.definition();
                known.group == definition.spec.group && known.plural == definition.spec.names.plural
            })?;
            let version = definition.spec.versions.into_iter().next()?;
            let schema = version.schema?.open_api_v3_schema?;
            Some((resource.definition().kind, schema))
        });
        Self(schemas.collect())
    }

    /// Completes and checks an object; kinds without schema pass as they are.
    pub(super) fn accept(&self, key: &Key, object: &mut Value) -> Result<(), Refusal> {
        let definition = key.resource.definition();
        let Some(schema) = self.0.get(definition.kind) else {
            return Ok(());
        };
        let mut problems = Vec::new();
        let properties = schema.properties.iter().flatten();
        for (name, schema) in
            properties.filter(|(name, _schema)| *name == "spec" || *name == "status")
        {
            if let Some(value) = object.get_mut(name) {
                complete(schema, value);
                check(schema, value, name, &mut problems);
            }
        }
        if problems.is_empty() {
            problems = own_checks(key.resource, object);
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "{}.{} \"{}\" is invalid: {}",
            definition.kind,
            definition.group,
            key.name,
            problems.join(", ")
        )))
    }
}

fn own_checks(resource: Resource, object: &Value) -> Vec<String> {
    let texts = |problems: Vec<api::problem::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let read = match resource {
        Resource::NodePool => serde_json::from_value::<NodePool>(object.clone())
            .map(|pool| texts(node_pool_validation::validate(&pool))),
        Resource::NodeClass => serde_json::from_value::<EC2NodeClass>(object.clone())
            .map(|class| texts(node_class_validation::validate(&class.spec))),
        Resource::NodeClaim => {
            serde_json::from_value::<NodeClaim>(object.clone()).map(|_claim| Vec::new())
        }
        _ => Ok(Vec::new()),
    };
    read.unwrap_or_else(|error| vec![error.to_string()])
}

/// Fills in defaults and drops what the schema does not know.
fn complete(schema: &JSONSchemaProps, value: &mut Value) {
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

fn check(schema: &JSONSchemaProps, value: &Value, path: &str, problems: &mut Vec<String>) {
    let fits = match schema.type_.as_deref() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !fits {
        let wanted = schema.type_.as_deref().unwrap_or_default();
        problems.push(format!("{path}: Invalid value: must be of type {wanted}"));
        return;
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|allowed| allowed.0 == *value)
    {
        problems.push(format!("{path}: Unsupported value: {value}"));
    }
    check_size(schema, value, path, problems);
    match value {
        Value::Object(fields) => {
            for name in schema.required.iter().flatten() {
                if !fields.contains_key(name) {
                    problems.push(format!("{path}.{name}: Required value"));
                }
            }
            for (name, schema) in schema.properties.iter().flatten() {
                if let Some(value) = fields.get(name) {
                    check(schema, value, &format!("{path}.{name}"), problems);
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    check(schema, item, &format!("{path}[{index}]"), problems);
                }
            }
        }
        _ => {}
    }
}

fn check_size(schema: &JSONSchemaProps, value: &Value, path: &str, problems: &mut Vec<String>) {
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
