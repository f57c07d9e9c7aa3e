//! An EC2NodeClass read once: its fields in plain units, with defaults filled in.
//!
//! Given: the spec as users write it. Given back: [`ClassSettings`] for capacity, user data and
//! launch templates, or every problem at once, each naming field and fix. What exists in EC2 is not
//! looked at here.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::{Map, Value};

use super::capacity::{MEMORY_OVERHEAD_BASIS_POINTS, NodeShape, Threshold};
use super::disks::{self, Volume};
use super::facts::Feature;
use super::interfaces::Interfaces;
use super::token::hash_hex;
use super::user_data;
use crate::api::node_class::kubelet::KubeletConfiguration;
use crate::api::node_class::machine::Toggle;
use crate::api::node_class::{AmiFamily, EC2NodeClass, EC2NodeClassSpec};
use crate::api::node_class_validation;
use crate::model::money::UsdPerHour;
use crate::model::quantity;
use crate::model::resources::Resources;

/// The kubelet's signal of hard eviction by memory.
const EVICTION_MEMORY: &str = "memory.available";

/// How the image wants its user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// Amazon Linux 2023.
    Al2023,
    /// Bottlerocket.
    Bottlerocket,
    /// The user's own user data, verbatim.
    Custom,
}

impl Family {
    /// False for machines that its images do not start on. Source: "Comparing AL2 and AL2023" in the AL2023 user
    /// guide: on arm64 Amazon Linux 2023 needs Graviton2, and the first Graviton is that of `a1`.
    pub fn runs_on(self, instance_type: &str) -> bool {
        !(self == Self::Al2023 && instance_type.starts_with("a1."))
    }

    /// True where the user data that we make says what the cluster is.
    pub fn is_told_of_the_cluster(self) -> bool {
        self != Self::Custom
    }
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
    /// Volumes that the class says; what it does not say of the image's own is up to the image.
    pub volumes: Vec<Volume>,
    /// The rate of the volumes.
    pub volume_fee: UsdPerHour,
    /// Only types with the Nitro hypervisor can be launched.
    pub nitro_only: bool,
    /// What machines must be able to.
    pub features: BTreeSet<Feature>,
}

/// Why a class that is being deleted makes no more machines.
pub const DELETING: &str = "it is being deleted, and makes no more machines; refer to another one in the NodePool's nodeClassRef";

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
    let volumes = disks::volumes(spec, family, &mut problems);
    if let Err(problem) = user_data::check(family, spec.user_data.as_deref()) {
        problems.push(problem.to_string());
    }
    let mut shape = NodeShape {
        root_bytes: disks::root_bytes(spec, family, &mut problems),
        reserves_by_pods: family == Family::Bottlerocket,
        instance_store_raid0: spec.instance_store_policy.is_some(),
        reserved_interfaces: defaults.reserved_interfaces,
        interfaces: Interfaces::read(spec, &mut problems),
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
    let volume_fee = volumes.iter().map(disks::fee_of).sum();
    Ok(ClassSettings {
        family,
        kubelet,
        shape,
        volumes,
        volume_fee,
        nitro_only: spec.connection_tracking.is_some(),
        features: features(spec),
    })
}

/// What a spec switches on.
fn features(spec: &EC2NodeClassSpec) -> BTreeSet<Feature> {
    let enclaves = spec
        .enclave_options
        .as_ref()
        .is_some_and(|options| options.enabled);
    let nested = spec
        .cpu_options
        .as_ref()
        .is_some_and(|options| options.nested_virtualization == Some(Toggle::Enabled));
    let wanted = [
        (Feature::Enclaves, enclaves),
        (Feature::NestedVirtualization, nested),
    ];
    let wanted = wanted.into_iter().filter(|(_feature, is)| *is);
    wanted.map(|(feature, _is)| feature).collect()
}

/// Hash over what a launched node keeps of the spec. What selects things in EC2 is left out: those
/// are compared by what they resolve to. So are fields that may change on a running node.
pub fn hash(spec: &EC2NodeClassSpec) -> String {
    let kept = EC2NodeClassSpec {
        subnet_selector_terms: Vec::new(),
        security_group_selector_terms: Vec::new(),
        capacity_reservation_selector_terms: Vec::new(),
        placement_group_selector: None,
        ami_selector_terms: Vec::new(),
        ami_family: node_class_validation::resolved_family(spec),
        ip_prefix_count: None,
        ..spec.clone()
    };
    // Serialization of plain data with string keys does not fail; an empty text would only mean
    // that no drift is seen.
    let text = serde_json::to_string(&kept).unwrap_or_default();
    hash_hex(text.as_bytes()).chars().take(16).collect()
}

/// Which machines are alike in how much of their memory firmware and kernel keep: those with images of
/// one family, whoever selects them. Users' own images are alike within one class at most.
pub fn image_kind(object: &EC2NodeClass) -> Option<String> {
    match family(&object.spec).ok()? {
        Family::Al2023 => Some("AL2023".to_owned()),
        Family::Bottlerocket => Some("Bottlerocket".to_owned()),
        Family::Custom => Some(format!("Custom/{}", object.name_any())),
    }
}

