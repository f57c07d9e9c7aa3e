//! NodeClaims of ours.

use std::str::FromStr;
use std::sync::Arc;

use jiff::SignedDuration;

use super::{pool_taint, quantity, time};
use crate::api;
use crate::api::labels;
use crate::model::claim::{Claim, ClaimCondition, ConditionStatus};
use crate::model::launch::LaunchRecord;
use crate::model::offering::OfferingKey;

/// The annotations that are kept as what they say: as texts they are longer than the rest of a claim.
const READ: [&str; 2] = [labels::OFFERINGS, labels::LAUNCH];

/// What decisions see of a NodeClaim. An annotation of ours that cannot be read counts as absent:
/// somebody edited it, and a launch record that is not complete must not be repeated.
pub fn claim(object: &api::NodeClaim) -> Claim {
    let metadata = &object.metadata;
    let annotations = metadata.annotations.iter().flatten();
    let text = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    let claim_labels = metadata.labels.clone().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let conditions = status
        .conditions
        .iter()
        .map(|condition| (condition.type_.clone(), seen_condition(condition)))
        .collect();
    Claim {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        created: time(metadata.creation_timestamp.as_ref()),
        deleting_since: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        node_pool: claim_labels.get(labels::NODE_POOL).cloned(),
        node_class: object.spec.node_class_ref.name.clone(),
        taints: object.spec.taints.iter().filter_map(pool_taint).collect(),
        startup_taints: object
            .spec
            .startup_taints
            .iter()
            .filter_map(pool_taint)
            .collect(),
        requests: quantity::resources(&object.spec.resources.requests).0,
        offerings: text(labels::OFFERINGS)
            .map(|text| offerings(text).into())
            .unwrap_or_default(),
        launch: text(labels::LAUNCH)
            .and_then(|text| launch(text))
            .map(Arc::new),
        termination_grace: object
            .spec
            .termination_grace_period
            .as_ref()
            .and_then(|text| text.value().ok())
            .and_then(|duration| SignedDuration::try_from(duration).ok()),
        expire_after: object
            .spec
            .expire_after
            .value()
            .ok()
            .flatten()
            .and_then(|duration| SignedDuration::try_from(duration).ok()),
        provider_id: status.provider_id.unwrap_or_default(),
        node_name: status.node_name.unwrap_or_default(),
        capacity: quantity::resources(&status.capacity).0,
        allocatable: quantity::resources(&status.allocatable).0,
        conditions,
        last_pod_event: status.last_pod_event_time.as_ref().map(|time| time.0),
        labels: Arc::new(claim_labels),
        annotations: annotations
            .filter(|(key, _text)| !READ.contains(&key.as_str()))
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect(),
    }
}

fn seen_condition(condition: &api::Condition) -> ClaimCondition {
    ClaimCondition {
        status: match condition.status {
            api::ConditionStatus::True => ConditionStatus::True,
            api::ConditionStatus::False => ConditionStatus::False,
            api::ConditionStatus::Unknown => ConditionStatus::Unknown,
        },
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time.0,
    }
}

/// Reads `tonnage.dev/offerings`; entries that name no offering are left out.
pub fn offerings(text: &str) -> Vec<OfferingKey> {
    text.split(',')
        .filter_map(|entry| OfferingKey::from_str(entry.trim()).ok())
        .collect()
}

/// Writes `tonnage.dev/offerings`.
pub fn offerings_text(offerings: &[OfferingKey]) -> String {
    let entries: Vec<String> = offerings.iter().map(ToString::to_string).collect();
    entries.join(",")
}

/// Reads `tonnage.dev/launch`.
pub fn launch(text: &str) -> Option<LaunchRecord> {
    serde_json::from_str(text).ok()
}

/// Writes `tonnage.dev/launch`.
pub fn launch_text(record: &LaunchRecord) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
apiVersion: karpenter.sh/v1
kind: NodeClaim
metadata:
  name: general-x7k2p
  uid: 1111-2222
  resourceVersion: "77"
  generation: 1
  creationTimestamp: 2026-11-25T00:00:00Z
  finalizers: [karpenter.sh/termination]
  labels: {karpenter.sh/nodepool: general}
  annotations:
    team: data
    tonnage.dev/offerings: c5.2xlarge/us-east-1a/spot,nonsense, c5.4xlarge/us-east-1b/on-demand
    tonnage.dev/launch: >-
      {"batch":"b1","attempt":2,"size":1,"capacityType":"spot","templates":[{"name":"t","overrides":
      [{"instanceType":"c5.2xlarge","zone":"us-east-1a","subnet":"subnet-1","priority":0}]}]}
spec:
  nodeClassRef: {group: tonnage.dev, kind: EC2NodeClass, name: default}
  requirements: []
  resources: {requests: {cpu: 3500m, memory: 12Gi}}
  taints: [{key: dedicated, value: executor, effect: NoSchedule}]
  terminationGracePeriod: 1h30m
  expireAfter: Never
status:
  providerID: aws:///us-east-1a/i-0123456789abcdef0
  conditions:
    - {type: Launched, status: "True", lastTransitionTime: 2026-11-25T00:00:05Z}
"#;

    #[test]
    fn a_claim_is_seen_with_its_decision_and_its_progress() {
        let claim = claim(&serde_saphyr::from_str(MANIFEST).unwrap());
        assert_eq!(claim.node_pool.as_deref(), Some("general"));
        assert_eq!(
            offerings_text(&claim.offerings),
            "c5.2xlarge/us-east-1a/spot,c5.4xlarge/us-east-1b/on-demand"
        );
        let launch_record = claim.launch.clone().unwrap();
        assert_eq!(
            (launch_record.batch.as_str(), launch_record.attempt),
            ("b1", 2)
        );
        assert_eq!(
            launch(&launch_text(&launch_record)).as_ref(),
            Some(&*launch_record)
        );
        let kept: Vec<&str> = claim.annotations.keys().map(String::as_str).collect();
        assert_eq!(kept, ["team"], "no text beside what was read from it");
        assert_eq!(claim.requests.get("cpu"), 3500);
        assert_eq!(claim.termination_grace, Some(SignedDuration::from_mins(90)));
        assert_eq!(claim.expire_after, None);
        assert!(claim.is("Launched") && !claim.is("Registered"));
        assert_eq!(claim.instance_id(), Some("i-0123456789abcdef0"));
    }

    #[test]
    fn annotations_that_somebody_broke_count_as_absent() {
        let mut object: api::NodeClaim = serde_saphyr::from_str(MANIFEST).unwrap();
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(labels::LAUNCH.to_owned(), "{\"batch\":".to_owned());
        annotations.insert(labels::OFFERINGS.to_owned(), ",,/".to_owned());
        let claim = claim(&object);
        assert_eq!(claim.launch, None);
        assert!(claim.offerings.is_empty());
    }
}
