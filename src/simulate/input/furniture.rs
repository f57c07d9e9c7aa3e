//! NodePools, node classes and settings of a variant, from documents.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::InputError;
use crate::cloud::builtin;
use crate::cluster::manifests::{Document, Manifests};
use crate::model::snapshot::Snapshot;
use crate::plan::provision::{Premium, ProvisionSettings};
use crate::simulate::scenario::Variant;

/// The kind that changes settings in a variant's file. It is no object of any cluster.
pub const SETTINGS_KIND: &str = "SimulationSettings";
/// Its group and version.
pub const SETTINGS_VERSION: &str = "tonnage.dev/v1alpha1";

/// Kinds whose pods are the work.
pub const WORKLOADS: [&str; 6] = [
    "Pod",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "Job",
    "CronJob",
];

/// Kinds that a simulation has no use for: it begins without nodes.
pub const LEFT_OUT: [&str; 2] = ["Node", "NodeClaim"];

/// What a variant's settings may change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsSpec {
    plan_budget_ms: Option<u64>,
    drivers_on_demand: Option<bool>,
    price_band_percent: Option<u32>,
    preference_premium_percent: Option<u32>,
    #[serde(default)]
    without_node_pools: Vec<String>,
}

/// A text field of an object.
pub(super) fn text(object: &Value, pointer: &str) -> String {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

/// True for an object whose pods are the work.
pub fn is_workload(document: &Document) -> bool {
    let kind = text(&document.object, "/kind");
    WORKLOADS.contains(&kind.as_str())
}

/// The documents of a variant: those of the base, each replaced by one of the same kind and name, and
/// what the variant adds.
///
/// # Errors
/// When the variant's documents hold work.
pub fn merged(base: &[Document], own: &[Document]) -> Result<Vec<Document>, InputError> {
    let name_of = |document: &Document| {
        ["/kind", "/metadata/namespace", "/metadata/name"]
            .map(|pointer| text(&document.object, pointer))
    };
    if let Some(work) = own.iter().find(|document| is_workload(document)) {
        return Err(InputError::Variant {
            path: work.path.clone(),
            kind: text(&work.object, "/kind"),
            name: text(&work.object, "/metadata/name"),
            problem:
                "a variant changes what runs the work, not the work: give workloads with --filename"
                    .to_owned(),
        });
    }
    let replaced: Vec<[String; 3]> = own.iter().map(name_of).collect();
    let kept = base
        .iter()
        .filter(|document| !replaced.contains(&name_of(document)));
    Ok(kept.chain(own).cloned().collect())
}

/// A variant from its documents; work among them is left out.
///
/// # Errors
/// [`InputError`] names the document and what is wrong with it.
pub fn variant(
    name: &str,
    documents: &[Document],
    settings: &ProvisionSettings,
) -> Result<Variant, InputError> {
    let mut settings = settings.clone();
    let mut without = Vec::new();
    let mut furniture = Vec::new();
    for document in documents {
        let kind = text(&document.object, "/kind");
        if kind == SETTINGS_KIND {
            let spec = settings_spec(document)?;
            if let Some(milliseconds) = spec.plan_budget_ms {
                settings = settings.with_budget_ms(milliseconds);
            }
            settings.drivers_on_demand =
                spec.drivers_on_demand.unwrap_or(settings.drivers_on_demand);
            settings.price_band_percent = spec.price_band_percent.or(settings.price_band_percent);
            settings.preference_premium = spec
                .preference_premium_percent
                .map_or(settings.preference_premium, Premium);
            without.extend(
                spec.without_node_pools
                    .into_iter()
                    .map(|pool| (document, pool)),
            );
        } else if !is_workload(document) && !LEFT_OUT.contains(&kind.as_str()) {
            furniture.push(document.clone());
        }
    }
    let Snapshot {
        mut node_pools,
        node_classes,
        daemon_sets,
        namespaces,
        volume_claims,
        ..
    } = snapshot(furniture)?;
    for (document, pool) in without {
        if node_pools.remove(&pool).is_none() {
            return Err(InputError::Variant {
                path: document.path.clone(),
                kind: SETTINGS_KIND.to_owned(),
                name: text(&document.object, "/metadata/name"),
                problem: format!(
                    "spec.withoutNodePools: there is no NodePool {pool}; there are {}",
                    node_pools.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            });
        }
    }
    if node_pools.is_empty() {
        return Err(InputError::NoNodePool {
            whose: name.to_owned(),
        });
    }
    Ok(Variant {
        name: name.to_owned(),
        node_pools,
        node_classes,
        daemon_sets,
        namespaces,
        volume_claims,
        settings,
    })
}

fn settings_spec(document: &Document) -> Result<SettingsSpec, InputError> {
    let spec = document.object.get("spec").cloned().unwrap_or_default();
    let known = text(&document.object, "/apiVersion") == SETTINGS_VERSION;
    let read = serde_json::from_value(spec).map_err(|error| format!("spec: {error}"));
    let read = if known {
        read
    } else {
        Err(format!("apiVersion: write {SETTINGS_VERSION}"))
    };
    read.map_err(|problem| InputError::Variant {
        path: document.path.clone(),
        kind: SETTINGS_KIND.to_owned(),
        name: text(&document.object, "/metadata/name"),
        problem,
    })
}

/// The world that documents describe, with the built-in catalogue.
pub(super) fn snapshot(documents: Vec<Document>) -> Result<Snapshot, InputError> {
    let manifests = Manifests::read(documents)?;
    let classes = builtin::node_classes(&manifests.node_classes);
    Ok(manifests.snapshot(Timestamp::UNIX_EPOCH, classes))
}