/// What a class says of hard eviction by memory; `None` is what the kubelet does by itself.
pub fn memory_eviction(spec: &EC2NodeClassSpec) -> Option<Threshold> {
    let text = spec.kubelet.as_ref()?.eviction_hard.get(EVICTION_MEMORY)?;
    threshold(text).ok()
}

fn family(spec: &EC2NodeClassSpec) -> Result<Family, String> {
    match node_class_validation::resolved_family(spec) {
        Some(AmiFamily::Al2023) => Ok(Family::Al2023),
        Some(AmiFamily::Bottlerocket) => Ok(Family::Bottlerocket),
        Some(AmiFamily::Custom) => Ok(Family::Custom),
        Some(AmiFamily::Other(other)) => Err(format!(
            "spec.amiFamily `{other}` is not known: use AL2023, Bottlerocket or Custom"
        )),
        None => Err("spec.amiFamily is missing: set AL2023, Bottlerocket or Custom".to_owned()),
    }
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
    shape.eviction_memory = eviction(EVICTION_MEMORY);
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

    const GIB: i64 = 1 << 30;

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
        assert_eq!((root.gib, root.encrypted), (Some(20), true));
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
        assert!(class.volumes[0].encrypted, "size says nothing of it");
        // 100 decimal gigabytes are a volume of 94 GiB.
        assert_eq!(class.volumes[1].gib, Some(94));
        assert_eq!(class.volume_fee.to_string(), "0.021260274");
    }

    #[test]
    fn bottlerocket_has_a_volume_for_itself_and_one_for_pods() {
        let named = settings(&json!({ "amiFamily": "Bottlerocket" }));
        let by_alias = settings(&json!({
            "amiFamily": null,
            "amiSelectorTerms": [{ "alias": "bottlerocket@latest" }],
        }));
        assert_eq!(by_alias, named);
        let sizes: Vec<(&str, Option<i64>)> = named
            .volumes
            .iter()
            .map(|volume| (volume.device_name.as_str(), volume.gib))
            .collect();
        assert_eq!(sizes, [("/dev/xvda", Some(6)), ("/dev/xvdb", Some(20))]);
        assert_eq!(named.shape.root_bytes, 20 * GIB);
        let larger = settings(
            &json!({ "amiFamily": "Bottlerocket", "blockDeviceMappings": [
            { "deviceName": "/dev/xvda", "ebs": { "volumeSize": "8Gi" } },
            { "deviceName": "/dev/xvdb", "ebs": { "volumeSize": "100Gi" } },
        ] }),
        );
        assert_eq!(larger.shape.root_bytes, 100 * GIB);
    }

    #[test]
    fn user_data_that_cannot_be_merged_is_found_before_a_launch() {
        let of =
            |family: &str, own: &str| problems(&json!({ "amiFamily": family, "userData": own }));
        let found = of("Bottlerocket", "#!/bin/bash\necho hi\n");
        assert!(
            found.starts_with("spec.userData: Bottlerocket takes TOML"),
            "{found}"
        );
        let found = of("AL2023", "Content-Type: multipart/mixed\n\n--x\n");
        assert!(found.contains("names no boundary"), "{found}");
        let custom = json!({ "amiFamily": "Custom", "userData": "anything" });
        assert_eq!(settings(&custom).family, Family::Custom);
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
    fn images_of_one_family_are_alike_and_own_images_within_a_class() {
        let kind = |name: &str, family: &str| {
            image_kind(&EC2NodeClass::new(
                name,
                spec(&json!({ "amiFamily": family })),
            ))
        };
        assert_eq!(kind("a", "AL2023"), kind("b", "AL2023"));
        assert_ne!(kind("a", "AL2023"), kind("a", "Bottlerocket"));
        assert_ne!(kind("a", "Custom"), kind("b", "Custom"));
        assert_eq!(kind("a", "Solaris"), None);
    }

    #[test]
    fn the_threshold_of_memory_is_read_alone_as_with_everything() {
        for text in ["5%", "1Gi", "100%"] {
            let fields = json!({ "kubelet": { "evictionHard": { "memory.available": text } } });
            let whole = settings(&fields).shape.eviction_memory;
            assert_eq!(memory_eviction(&spec(&fields)), whole);
            assert!(whole.is_some(), "{text}");
        }
        assert_eq!(memory_eviction(&spec(&json!({}))), None);
    }

    #[test]
    fn every_problem_names_field_and_fix() {
        assert_eq!(
            problems(&json!({
                "amiFamily": "Solaris",
                "kubelet": { "evictionHard": { "memory.available": "200%" } },
            })),
            "spec.amiFamily `Solaris` is not known: use AL2023, Bottlerocket or Custom; \
             spec.kubelet.evictionHard[memory.available]: `200%` is no \
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
