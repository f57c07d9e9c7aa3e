//! The CustomResourceDefinitions, generated from the types of this module.
//!
//! Gives back one YAML manifest per kind, the same byte for byte on every call. Nothing here reads
//! a file or a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use thiserror::Error;

use super::{EC2NodeClass, NodeClaim, NodePool};

/// One definition, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `<group>_<plural>.yaml`, the name of the file below `crds/`.
    pub file_name: String,
    /// The definition as one YAML document, without a document separator.
    pub yaml: String,
}

/// A definition could not be written as YAML. This is a defect of Tonnage, not of its input.
#[derive(Debug, Error)]
#[error("the definition {name} could not be rendered")]
pub struct RenderError {
    name: String,
    source: serde_saphyr::ser::Error,
}

/// All definitions, in the order in which they should be applied.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![NodePool::crd(), NodeClaim::crd(), EC2NodeClass::crd()];
    for version in definitions
        .iter_mut()
        .flat_map(|definition| &mut definition.spec.versions)
    {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            finish(schema);
        }
    }
    definitions
}

/// Makes a generated schema what the API server should have.
///
/// - An unset field is absent, never null: the generator marks every optional field as nullable,
///   which would keep a null where a default belongs.
/// - Doc comments are wrapped for the source; `kubectl explain` wraps by itself.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = unwrap_lines(description);
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        finish(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        finish(item);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        finish(value);
    }
}

/// Joins the lines of each paragraph.
fn unwrap_lines(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect();
    paragraphs.join("\n\n")
}

/// All definitions as YAML manifests, in the order in which they should be applied.
pub fn manifests() -> Result<Vec<Manifest>, RenderError> {
    definitions().iter().map(manifest).collect()
}

/// Joins manifests to one multi-document YAML stream.
pub fn stream(manifests: &[Manifest]) -> String {
    let mut stream = String::new();
    for manifest in manifests {
        stream.push_str("---\n");
        stream.push_str(&manifest.yaml);
    }
    stream
}

fn manifest(definition: &CustomResourceDefinition) -> Result<Manifest, RenderError> {
    let yaml = serde_saphyr::to_string(definition).map_err(|source| RenderError {
        name: definition.spec.names.kind.clone(),
        source,
    })?;
    let file_name = format!(
        "{}_{}.yaml",
        definition.spec.group, definition.spec.names.plural
    );
    Ok(Manifest { file_name, yaml })
}
