//! The EC2NodeClass kind and its top-level fields.
//!
//! Plain data as users write it. Defaults and rules are part of the CRD; what the CRD cannot check
//! is in [`crate::api::node_class_validation`].
#![expect(
    clippy::duplicated_attributes,
    reason = "each printcolumn has a type and a priority of its own"
)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::kubelet::KubeletConfiguration;
use super::machine::{
    ConnectionTracking, CpuOptions, EnclaveOptions, MetadataOptions, NetworkInterface,
};
use super::selectors::{
    self, AmiSelectorTerm, CapacityReservationSelectorTerm, PlacementGroupSelector,
    SecurityGroupSelectorTerm, SubnetSelectorTerm,
};
use super::status::EC2NodeClassStatus;
use super::storage::{self, BlockDeviceMapping, InstanceStorePolicy};
use crate::api::open_enum::open_enum;

open_enum! {
    /// How an image wants its user data and how its disks are laid out.
    pub enum AmiFamily {
        /// Amazon Linux 2023, configured by nodeadm.
        Al2023 = "AL2023",
        /// Bottlerocket, configured by TOML.
        Bottlerocket = "Bottlerocket",
        /// Anything else: the user data is passed on as it is and must join the node by itself.
        Custom = "Custom",
    }
}

/// How machines are made in EC2.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tonnage.dev",
    version = "v1alpha1",
    kind = "EC2NodeClass",
    plural = "ec2nodeclasses",
    shortname = "ec2nc",
    shortname = "ec2ncs",
    category = "karpenter",
    status = "EC2NodeClassStatus",
    derive = "PartialEq",
    doc = "An EC2NodeClass describes how machines are made in EC2: image, subnets, security groups, disks, user data and kubelet settings. NodePools name it in nodeClassRef.",
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
        name = "Role",
        type_ = "string",
        json_path = ".spec.role",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.role) != has(self.instanceProfile)")
        .message("set exactly one of role and instanceProfile"),
    validation = Rule::new("has(self.amiFamily) || self.amiSelectorTerms.exists(term, has(term.alias))")
        .message("set amiFamily (AL2023, Bottlerocket or Custom), or select the image by an alias such as al2023@latest"),
    validation = Rule::new("!has(self.amiFamily) || self.amiFamily == 'Custom' || self.amiSelectorTerms.all(term, !has(term.alias) || term.alias.split('@')[0] == self.amiFamily.lowerAscii())")
        .message("amiFamily does not match the alias; leave amiFamily out, or make it the alias's family or Custom"),
)]
pub struct EC2NodeClassSpec {
    /// The subnets machines may be placed in: those that match any of the terms, 1 to 30. A subnet's
    /// zone decides the node's zone.
    #[schemars(schema_with = "selectors::subnet_terms")]
    pub subnet_selector_terms: Vec<SubnetSelectorTerm>,
    /// The security groups every machine gets: those that match any of the terms, 1 to 30.
    #[schemars(schema_with = "selectors::security_group_terms")]
    pub security_group_selector_terms: Vec<SecurityGroupSelectorTerm>,
    /// The capacity reservations machines may be placed in: those that match any of the terms, at
    /// most 30. Unset means none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "selectors::capacity_reservation_terms")]
    pub capacity_reservation_selector_terms: Vec<CapacityReservationSelectorTerm>,
    /// The placement group machines are placed in. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group_selector: Option<PlacementGroupSelector>,
    /// The images machines are started from: those that match any of the terms, 1 to 30. Of several
    /// that fit an instance type the newest is taken. An alias must be the only term.
    #[schemars(schema_with = "selectors::ami_terms")]
    pub ami_selector_terms: Vec<AmiSelectorTerm>,
    /// How the image wants its user data: `AL2023`, `Bottlerocket` or `Custom`. Required unless the
    /// image is selected by an alias, which says it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ami_family")]
    pub ami_family: Option<AmiFamily>,
    /// User data of your own. With `AL2023` it is merged before the generated part (MIME, nodeadm YAML
    /// or a shell script), with `Bottlerocket` it is TOML and generated settings win, with `Custom`
    /// it is passed on as it is and must join the node by itself. EC2 takes at most 16384 bytes in
    /// all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// Name of the IAM role of the machines. A path before the name is allowed. Set this or
    /// `instanceProfile`. The controller makes an instance profile for the role and removes it with
    /// the class; `status.instanceProfile` names it. Another role is another profile: machines keep
    /// the one they were launched with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub role: Option<String>,
    /// Name of an existing IAM instance profile of the machines, which you manage. Set this or
    /// `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub instance_profile: Option<String>,
    /// Whether machines get a public IPv4 address. Unset means what the subnet says.
    #[serde(
        default,
        rename = "associatePublicIPAddress",
        skip_serializing_if = "Option::is_none"
    )]
    pub associate_public_ip_address: Option<bool>,
    /// The number of IPv4 prefixes (IPv6 prefixes in an IPv6 cluster) on the machine's network
    /// interface. Changing it does not replace nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ip_prefix_count: Option<i32>,
    /// Tags for everything made in EC2 for this class: instances, volumes, network interfaces, launch
    /// templates. `Name` may be set; without it, it is the NodePool's name. Keys of Kubernetes, EKS, AWS and the provisioner are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "tags")]
    pub tags: BTreeMap<String, String>,
    /// Settings of the kubelet on the nodes, as in `KubeletConfiguration` of
    /// `kubelet.config.k8s.io/v1beta1`. Scheduling counts with `maxPods`, `podsPerCore`,
    /// `systemReserved`, `kubeReserved` and `evictionHard`. With `AL2023` any further field is passed
    /// on to the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletConfiguration>,
    /// The disks of the machines, at most 50. Unset means one gp3 root disk of the AMI family's
    /// usual size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "storage::block_device_mappings")]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    /// What is done with local NVMe disks: `RAID0` joins them to one file system that pods use as
    /// ephemeral storage. Unset leaves them unformatted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_store_policy: Option<InstanceStorePolicy>,
    /// The network interfaces of the machines, at most 150. Must contain card 0, device 0 of type
    /// `interface`; only instance types with room for all of them are bought. Unset means one, or, for
    /// machines whose pods request `vpc.amazonaws.com/efa`, one with EFA on each network card.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::machine::network_interfaces")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// Whether EC2 publishes metrics of the machines every minute, for a fee. Default: false (every
    /// five minutes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detailed_monitoring: Option<bool>,
    /// How the instance metadata service of the machines may be reached. Default: only with a session
    /// token (IMDSv2), over IPv4, one hop, so that pods cannot reach it.
    #[serde(default)]
    pub metadata_options: MetadataOptions,
    /// How long idle connections are tracked by security groups. Restricts launches to Nitro
    /// instance types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_tracking: Option<ConnectionTracking>,
    /// Context identifier passed on to EC2 when machines are bought. Reserved by EC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Nitro Enclaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enclave_options: Option<EnclaveOptions>,
    /// CPU features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_options: Option<CpuOptions>,
}

