//! Nodes.

use k8s_openapi::api::core::v1 as core;

use super::{constraints, node_taint, quantity, time};
use crate::api::labels;
use crate::model::node::Node;

/// True when the Node says that it is ready.
pub fn is_ready(object: &core::Node) -> bool {
    let status = object.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What decisions see of a Node; its labels by their current names.
pub fn node(object: &core::Node) -> Node {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    Node {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        created: time(metadata.creation_timestamp.as_ref()),
        deleting_since: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        provider_id: spec
            .and_then(|spec| spec.provider_id.clone())
            .unwrap_or_default(),
        labels: constraints::by_current_names(metadata.labels.as_ref()).into(),
        annotations: metadata
            .annotations
            .iter()
            .flatten()
            .filter(|(key, _value)| is_ours(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        taints: spec
            .and_then(|spec| spec.taints.as_ref())
            .into_iter()
            .flatten()
            .filter_map(node_taint)
            .collect(),
        unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        ready: is_ready(object),
        capacity: quantity::amounts(status.and_then(|status| status.capacity.as_ref())),
        allocatable: quantity::amounts(status.and_then(|status| status.allocatable.as_ref())),
    }
}

/// Annotations that something here reads; kubelets and CNIs rewrite many others all the time.
fn is_ours(key: &str) -> bool {
    [labels::KARPENTER_GROUP, labels::TONNAGE_GROUP]
        .iter()
        .any(|domain| {
            key.strip_prefix(domain)
                .is_some_and(|rest| rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::taint::{Taint, TaintEffect};

    #[test]
    fn a_booting_node_is_seen_with_its_taints_and_what_it_offers() {
        let manifest = r#"
metadata:
  name: ip-10-0-0-1.ec2.internal
  uid: 6f0d
  creationTimestamp: 2026-11-25T00:00:00Z
  labels: {kubernetes.io/arch: amd64}
  annotations:
    karpenter.sh/do-not-disrupt: "true"
    csi.volume.kubernetes.io/nodeid: "{}"
spec:
  providerID: aws:///us-east-1a/i-0123456789abcdef0
  unschedulable: true
  taints:
    - {key: karpenter.sh/unregistered, effect: NoExecute}
    - {key: odd, effect: Later}
status:
  capacity: {cpu: "4", memory: 7950536Ki, pods: "58"}
  allocatable: {cpu: 3920m, memory: 7086280Ki, pods: "58", broken: x}
  conditions:
    - {type: MemoryPressure, status: "False"}
    - {type: Ready, status: "True"}
"#;
        let node = node(&serde_saphyr::from_str(manifest).unwrap());
        assert_eq!(node.name, "ip-10-0-0-1.ec2.internal");
        assert_eq!(node.provider_id, "aws:///us-east-1a/i-0123456789abcdef0");
        assert!(node.ready && node.unschedulable);
        assert_eq!(
            node.taints,
            [Taint::new(
                "karpenter.sh/unregistered",
                "",
                TaintEffect::NoExecute
            )]
        );
        assert_eq!(node.allocatable.get("cpu"), 3920);
        assert_eq!(node.allocatable.get("broken"), 0);
        assert_eq!(node.annotations.len(), 1);
    }

    #[test]
    fn an_empty_object_is_a_node_too() {
        let node = node(&core::Node::default());
        assert!(!node.ready);
        assert_eq!(node.provider_id, "");
    }
}
