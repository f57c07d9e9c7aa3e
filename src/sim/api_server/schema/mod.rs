//! What the CustomResourceDefinitions say of our kinds: defaults, unknown fields, and what is not
//! acceptable.
//!
//! Given an object, and what it was before; given back the same with defaults and without unknown
//! fields, or why it is refused. The schemas are those of `tonnage crds`, with their patterns and
//! their CEL rules; they are read once in a process. Nothing is stored here.

mod check;
mod complete;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::Value;

use super::refusal::Refusal;
use super::resource::{Key, Resource};
use crate::api;
use rules::Rules;

/// Everything that is known of our kinds.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::read);

/// The schemas by kind, with what they are run with.
struct Known {
    schemas: BTreeMap<&'static str, JSONSchemaProps>,
    /// By their text; `None` where it is no pattern.
    patterns: BTreeMap<String, Option<Regex>>,
    rules: Rules,
    /// The kinds and their fields, `spec` or `status`, within which there are rules.
    ruled: BTreeSet<(&'static str, String)>,
}

impl Known {
    /// As the binary would install them.
    fn read() -> Self {
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
        let schemas: BTreeMap<_, _> = schemas.collect();
        let mut patterns = BTreeMap::new();
        let mut rules = Rules::new();
        let mut ruled = BTreeSet::new();
        for (kind, schema) in &schemas {
            for (name, field) in schema.properties.iter().flatten() {
                each(field, &mut |within| {
                    if within.x_kubernetes_validations.is_some() {
                        ruled.insert((*kind, name.clone()));
                    }
                });
            }
        }
        for schema in schemas.values() {
            each(schema, &mut |schema| {
                if let Some(pattern) = &schema.pattern {
                    patterns.insert(pattern.clone(), Regex::new(pattern).ok());
                }
                for rule in schema.x_kubernetes_validations.iter().flatten() {
                    rules.add(&rule.rule);
                }
            });
        }
        Self {
            schemas,
            patterns,
            rules,
            ruled,
        }
    }
}

/// Shows every schema within a schema, and itself.
fn each(schema: &JSONSchemaProps, seen: &mut impl FnMut(&JSONSchemaProps)) {
    seen(schema);
    for inner in schema.properties.iter().flat_map(BTreeMap::values) {
        each(inner, seen);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(inner)) = &schema.items {
        each(inner, seen);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(inner)) = &schema.additional_properties {
        each(inner, seen);
    }
}

/// Completes and checks an object; kinds without schema pass as they are.
pub(super) fn accept(key: &Key, object: &mut Value, before: Option<&Value>) -> Result<(), Refusal> {
    let definition = key.resource.definition();
    let Some(schema) = KNOWN.schemas.get(definition.kind) else {
        return Ok(());
    };
    let properties = schema.properties.as_ref();
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _value| {
            matches!(name.as_str(), "apiVersion" | "kind" | "metadata")
                || properties.is_some_and(|known| known.contains_key(name))
        });
    }
    let mut problems = Vec::new();
    for name in schema.required.iter().flatten() {
        if object.get(name).is_none_or(Value::is_null) {
            problems.push(format!("{name}: Required value"));
        }
    }
    for (name, schema) in properties
        .into_iter()
        .flatten()
        .filter(|(name, _schema)| *name == "spec" || *name == "status")
    {
        let Some(value) = object.get_mut(name) else {
            continue;
        };
        let was = before.map(|before| &before[name]);
        // What is stored is complete and was accepted.
        if was == Some(&*value) {
            continue;
        }
        complete::complete(schema, value);
        if was == Some(&*value) {
            continue;
        }
        check::check(schema, value, name, &mut problems);
        let is_ruled = KNOWN.ruled.contains(&(definition.kind, name.clone()));
        if problems.is_empty() && is_ruled {
            let was = was.filter(|was| !was.is_null());
            KNOWN.rules.check(schema, (value, was), name, &mut problems);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_and_every_rule_can_be_run() {
        let broken: Vec<&String> = KNOWN
            .patterns
            .iter()
            .filter(|(_text, pattern)| pattern.is_none())
            .map(|(text, _pattern)| text)
            .collect();
        assert!(broken.is_empty(), "{broken:?}");
        assert_eq!(KNOWN.rules.broken(), Vec::<String>::new());
        assert!(KNOWN.patterns.len() > 10 && KNOWN.rules.count() > 40);
    }
}