/// No enum in the schema: a value that other provisioners know deserves its own explanation.
fn ami_family(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 30,
        "x-kubernetes-validations": [
            {
                "rule": "self != 'AL2'",
                "message": "AL2 is not supported: its last Kubernetes version is 1.32; use AL2023",
            },
            {
                "rule": "!self.startsWith('Windows')",
                "message": "Windows nodes are not supported; use AL2023, Bottlerocket or Custom",
            },
            {
                "rule": "self == 'AL2' || self.startsWith('Windows') || self in ['AL2023', 'Bottlerocket', 'Custom']",
                "message": "amiFamily must be AL2023, Bottlerocket or Custom",
            },
        ],
    })
}

fn tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 50,
        "additionalProperties": { "type": "string", "maxLength": 256 },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(key, key != '')",
                "message": "a tag needs a key",
            },
            {
                "rule": "self.all(key, !key.startsWith('aws:') && key != 'eks:eks-cluster-name')",
                "message": "tags that begin with aws: and the tag eks:eks-cluster-name are set by AWS and cannot be given",
            },
            {
                "rule": "self.all(key, !key.startsWith('kubernetes.io/cluster'))",
                "message": "tags that begin with kubernetes.io/cluster are set by the controller and cannot be given",
            },
            {
                "rule": "self.all(key, !key.startsWith('tonnage.dev/') && !(key in ['karpenter.sh/nodepool', 'karpenter.sh/nodeclaim', 'karpenter.k8s.aws/ec2nodeclass']))",
                "message": "tags that begin with tonnage.dev/, and karpenter.sh/nodepool, karpenter.sh/nodeclaim and karpenter.k8s.aws/ec2nodeclass, belong to provisioners and cannot be given",
            },
        ],
    })
}
