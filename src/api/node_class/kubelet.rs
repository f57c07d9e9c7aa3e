//! The kubelet configuration of the nodes.
//!
//! The fields that scheduling or an AMI family must know are typed; every other field is kept as it
//! was written and passed on where the AMI family can.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::schema::QUANTITY_PATTERN;

/// The signals that eviction thresholds may name.
pub const EVICTION_SIGNALS: &[&str] = &[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
];

/// The resources that `systemReserved` and `kubeReserved` may name.
pub const RESERVABLE: &[&str] = &["cpu", "memory", "ephemeral-storage", "pid"];

/// Settings of the kubelet, as in `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.imageGCHighThresholdPercent) || !has(self.imageGCLowThresholdPercent) || self.imageGCHighThresholdPercent > self.imageGCLowThresholdPercent")
        .message("imageGCHighThresholdPercent must be greater than imageGCLowThresholdPercent"),
    validation = Rule::new("has(self.evictionSoft) == has(self.evictionSoftGracePeriod) && (!has(self.evictionSoft) || (self.evictionSoft.all(signal, signal in self.evictionSoftGracePeriod) && self.evictionSoftGracePeriod.all(signal, signal in self.evictionSoft)))")
        .message("evictionSoft and evictionSoftGracePeriod must name the same signals"),
)]
pub struct KubeletConfiguration {
    /// Addresses of the cluster's DNS service. Unset means the address of the `kube-dns` Service.
    #[serde(default, rename = "clusterDNS", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub cluster_dns: Vec<String>,
    /// The most pods a node may run. Unset means what the network interfaces of the instance type
    /// have addresses for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_pods: Option<i32>,
    /// The most pods a node may run per vCPU; the smaller of this and `maxPods` counts. 0 means no
    /// limit. Not for `Bottlerocket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub pods_per_core: Option<i32>,
    /// What is kept for the operating system: `cpu`, `memory`, `ephemeral-storage`, `pid`. Default:
    /// nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "reserved")]
    pub system_reserved: BTreeMap<String, Quantity>,
    /// What is kept for the kubelet and the container runtime: `cpu`, `memory`, `ephemeral-storage`,
    /// `pid`. A resource that is not named keeps its default, which grows with the instance type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "reserved")]
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// Thresholds at which pods are evicted at once, for example `{memory.available: 5%}` or
    /// `{nodefs.available: 10Gi}`. `100%` switches a signal off. Default: `memory.available: 100Mi`,
    /// `nodefs.available: 10%`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "thresholds")]
    pub eviction_hard: BTreeMap<String, String>,
    /// Thresholds at which pods are evicted after a grace period. Needs the same signals in
    /// `evictionSoftGracePeriod`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "thresholds")]
    pub eviction_soft: BTreeMap<String, String>,
    /// How long a soft threshold must be crossed before pods are evicted, for example
    /// `{memory.available: 1m30s}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "thresholds")]
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    /// The longest grace period of a pod that is evicted by a soft threshold, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub eviction_max_pod_grace_period: Option<i32>,
    /// The share of the disk, in percent, above which unused images are always deleted.
    #[serde(
        default,
        rename = "imageGCHighThresholdPercent",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100))]
    pub image_gc_high_threshold_percent: Option<i32>,
    /// The share of the disk, in percent, below which unused images are never deleted.
    #[serde(
        default,
        rename = "imageGCLowThresholdPercent",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 100))]
    pub image_gc_low_threshold_percent: Option<i32>,
    /// Whether CPU limits of containers are enforced. Default: true.
    #[serde(
        default,
        rename = "cpuCFSQuota",
        skip_serializing_if = "Option::is_none"
    )]
    pub cpu_cfs_quota: Option<bool>,
    /// Every other field of `KubeletConfiguration`, as written.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

fn reserved(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 4,
        "additionalProperties": { "pattern": QUANTITY_PATTERN, "x-kubernetes-int-or-string": true },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(resource, resource in ['cpu', 'memory', 'ephemeral-storage', 'pid'])",
                "message": "only cpu, memory, ephemeral-storage and pid can be reserved",
            },
            {
                "rule": "self.all(resource, type(self[resource]) == int ? int(self[resource]) >= 0 : !string(self[resource]).startsWith('-'))",
                "message": "what is reserved cannot be negative",
            },
        ],
    })
}

fn thresholds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 6,
        "additionalProperties": { "type": "string", "maxLength": 64 },
        "x-kubernetes-validations": [{
            "rule": "self.all(signal, signal in ['memory.available', 'nodefs.available', 'nodefs.inodesFree', 'imagefs.available', 'imagefs.inodesFree', 'pid.available'])",
            "message": "eviction signals are memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and pid.available",
        }],
    })
}
