//! The NodeClaim: one machine, from the decision to buy it until it is gone.
#![expect(
    clippy::duplicated_attributes,
    reason = "each printcolumn has a type and a priority of its own"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::{self, Condition};
use super::duration::{DurationOrNever, GoDuration};
use super::node_class_ref::NodeClassRef;
use super::node_pool::{self, ResourceList};
use super::requirement::{self, Requirement};
use super::schema;
use super::taint::Taint;

/// One machine: what was asked for. Cannot be changed once made.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "karpenter.sh",
    version = "v1",
    kind = "NodeClaim",
    plural = "nodeclaims",
    category = "karpenter",
    status = "NodeClaimStatus",
    derive = "PartialEq",
    doc = "A NodeClaim is one machine, from the decision to buy it until it is gone. The controller makes NodeClaims for pending pods; deleting one drains its node and terminates its machine.",
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".metadata.labels.node\\.kubernetes\\.io/instance-type"
    ),
    printcolumn(
        name = "Capacity",
        type_ = "string",
        json_path = ".metadata.labels.karpenter\\.sh/capacity-type"
    ),
    printcolumn(
        name = "Zone",
        type_ = "string",
        json_path = ".metadata.labels.topology\\.kubernetes\\.io/zone"
    ),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "ImageID",
        type_ = "string",
        json_path = ".status.imageID",
        priority = 1
    ),
    printcolumn(
        name = "ID",
        type_ = "string",
        json_path = ".status.providerID",
        priority = 1
    ),
    printcolumn(
        name = "NodePool",
        type_ = "string",
        json_path = ".metadata.labels.karpenter\\.sh/nodepool",
        priority = 1
    ),
    printcolumn(
        name = "NodeClass",
        type_ = "string",
        json_path = ".spec.nodeClassRef.name",
        priority = 1
    ),
    printcolumn(
        name = "Drifted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Drifted\")].status",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("the spec of a NodeClaim cannot be changed; delete the NodeClaim and let a new one be made"),
)]
pub struct NodeClaimSpec {
    /// Taints that the node has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub taints: Vec<Taint>,
    /// Taints that the node starts with and that something else removes when the node is ready for
    /// pods. The node counts as initialized only when they are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub startup_taints: Vec<Taint>,
    /// Which machines may be bought: conditions on node labels, all of which must hold. At most 100.
    #[schemars(schema_with = "requirement::node_claim_requirements")]
    pub requirements: Vec<Requirement>,
    /// What the machine must have room for.
    #[serde(default, skip_serializing_if = "ResourceRequirements::is_empty")]
    pub resources: ResourceRequirements,
    /// The node class that says how the machine is made: AMI, subnets, disks, user data.
    pub node_class_ref: NodeClassRef,
    /// The longest time the node may take to drain once it is being deleted, for example `1h`. When
    /// it is over, the remaining pods are deleted whatever PodDisruptionBudgets and
    /// `karpenter.sh/do-not-disrupt` say. Unset means pods are waited for without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<GoDuration>,
    /// The age at which the node is removed, whatever runs on it, or `Never`. Default: `720h`
    /// (30 days).
    #[serde(default = "node_pool::default_expire_after")]
    pub expire_after: DurationOrNever,
}

/// What a machine must have room for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ResourceRequirements {
    /// The sum of what the pods for this machine request, daemons included, per resource, for
    /// example `{cpu: 3500m, memory: 12Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub requests: ResourceList,
}

impl ResourceRequirements {
    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

/// What became of a NodeClaim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NodeClaimStatus {
    /// Name of the Node that belongs to this claim, once it has joined the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Identity of the machine, `aws:///<zone>/<instance id>`. The Node carries the same.
    #[serde(
        default,
        rename = "providerID",
        skip_serializing_if = "Option::is_none"
    )]
    pub provider_id: Option<String>,
    /// The image the machine was started from, for example `ami-0123456789abcdef0`.
    #[serde(default, rename = "imageID", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// What the machine has in all, per resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub capacity: ResourceList,
    /// What pods can use of it: capacity less what the system and the kubelet keep for themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub allocatable: ResourceList,
    /// How far the claim has come (`Launched`, `Registered`, `Initialized` and their sum `Ready`) and
    /// what else is known about it (`Drifted`, `Consolidatable`, `Drained` and others).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::lax_schema")]
    pub conditions: Vec<Condition>,
    /// When a pod was last added to or removed from the node; `consolidateAfter` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_pod_event_time: Option<Time>,
}
