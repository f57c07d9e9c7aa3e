//! An EC2NodeClass read once: its fields in plain units, with defaults filled in.
//!
//! Given: the spec as users write it. Given back: [`ClassSettings`] for capacity, user data and
//! launch templates, or every problem at once, each naming field and fix. What exists in EC2 is not
//! looked at here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::Serialize;
use serde_json::{Map, Value};

use super::capacity::{DEFAULT_ROOT_BYTES, MEMORY_OVERHEAD_BASIS_POINTS, NodeShape, Threshold};
use super::fees::{self, VolumePlan, VolumeType};
use super::token::hash_hex;
use crate::api::node_class::kubelet::KubeletConfiguration;
use crate::api::node_class::storage::{BlockDevice, BlockDeviceMapping};
use crate::api::node_class::{AmiFamily, EC2NodeClassSpec};
use crate::api::node_class_validation;
use crate::model::money::UsdPerHour;
use crate::model::quantity;
use crate::model::resources::Resources;

const GIB: i64 = 1 << 30;
/// Where Amazon Linux has its root volume, which carries pods' scratch data.
const AL2023_ROOT_DEVICE: &str = "/dev/xvda";

/// How the image wants its user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// Amazon Linux 2023.
    Al2023,
    /// The user's own user data, verbatim.
    Custom,
}

/// An EBS volume of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// For example `/dev/xvda`.
    pub device_name: String,
    /// GiB; `None` is the size of the snapshot.
    pub gib: Option<i64>,
    /// EC2's word for the kind.
    pub kind: &'static str,
    /// IOPS.
    pub iops: Option<i64>,
    /// MiB/s.
    pub throughput: Option<i64>,
    /// `None` is what the account says.
    pub encrypted: Option<bool>,
    /// KMS key.
    pub kms_key_id: Option<String>,
    /// Snapshot.
    pub snapshot_id: Option<String>,
    /// MiB/s at which the snapshot is loaded.
    pub initialization_rate: Option<i32>,
    /// Goes with its machine.
    pub delete_on_termination: bool,
}

/// A node class in plain units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassSettings {
    /// How the image wants its user data.
    pub family: Family,
    /// The kubelet fields that the user set.
    pub kubelet: Map<String, Value>,
    /// What changes capacity.
    pub shape: NodeShape,
    /// Volumes; empty leaves them to the image.
    pub volumes: Vec<Volume>,
    /// The rate of the volumes.
    pub volume_fee: UsdPerHour,
    /// Only types with the Nitro hypervisor can be launched.
    pub nitro_only: bool,
}

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ClassError(pub Vec<String>);

/// Settings of the controller that change what node classes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassDefaults {
    /// Share of memory that hypervisor and kernel take, basis points.
    pub memory_overhead_basis_points: u32,
    /// Network interfaces that pods get no addresses from.
    pub reserved_interfaces: u32,
}

impl Default for ClassDefaults {
    fn default() -> Self {
        Self {
            memory_overhead_basis_points: MEMORY_OVERHEAD_BASIS_POINTS,
            reserved_interfaces: 0,
        }
    }
}

/// Reads a spec.
pub fn read(spec: &EC2NodeClassSpec, defaults: ClassDefaults) -> Result<ClassSettings, ClassError> {
    let mut problems = Vec::new();
    let family = family(spec).unwrap_or_else(|problem| {
        problems.push(problem);
        Family::Al2023
    });
    let volumes = volumes(spec, family, &mut problems);
    let mut shape = NodeShape {
        root_bytes: root_bytes(spec, family, &mut problems),
        instance_store_raid0: spec.instance_store_policy.is_some(),
        reserved_interfaces: defaults.reserved_interfaces,
        memory_overhead_basis_points: defaults.memory_overhead_basis_points,
        ..NodeShape::default()
    };
    let mut kubelet = Map::new();
    if let Some(configuration) = &spec.kubelet {
        read_kubelet(configuration, &mut shape, &mut problems);
        match serde_json::to_value(configuration) {
            Ok(Value::Object(fields)) => kubelet = fields,
            Ok(_) => {}
            Err(error) => problems.push(format!("spec.kubelet cannot be written: {error}")),
        }
    }
    for problem in node_class_validation::validate(spec) {
        // What was found above already is not said twice.
        if !problems
            .iter()
            .any(|found| found.starts_with(&problem.field))
        {
            problems.push(problem.to_string());
        }
    }
    if !problems.is_empty() {
        return Err(ClassError(problems));
    }
    let volume_fee = volumes.iter().map(fee_of).sum();
    Ok(ClassSettings {
        family,
        kubelet,
        shape,
        volumes,
        volume_fee,
        nitro_only: spec.connection_tracking.is_some(),
    })
}

