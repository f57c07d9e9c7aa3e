//! The NodeClaim object for a planned node.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{
    NodeClaim, NodeClaimSpec, NodePool, Requirement, RequirementOperator, labels, node_claim,
};
use crate::cluster::observe;
use crate::model;
use crate::model::offering::{MOST_OFFERINGS, OfferingKey};
use crate::model::report::PlannedNode;

/// The NodeClaim, named `name`, for a node that was planned for a pool: the template of the pool,
/// narrowed to what may be bought, with the offerings in order. `annotations` are added as they
/// are, for example hashes.
pub fn new_claim(
    name: &str,
    object: &NodePool,
    pool: &model::node_pool::NodePool,
    planned: &PlannedNode,
    annotations: &BTreeMap<String, String>,
) -> NodeClaim {
    let template = &object.spec.template;
    let offerings = planned
        .offerings
        .get(..MOST_OFFERINGS)
        .unwrap_or(&planned.offerings);
    let mut claim_labels = template.metadata.labels.clone();
    claim_labels.extend(planned.labels.clone());
    claim_labels.insert(labels::NODE_POOL.to_owned(), pool.name.clone());
    claim_labels.insert(labels::NODE_CLASS.to_owned(), pool.node_class.clone());
    let mut claim_annotations = template.metadata.annotations.clone();
    claim_annotations.extend(planned.annotations.clone());
    claim_annotations.extend(annotations.clone());
    claim_annotations.insert(
        labels::OFFERINGS.to_owned(),
        observe::claim::offerings_text(offerings),
    );
    let mut claim = NodeClaim::new(
        name,
        NodeClaimSpec {
            taints: template.spec.taints.clone(),
            startup_taints: template.spec.startup_taints.clone(),
            requirements: requirements(&template.spec.requirements, offerings),
            resources: node_claim::ResourceRequirements {
                requests: observe::quantity::quantities(&planned.requests),
            },
            node_class_ref: template.spec.node_class_ref.clone(),
            termination_grace_period: template.spec.termination_grace_period.clone(),
            expire_after: template.spec.expire_after.clone(),
        },
    );
    claim.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(claim_labels),
        annotations: Some(claim_annotations),
        finalizers: Some(vec![labels::TERMINATION_FINALIZER.to_owned()]),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/v1", labels::KARPENTER_GROUP),
            kind: "NodePool".to_owned(),
            name: pool.name.clone(),
            uid: pool.uid.clone(),
            block_owner_deletion: Some(true),
            controller: None,
        }]),
        ..ObjectMeta::default()
    };
    claim
}

/// What the pool requires, and of type, zone and capacity type only what may be bought.
fn requirements(pool: &[Requirement], offerings: &[OfferingKey]) -> Vec<Requirement> {
    let values = |of: fn(&OfferingKey) -> &str| {
        let mut values: Vec<String> = offerings.iter().map(|key| of(key).to_owned()).collect();
        values.sort();
        values.dedup();
        values
    };
    let narrowed = [
        (labels::INSTANCE_TYPE, values(|key| &key.instance_type)),
        (labels::ZONE, values(|key| &key.zone)),
        (
            labels::CAPACITY_TYPE,
            values(|key| key.capacity_type.as_str()),
        ),
    ];
    let kept = pool.iter().filter(|requirement| {
        let key = labels::normalize(&requirement.key);
        // A requirement with minValues says something that the narrowed one does not.
        requirement.min_values.is_some() || narrowed.iter().all(|(narrowed, _)| *narrowed != key)
    });
    let bought = narrowed
        .iter()
        .filter(|(_key, values)| !values.is_empty())
        .map(|(key, values)| Requirement {
            key: (*key).to_owned(),
            operator: RequirementOperator::In,
            values: values.clone(),
            min_values: None,
        });
    kept.cloned().chain(bought).collect()
}
