//! The NodePool: what nodes may be made, how many, and when they may go again.
//!
//! Plain data as users write it. Defaults and rules are part of the CRD; what the CRD cannot check
//! is in [`super::node_pool_validation`].
#![expect(
    clippy::duplicated_attributes,
    reason = "each printcolumn has a type and a priority of its own"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::conditions::{self, Condition};
use super::disruption::Disruption;
use super::duration::{DurationOrNever, GoDuration};
use super::node_class_ref::{self, NodeClassRef};
use super::requirement::{self, Requirement};
use super::schema;
use super::taint::Taint;

/// A map from resource name (`cpu`, `memory`, `nvidia.com/gpu`) to quantity.
pub type ResourceList = BTreeMap<String, Quantity>;

/// What nodes may be made, how many of them, and when they may be removed again.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "karpenter.sh",
    version = "v1",
    kind = "NodePool",
    plural = "nodepools",
    category = "karpenter",
    status = "NodePoolStatus",
    derive = "PartialEq",
    doc = "A NodePool describes a kind of node that may be made for pending pods: which instance types, zones and capacity types, with which labels and taints, up to which limits, and when its nodes may be removed again.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.nodes"
    ),
    printcolumn(
        name = "NodeClass",
        type_ = "string",
        json_path = ".spec.template.spec.nodeClassRef.name"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
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
        name = "Weight",
        type_ = "integer",
        json_path = ".spec.weight",
        priority = 1
    ),
    printcolumn(
        name = "CPU",
        type_ = "string",
        json_path = ".status.resources.cpu",
        priority = 1
    ),
    printcolumn(
        name = "Memory",
        type_ = "string",
        json_path = ".status.resources.memory",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.replicas) == has(oldSelf.replicas)")
        .message("replicas cannot be added to or removed from a NodePool: a pool is static or dynamic for life; make a new one"),
    validation = Rule::new("!has(self.replicas) || !has(self.limits) || self.limits.size() == 0 || (self.limits.size() == 1 && 'nodes' in self.limits)")
        .message("a NodePool with replicas may only have the limit nodes"),
    validation = Rule::new("!has(self.replicas) || !has(self.weight)")
        .message("a NodePool with replicas cannot have a weight: its nodes are made whether pods need them or not"),
)]
pub struct NodePoolSpec {
    /// What each node of this pool looks like.
    pub template: NodeClaimTemplate,
    /// When nodes of this pool may be removed or replaced, and how many at once.
    /// Default: `{consolidateAfter: 0s}`.
    #[serde(default)]
    #[schemars(extend("default" = serde_json::json!({ "consolidateAfter": "0s" })))]
    pub disruption: Disruption,
    /// The most that all nodes of this pool together may have, per resource, for example
    /// `{cpu: "1000", memory: 4000Gi, nvidia.com/gpu: "8", nodes: "20"}`. `nodes` counts nodes. A
    /// resource that is not listed is not limited. Nodes that exist already are never removed
    /// because a limit was lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resource_list")]
    pub limits: Option<ResourceList>,
    /// The order in which pools are tried, 1 to 100: a pool with a higher weight is preferred to one
    /// with a lower weight wherever it can hold the pod. Unset counts as 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: Option<i32>,
    /// Keeps exactly this number of nodes, whether pods need them or not (a static pool). Unset
    /// means nodes are made for pending pods and removed when they are not needed (a dynamic pool).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i64>,
}

/// What each node of a NodePool looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NodeClaimTemplate {
    /// Labels and annotations that every node of this pool gets.
    #[serde(default, skip_serializing_if = "TemplateMetadata::is_empty")]
    pub metadata: TemplateMetadata,
    /// Which machines may be bought for this pool and how they join the cluster.
    pub spec: NodeClaimTemplateSpec,
}

/// Labels and annotations that every node of a NodePool gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TemplateMetadata {
    /// Labels that every node of this pool gets, at most 100. Pods can select them. Keys of the
    /// domain `karpenter.sh` are the controller's, except `karpenter.sh/capacity-type`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "template_labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that every node of this pool gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl TemplateMetadata {
    fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// Which machines may be bought for a NodePool and how they join the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NodeClaimTemplateSpec {
    /// Taints that every node of this pool has. Only pods that tolerate them are placed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub taints: Vec<Taint>,
    /// Taints that a node of this pool starts with and that something else removes when the node is
    /// ready for pods, for example a CNI or a GPU driver. Pods need not tolerate them to have a node
    /// made; a node counts as initialized only when they are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub startup_taints: Vec<Taint>,
    /// Which machines may be bought: conditions on node labels, all of which must hold. At most 100.
    /// For example `{key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}`.
    /// An empty list allows every machine.
    #[schemars(schema_with = "requirement::node_pool_requirements")]
    pub requirements: Vec<Requirement>,
    /// The node class that says how the machines are made: AMI, subnets, disks, user data.
    #[schemars(schema_with = "node_class_ref::node_pool_reference")]
    pub node_class_ref: NodeClassRef,
    /// The longest time a node of this pool may take to drain once it is being deleted, for example
    /// `1h`. When it is over, the remaining pods are deleted whatever PodDisruptionBudgets and
    /// `karpenter.sh/do-not-disrupt` say. Unset means pods are waited for without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<GoDuration>,
    /// The age at which a node of this pool is removed, whatever runs on it, or `Never`. Default:
    /// `720h` (30 days).
    #[serde(default = "default_expire_after")]
    pub expire_after: DurationOrNever,
}

/// Nodes go after 30 days unless the manifest says otherwise.
pub(super) fn default_expire_after() -> DurationOrNever {
    DurationOrNever::new("720h")
}

/// What a NodePool has at the moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NodePoolStatus {
    /// The sum of the capacity of all nodes of this pool, per resource; `nodes` counts them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::resource_list")]
    pub resources: ResourceList,
    /// The number of nodes of this pool, those being launched included.
    #[serde(default)]
    pub nodes: i64,
    /// The generation of the node class that was last considered for this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_class_observed_generation: Option<i64>,
    /// Whether the pool is usable, and if not, why: `ValidationSucceeded`, `NodeClassReady`,
    /// `NodeRegistrationHealthy`, `FieldsActedOn` and their sum `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

fn template_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 100,
        "additionalProperties": { "type": "string", "maxLength": 63, "pattern": schema::LABEL_VALUE_PATTERN },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(key, !key.matches('^([^/]*[.])?karpenter[.]sh/') || key in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool'])",
                "message": "labels of the domain karpenter.sh are set by the controller; only karpenter.sh/capacity-type may be given",
            },
            {
                "rule": "!('karpenter.sh/nodepool' in self)",
                "message": "karpenter.sh/nodepool is set by the controller and cannot be given",
            },
            {
                "rule": "!('kubernetes.io/hostname' in self)",
                "message": "kubernetes.io/hostname names one node and cannot be given to all",
            },
        ],
    })
}
