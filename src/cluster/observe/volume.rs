//! Volumes: what claims, volumes, storage classes and CSI nodes say about place and room.
//!
//! Given the typed objects, [`claimed_volume`], [`volume`], [`storage_class`] and [`storage_node`]
//! keep the few facts that scheduling reads; [`join`] puts them together per claim and [`room`]
//! counts how many more volumes each node takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};

use super::constraints;
use crate::api::labels::normalize;
use crate::model::pod::{Expression, NodeTerm, Pod};
use crate::model::workload::VolumeClaim;

/// The CSI driver of EBS, which also serves the older in-tree volumes.
const EBS_DRIVER: &str = "ebs.csi.aws.com";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What a PersistentVolumeClaim says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedVolume {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The bound volume.
    pub volume_name: Option<String>,
    /// Storage class; `None` is the default class, an empty name none at all.
    pub storage_class: Option<String>,
    /// It is being deleted.
    pub deleting: bool,
    /// `status.phase` is Lost.
    pub lost: bool,
    /// `spec.accessModes` has ReadWriteOncePod.
    pub one_pod: bool,
}

/// What a PersistentVolume says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFacts {
    /// CSI driver that attaches it; empty when it is not attached to nodes by one.
    pub driver: String,
    /// Where it is; alternatives, empty is anywhere.
    pub node_terms: Vec<NodeTerm>,
}

/// What a StorageClass says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageClassFacts {
    /// CSI driver that makes the volumes.
    pub driver: String,
    /// Volumes are made when a pod is scheduled.
    pub waits_for_consumer: bool,
    /// Where volumes may be made; alternatives, empty is anywhere.
    pub node_terms: Vec<NodeTerm>,
    /// It is the cluster's default.
    pub is_default: bool,
}

/// What a CSINode says: most volumes by driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageNode {
    /// Drivers with a limit.
    pub limits: BTreeMap<String, i64>,
}

/// Converts a PersistentVolumeClaim.
pub fn claimed_volume(claim: &PersistentVolumeClaim) -> ClaimedVolume {
    let spec = claim.spec.as_ref();
    ClaimedVolume {
        namespace: claim
            .metadata
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        name: claim.metadata.name.clone().unwrap_or_default(),
        volume_name: spec
            .and_then(|spec| spec.volume_name.clone())
            .filter(|name| !name.is_empty()),
        storage_class: spec.and_then(|spec| spec.storage_class_name.clone()),
        deleting: claim.metadata.deletion_timestamp.is_some(),
        lost: claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Lost"),
        one_pod: spec
            .and_then(|spec| spec.access_modes.as_ref())
            .is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod")),
    }
}

/// Converts a PersistentVolume.
pub fn volume(volume: &PersistentVolume) -> VolumeFacts {
    let spec = volume.spec.as_ref();
    let in_tree = spec.is_some_and(|spec| spec.aws_elastic_block_store.is_some());
    let mut node_terms: Vec<NodeTerm> = spec
        .and_then(|spec| spec.node_affinity.as_ref())
        .and_then(|affinity| affinity.required.as_ref())
        .map(|required| {
            required
                .node_selector_terms
                .iter()
                .map(constraints::node_term)
                .collect()
        })
        .unwrap_or_default();
    if node_terms.is_empty()
        && let Some(zones) =
            constraints::by_current_names(volume.metadata.labels.as_ref()).get(ZONE)
    {
        node_terms.push(NodeTerm {
            expressions: vec![Expression {
                key: ZONE.to_owned(),
                operator: "In".to_owned(),
                values: zones.split("__").map(str::to_owned).collect(),
            }],
            fields: Vec::new(),
        });
    }
    VolumeFacts {
        driver: if in_tree {
            EBS_DRIVER.to_owned()
        } else {
            spec.and_then(|spec| spec.csi.as_ref())
                .map(|csi| csi.driver.clone())
                .unwrap_or_default()
        },
        node_terms,
    }
}

/// Converts a StorageClass. Drivers name the zone by keys of their own, which a node carries only after the
/// driver has started on it; the current key is there from the start.
pub fn storage_class(class: &StorageClass) -> StorageClassFacts {
    let node_terms = class
        .allowed_topologies
        .iter()
        .flatten()
        .map(|topology| NodeTerm {
            expressions: topology
                .match_label_expressions
                .iter()
                .flatten()
                .map(|requirement| Expression {
                    key: normalize(&requirement.key).to_owned(),
                    operator: "In".to_owned(),
                    values: requirement.values.clone(),
                })
                .collect(),
            fields: Vec::new(),
        })
        .filter(|term| !term.expressions.is_empty())
        .collect();
    StorageClassFacts {
        driver: if class.provisioner == "kubernetes.io/aws-ebs" {
            EBS_DRIVER.to_owned()
        } else {
            class.provisioner.clone()
        },
        waits_for_consumer: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
        node_terms,
        is_default: class
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get("storageclass.kubernetes.io/is-default-class"))
            .is_some_and(|value| value == "true"),
    }
}