/// Hash over what a launched node keeps of the spec. What selects things in EC2 is left out: those
/// are compared by what they resolve to. So are fields that may change on a running node.
pub fn hash(spec: &EC2NodeClassSpec) -> String {
    let kept = EC2NodeClassSpec {
        subnet_selector_terms: Vec::new(),
        security_group_selector_terms: Vec::new(),
        capacity_reservation_selector_terms: Vec::new(),
        ami_selector_terms: Vec::new(),
        ami_family: ami_family(spec),
        ip_prefix_count: None,
        ..spec.clone()
    };
    // Serialization of plain data with string keys does not fail; an empty text would only mean
    // that no drift is seen.
    let text = serde_json::to_string(&kept).unwrap_or_default();
    hash_hex(text.as_bytes()).chars().take(16).collect()
}

/// The family that is written, or the one that the alias says.
fn ami_family(spec: &EC2NodeClassSpec) -> Option<AmiFamily> {
    spec.ami_family.clone().or_else(|| {
        let alias = spec
            .ami_selector_terms
            .iter()
            .find_map(|term| term.alias.as_deref())?;
        match alias.split_once('@')?.0 {
            "al2023" => Some(AmiFamily::Al2023),
            "bottlerocket" => Some(AmiFamily::Bottlerocket),
            other => Some(AmiFamily::Other(other.to_owned())),
        }
    })
}

fn family(spec: &EC2NodeClassSpec) -> Result<Family, String> {
    match ami_family(spec) {
        Some(AmiFamily::Al2023) => Ok(Family::Al2023),
        Some(AmiFamily::Custom) => Ok(Family::Custom),
        Some(AmiFamily::Bottlerocket) => Err(
            "spec.amiFamily Bottlerocket is not supported by this version: use AL2023, or Custom \
             with user data of your own"
                .to_owned(),
        ),
        Some(AmiFamily::Other(other)) => Err(format!(
            "spec.amiFamily `{other}` is not known: use AL2023 or Custom"
        )),
        None => Err("spec.amiFamily is missing: set AL2023 or Custom".to_owned()),
    }
}

fn volumes(spec: &EC2NodeClassSpec, family: Family, problems: &mut Vec<String>) -> Vec<Volume> {
    if spec.block_device_mappings.is_empty() && family == Family::Al2023 {
        return vec![Volume {
            device_name: AL2023_ROOT_DEVICE.to_owned(),
            gib: Some(DEFAULT_ROOT_BYTES / GIB),
            kind: VolumeType::Gp3.as_str(),
            iops: None,
            throughput: None,
            encrypted: Some(true),
            kms_key_id: None,
            snapshot_id: None,
            initialization_rate: None,
            delete_on_termination: true,
        }];
    }
    let mut volumes = Vec::new();
    for (index, mapping) in spec.block_device_mappings.iter().enumerate() {
        let Some(ebs) = &mapping.ebs else { continue };
        match volume(index, mapping, ebs) {
            Ok(volume) => volumes.push(volume),
            Err(problem) => problems.push(problem),
        }
    }
    volumes
}

fn volume(index: usize, mapping: &BlockDeviceMapping, ebs: &BlockDevice) -> Result<Volume, String> {
    let path = format!("spec.blockDeviceMappings[{index}]");
    let device_name = mapping
        .device_name
        .clone()
        .ok_or_else(|| format!("{path}.deviceName is missing: name the device, as in /dev/xvda"))?;
    let kind = ebs
        .volume_type
        .as_ref()
        .map_or(Some(VolumeType::Gp3), |kind| {
            VolumeType::parse(kind.as_str())
        })
        .ok_or_else(|| format!("{path}.ebs.volumeType is not known: use gp3"))?;
    let bytes = ebs
        .volume_size
        .as_ref()
        .map(|size| bytes(size, &format!("{path}.ebs.volumeSize")))
        .transpose()?;
    Ok(Volume {
        device_name,
        gib: bytes.map(|bytes| bytes.saturating_add(GIB - 1) / GIB),
        kind: kind.as_str(),
        iops: ebs.iops,
        throughput: ebs.throughput,
        encrypted: ebs.encrypted,
        kms_key_id: ebs.kms_key_id.clone(),
        snapshot_id: ebs.snapshot_id.clone(),
        initialization_rate: ebs.volume_initialization_rate,
        delete_on_termination: ebs.delete_on_termination.unwrap_or(true),
    })
}

