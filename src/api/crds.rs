//! The CustomResourceDefinitions, generated from the types of this module.
//!
//! Gives back one YAML manifest per kind, the same byte for byte on every call. Nothing here reads
//! a file or a cluster.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use thiserror::Error;

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
    Vec::new()
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