/// Converts a CSINode.
pub fn storage_node(node: &CSINode) -> StorageNode {
    StorageNode {
        limits: node
            .spec
            .drivers
            .iter()
            .filter_map(|driver| {
                let count = driver.allocatable.as_ref()?.count?;
                Some((driver.name.clone(), i64::from(count)))
            })
            .collect(),
    }
}

/// Puts claims together with their volumes or classes, by `namespace/name`.
pub fn join(
    claims: &BTreeMap<String, Arc<ClaimedVolume>>,
    volumes: &BTreeMap<String, Arc<VolumeFacts>>,
    classes: &BTreeMap<String, Arc<StorageClassFacts>>,
) -> BTreeMap<String, Arc<VolumeClaim>> {
    claims
        .iter()
        .map(|(key, claim)| (key.clone(), Arc::new(join_one(claim, volumes, classes))))
        .collect()
}

fn join_one(
    claim: &ClaimedVolume,
    volumes: &BTreeMap<String, Arc<VolumeFacts>>,
    classes: &BTreeMap<String, Arc<StorageClassFacts>>,
) -> VolumeClaim {
    let mut joined = VolumeClaim {
        namespace: claim.namespace.clone(),
        name: claim.name.clone(),
        volume_name: claim.volume_name.clone(),
        storage_class: None,
        driver: String::new(),
        one_pod: claim.one_pod,
        node_terms: Vec::new(),
        problem: None,
    };
    let about = format!("PersistentVolumeClaim {}", claim.name);
    if claim.deleting {
        joined.problem = Some(format!("{about} is being deleted"));
    } else if claim.lost {
        joined.problem = Some(format!("{about} has lost its volume"));
    } else if let Some(name) = &claim.volume_name {
        match volumes.get(name) {
            Some(volume) => {
                joined.driver.clone_from(&volume.driver);
                joined.node_terms.clone_from(&volume.node_terms);
            }
            None => {
                joined.problem = Some(format!("{about} is bound to {name}, which does not exist"));
            }
        }
    } else {
        unbound(&mut joined, claim, &about, classes);
    }
    joined
}

fn unbound(
    joined: &mut VolumeClaim,
    claim: &ClaimedVolume,
    about: &str,
    classes: &BTreeMap<String, Arc<StorageClassFacts>>,
) {
    let named = match claim.storage_class.as_deref() {
        Some(name) => classes.get_key_value(name),
        None => classes.iter().find(|(_name, class)| class.is_default),
    };
    match (named, claim.storage_class.as_deref()) {
        (Some((name, class)), _) if class.waits_for_consumer => {
            joined.storage_class = Some(name.clone());
            joined.driver.clone_from(&class.driver);
            joined.node_terms.clone_from(&class.node_terms);
        }
        (Some((name, _class)), _) => {
            joined.problem = Some(format!(
                "{about} waits for a volume of StorageClass {name}, which binds at once (volumeBindingMode Immediate); nodes do not help"
            ));
        }
        (None, Some("")) => {
            joined.problem = Some(format!(
                "{about} names no StorageClass and no volume is bound to it; create a PersistentVolume for it"
            ));
        }
        (None, Some(name)) => {
            joined.problem = Some(format!(
                "{about} names StorageClass {name}, which does not exist"
            ));
        }
        (None, None) => {
            joined.problem = Some(format!(
                "{about} names no StorageClass and the cluster has no default one"
            ));
        }
    }
}

/// How many more volumes of each driver each node takes; drivers without a limit are left out.
pub fn room<'pods>(
    nodes: &BTreeMap<String, Arc<StorageNode>>,
    claims: &BTreeMap<String, Arc<VolumeClaim>>,
    pods: impl Iterator<Item = &'pods Arc<Pod>>,
) -> BTreeMap<(String, String), i64> {
    let mut attached: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for pod in pods {
        let (Some(node), Some(constraints)) =
            (pod.node_name.as_deref(), pod.spec.constraints.as_ref())
        else {
            continue;
        };
        for name in &constraints.volume_claims {
            let key = format!("{}/{name}", pod.key.namespace);
            if let Some(claim) = claims.get(&key) {
                attached
                    .entry((node, claim.driver.as_str()))
                    .or_default()
                    .insert(key);
            }
        }
    }
    nodes
        .iter()
        .flat_map(|(node, storage)| {
            storage
                .limits
                .iter()
                .map(move |(driver, limit)| (node, driver, *limit))
        })
        .map(|(node, driver, limit)| {
            let used = attached
                .get(&(node.as_str(), driver.as_str()))
                .map_or(0, BTreeSet::len);
            let used = i64::try_from(used).unwrap_or(i64::MAX);
            (
                (node.clone(), driver.clone()),
                limit.saturating_sub(used).max(0),
            )
        })
        .collect()
}