/// The rate of a volume. A volume without size is as large as its snapshot, which is not known
/// here: it counts as nothing.
fn fee_of(volume: &Volume) -> UsdPerHour {
    let kind = VolumeType::parse(volume.kind).unwrap_or(VolumeType::Gp3);
    fees::volume(&VolumePlan {
        kind,
        gib: volume.gib.unwrap_or(0),
        iops: volume.iops,
        throughput: volume.throughput,
    })
}

/// The size of the volume that carries pods' scratch data: the one that says so, else the one at
/// the family's root device, for Custom the last one, else 20 GiB.
fn root_bytes(spec: &EC2NodeClassSpec, family: Family, problems: &mut Vec<String>) -> i64 {
    let mappings = &spec.block_device_mappings;
    let chosen = mappings
        .iter()
        .position(|mapping| mapping.root_volume == Some(true))
        .or_else(|| match family {
            Family::Custom => mappings.len().checked_sub(1),
            Family::Al2023 => mappings
                .iter()
                .position(|mapping| mapping.device_name.as_deref() == Some(AL2023_ROOT_DEVICE)),
        });
    let size = chosen
        .and_then(|index| mappings.get(index).map(|mapping| (index, mapping)))
        .and_then(|(index, mapping)| Some((index, mapping.ebs.as_ref()?.volume_size.as_ref()?)));
    let Some((index, size)) = size else {
        return DEFAULT_ROOT_BYTES;
    };
    let path = format!("spec.blockDeviceMappings[{index}].ebs.volumeSize");
    bytes(size, &path).unwrap_or_else(|problem| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
        DEFAULT_ROOT_BYTES
    })
}

fn bytes(size: &ApiQuantity, path: &str) -> Result<i64, String> {
    quantity::amount("ephemeral-storage", &size.0).map_err(|error| format!("{path}: {error}"))
}

fn read_kubelet(kubelet: &KubeletConfiguration, shape: &mut NodeShape, problems: &mut Vec<String>) {
    let count = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
    shape.max_pods = count(kubelet.max_pods);
    shape.pods_per_core = count(kubelet.pods_per_core);
    shape.kube_reserved = reserved(&kubelet.kube_reserved, "kubeReserved", problems);
    shape.system_reserved = reserved(&kubelet.system_reserved, "systemReserved", problems)
        .into_iter()
        .collect::<Resources>();
    let mut eviction = |signal: &str| {
        let text = kubelet.eviction_hard.get(signal)?;
        match threshold(text) {
            Ok(threshold) => Some(threshold),
            Err(problem) => {
                problems.push(format!("spec.kubelet.evictionHard[{signal}]: {problem}"));
                None
            }
        }
    };
    shape.eviction_memory = eviction("memory.available");
    shape.eviction_disk = eviction("nodefs.available");
    if kubelet.other.contains_key("registerWithTaints") {
        problems.push(
            "spec.kubelet.registerWithTaints is set by the controller: use taints or \
             startupTaints of the NodePool"
                .to_owned(),
        );
    }
}

fn reserved(
    amounts: &BTreeMap<String, ApiQuantity>,
    field: &str,
    problems: &mut Vec<String>,
) -> Vec<(String, i64)> {
    let mut read = Vec::new();
    for (name, text) in amounts {
        // The number of processes is no resource that pods request.
        if name == "pid" {
            continue;
        }
        match quantity::amount(name, &text.0) {
            Ok(amount) => read.push((name.clone(), amount)),
            Err(error) => problems.push(format!("spec.kubelet.{field}.{name}: {error}")),
        }
    }
    read
}

/// `5%`, `7.5%` or a quantity.
fn threshold(text: &str) -> Result<Threshold, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return quantity::amount("memory", text)
            .map(Threshold::Bytes)
            .map_err(|error| error.to_string());
    };
    quantity::Quantity::parse(percent)
        .ok()
        .and_then(quantity::Quantity::milli)
        .and_then(|milli| u32::try_from(milli / 10).ok())
        .filter(|basis_points| *basis_points <= 10_000)
        .map(Threshold::BasisPoints)
        .ok_or_else(|| format!("`{text}` is no share: write 0% to 100%, or an amount as in 100Mi"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(fields: &Value) -> EC2NodeClassSpec {
        let mut base = json!({
            "subnetSelectorTerms": [{ "tags": { "a": "b" } }],
            "securityGroupSelectorTerms": [{ "name": "nodes" }],
            "amiSelectorTerms": [{ "id": "ami-1" }],
            "amiFamily": "AL2023",
            "instanceProfile": "nodes",
        });
        for (key, value) in fields.as_object().unwrap() {
            base[key] = value.clone();
        }
        serde_json::from_value(base).unwrap()
    }

    fn settings(fields: &Value) -> ClassSettings {
        read(&spec(fields), ClassDefaults::default()).unwrap()
    }

    fn problems(fields: &Value) -> String {
        read(&spec(fields), ClassDefaults::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_default_is_an_encrypted_root_volume_of_20_gib() {
        let class = settings(&json!({}));
        let [root] = class.volumes.as_slice() else {
            panic!("one volume expected: {:?}", class.volumes);
        };
        assert_eq!((root.gib, root.encrypted), (Some(20), Some(true)));
        assert_eq!(class.shape, NodeShape::default());
        assert_eq!(class.volume_fee.to_string(), "0.0021917808");
    }

    #[test]
    fn a_root_volume_of_100_gib_is_scratch_space_and_a_fee() {
        let class = settings(&json!({ "blockDeviceMappings": [
            { "deviceName": "/dev/xvda", "ebs": { "volumeSize": "100Gi", "volumeType": "gp3" } },
            { "deviceName": "/dev/xvdb", "ebs": { "volumeSize": "100G" } },
        ] }));
        assert_eq!(class.shape.root_bytes, 100 * GIB);
        // 100 decimal gigabytes are a volume of 94 GiB.
        assert_eq!(class.volumes[1].gib, Some(94));
        assert_eq!(class.volume_fee.to_string(), "0.021260274");
    }

    #[test]
    fn kubelet_settings_are_read_in_plain_units() {
        let class = settings(&json!({ "kubelet": {
            "maxPods": 30,
            "kubeReserved": { "cpu": "250m", "pid": "100" },
            "systemReserved": { "memory": "512Mi" },
            "evictionHard": { "memory.available": "7.5%", "nodefs.available": "10Gi" },
            "cpuManagerPolicy": "static",
        } }));
        assert_eq!(class.shape.max_pods, Some(30));
        assert_eq!(class.shape.kube_reserved, [("cpu".to_owned(), 250)]);
        assert_eq!(
            class.shape.eviction_memory,
            Some(Threshold::BasisPoints(750))
        );
        assert_eq!(class.shape.eviction_disk, Some(Threshold::Bytes(10 * GIB)));
        assert_eq!(class.kubelet["cpuManagerPolicy"], "static");
    }

    #[test]
    fn every_problem_names_field_and_fix() {
        assert_eq!(
            problems(&json!({
                "amiFamily": "Bottlerocket",
                "kubelet": { "evictionHard": { "memory.available": "200%" } },
            })),
            "spec.amiFamily Bottlerocket is not supported by this version: use AL2023, or Custom \
             with user data of your own; spec.kubelet.evictionHard[memory.available]: `200%` is no \
             share: write 0% to 100%, or an amount as in 100Mi"
        );
    }

    #[test]
    fn the_hash_follows_what_nodes_keep_and_nothing_else() {
        let base = hash(&spec(&json!({})));
        let other_selector = spec(&json!({ "subnetSelectorTerms": [{ "id": "subnet-1" }] }));
        assert_eq!(hash(&other_selector), base);
        assert_ne!(hash(&spec(&json!({ "userData": "x" }))), base);
        assert_ne!(hash(&spec(&json!({ "tags": { "team": "x" } }))), base);
    }
}
