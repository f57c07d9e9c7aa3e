//! What a node of an instance type offers under a node class: capacity and what the kubelet keeps.
//!
//! Given: the facts of a type and the shape that the node class gives its nodes. Given back:
//! [`Resources`] in millicores, bytes and counts. The formulas are those of the EKS images, checked
//! against published values of every built-in type. Nothing here knows prices or zones.

use crate::model::resources::{CPU, EFA, EPHEMERAL_STORAGE, MEMORY, PODS, Resources};

use super::facts::{Architecture, InstanceFacts};
use super::interfaces::Interfaces;

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// The share of a machine's memory that the hypervisor and the kernel take, in basis points, until a
/// node of the type was seen: 7.5 %.
pub const MEMORY_OVERHEAD_BASIS_POINTS: u32 = 750;
/// The root volume when the node class names none: 20 GiB.
pub const DEFAULT_ROOT_BYTES: i64 = 20 * GIB;
/// Memory below which the kubelet evicts, unless set: 100 MiB.
const EVICTION_MEMORY: Threshold = Threshold::Bytes(100 * MIB);
/// Share of the disk below which the kubelet evicts, unless set: 10 %.
const EVICTION_DISK: Threshold = Threshold::BasisPoints(1_000);
/// Memory that arm64 machines report less than they have: 64 MiB.
const ARM64_RESERVED_MIB: u64 = 64;

/// A threshold below which the kubelet evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// Bytes.
    Bytes(i64),
    /// Hundredths of a percent of the capacity; 100 % means that the signal is off.
    BasisPoints(u32),
}

impl Threshold {
    fn bytes_of(self, capacity: i64) -> i64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::BasisPoints(10_000..) => 0,
            Self::BasisPoints(points) => share_rounded_up(capacity, i64::from(points)),
        }
    }
}

/// What a node class says that changes what its nodes offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShape {
    /// Fixed number of pods; `None` is as many as the network interfaces have addresses for.
    pub max_pods: Option<u32>,
    /// Pods per processor at most.
    pub pods_per_core: Option<u32>,
    /// Replaces the computed reservation resource by resource, zeros included.
    pub kube_reserved: Vec<(String, i64)>,
    /// Kept for the system, beside what is kept for Kubernetes.
    pub system_reserved: Resources,
    /// `memory.available` of hard eviction; `None` is 100 MiB.
    pub eviction_memory: Option<Threshold>,
    /// `nodefs.available` of hard eviction; `None` is 10 %.
    pub eviction_disk: Option<Threshold>,
    /// What is kept for Kubernetes grows with the pods that the kubelet accepts, not with those that
    /// the interfaces have addresses for.
    pub reserves_by_pods: bool,
    /// Size of the volume that pods' scratch data is on, bytes.
    pub root_bytes: i64,
    /// Instance stores are joined and carry pods' scratch data.
    pub instance_store_raid0: bool,
    /// Interfaces of the first card that pods get no addresses from.
    pub reserved_interfaces: u32,
    /// The interfaces that machines are made with.
    pub interfaces: Interfaces,
    /// Share of memory that is lost to hypervisor and kernel, basis points.
    pub memory_overhead_basis_points: u32,
}

impl Default for NodeShape {
    fn default() -> Self {
        Self {
            max_pods: None,
            pods_per_core: None,
            kube_reserved: Vec::new(),
            system_reserved: Resources::new(),
            eviction_memory: None,
            eviction_disk: None,
            reserves_by_pods: false,
            root_bytes: DEFAULT_ROOT_BYTES,
            instance_store_raid0: false,
            reserved_interfaces: 0,
            interfaces: Interfaces::default(),
            memory_overhead_basis_points: MEMORY_OVERHEAD_BASIS_POINTS,
        }
    }
}

/// What a machine of the type has, before anything is kept back, the EFA devices included that it has when its
/// claim asks for some.
pub fn capacity(facts: &InstanceFacts, shape: &NodeShape) -> Resources {
    let mut resources = Resources::new()
        .with(CPU, i64::from(facts.vcpus) * 1000)
        .with(MEMORY, memory(facts, shape))
        .with(PODS, i64::from(pods(facts, shape)))
        .with(EPHEMERAL_STORAGE, ephemeral_storage(facts, shape))
        .with(
            "vpc.amazonaws.com/pod-eni",
            i64::from(facts.branch_interfaces),
        )
        .with(EFA, i64::from(shape.interfaces.devices(facts)));
    for (manufacturer, resource) in [
        ("nvidia", "nvidia.com/gpu"),
        ("amd", "amd.com/gpu"),
        ("habana", "habana.ai/gaudi"),
    ] {
        let count: i64 = facts
            .gpus
            .iter()
            .filter(|gpu| gpu.manufacturer == manufacturer)
            .map(|gpu| i64::from(gpu.count))
            .sum();
        resources.set(resource, count);
    }
    let devices: i64 = facts
        .neurons
        .iter()
        .map(|neuron| i64::from(neuron.count))
        .sum();
    let cores: i64 = facts
        .neurons
        .iter()
        .map(|neuron| i64::from(neuron.count) * i64::from(neuron.cores))
        .sum();
    resources.set("aws.amazon.com/neuron", devices);
    resources.set("aws.amazon.com/neuroncore", cores);
    resources
}

/// What the kubelet keeps back of `capacity`: for Kubernetes, for the system, and the thresholds of
/// hard eviction.
pub fn overhead(facts: &InstanceFacts, shape: &NodeShape) -> Resources {
    let mut kept = kube_reserved(facts, shape);
    kept.add(&shape.system_reserved);
    kept.add(&eviction(&capacity(facts, shape), shape));
    kept
}

/// The part of an [`overhead`] that is kept for Kubernetes, as the kubelet is told it.
pub fn kube_reserved_of(
    overhead: &Resources,
    capacity: &Resources,
    shape: &NodeShape,
) -> Resources {
    let mut kept = overhead.clone();
    kept.subtract(&shape.system_reserved);
    kept.subtract(&eviction(capacity, shape));
    kept
}

/// The thresholds of hard eviction, bytes.
fn eviction(capacity: &Resources, shape: &NodeShape) -> Resources {
    let disk = shape.eviction_disk.unwrap_or(EVICTION_DISK);
    let memory = memory_kept_free(capacity.get(MEMORY), shape.eviction_memory);
    Resources::new().with(MEMORY, memory).with(
        EPHEMERAL_STORAGE,
        disk.bytes_of(capacity.get(EPHEMERAL_STORAGE)),
    )
}

/// What hard eviction keeps free of `memory` bytes, under a threshold or, without one, the kubelet's own.
pub fn memory_kept_free(memory: i64, threshold: Option<Threshold>) -> i64 {
    threshold.unwrap_or(EVICTION_MEMORY).bytes_of(memory)
}

/// What is kept for the kubelet and the container runtime: cpu millicores, memory and disk bytes.
///
/// Memory is 255 MiB + 11 MiB for each pod that the interfaces have addresses for, or that the kubelet
/// accepts; cpu is 6 % of the
/// first core, 1 % of the second, 0.5 % of the third and fourth, 0.25 % of the rest; disk 1 GiB.
pub fn kube_reserved(facts: &InstanceFacts, shape: &NodeShape) -> Resources {
    let counted = if shape.reserves_by_pods {
        pods(facts, shape)
    } else {
        address_pods(facts, 0)
    };
    let mut reserved = Resources::new()
        .with(CPU, kube_reserved_cpu(i64::from(facts.vcpus) * 1000))
        .with(MEMORY, (255 + 11 * i64::from(counted)) * MIB)
        .with(EPHEMERAL_STORAGE, GIB);
    for (name, amount) in &shape.kube_reserved {
        reserved.set(name, *amount);
    }
    reserved
}

/// How many pods the kubelet accepts.
pub fn pods(facts: &InstanceFacts, shape: &NodeShape) -> u32 {
    let by_count = shape.max_pods.unwrap_or_else(|| {
        let others = shape.interfaces.without_addresses();
        address_pods(facts, shape.reserved_interfaces.saturating_add(others))
    });
    match shape.pods_per_core {
        Some(per_core) if per_core > 0 => by_count.min(per_core.saturating_mul(facts.vcpus)),
        _ => by_count,
    }
}

/// Pods that the interfaces have addresses for: one address of each interface is the interface's
/// own, and two pods use the host's network.
fn address_pods(facts: &InstanceFacts, reserved_interfaces: u32) -> u32 {
    let usable = facts.interfaces.saturating_sub(reserved_interfaces);
    if usable == 0 {
        return 0;
    }
    usable
        .saturating_mul(facts.addresses_per_interface.saturating_sub(1))
        .saturating_add(2)
}

fn memory(facts: &InstanceFacts, shape: &NodeShape) -> i64 {
    let reported = match facts.architecture {
        Architecture::Amd64 => facts.memory_mib,
        Architecture::Arm64 => facts.memory_mib.saturating_sub(ARM64_RESERVED_MIB),
    };
    let reported = i64::try_from(reported).unwrap_or(i64::MAX / MIB);
    let lost = share_rounded_up(reported, i64::from(shape.memory_overhead_basis_points));
    reported.saturating_sub(lost).max(0).saturating_mul(MIB)
}

fn ephemeral_storage(facts: &InstanceFacts, shape: &NodeShape) -> i64 {
    if shape.instance_store_raid0 && facts.local_nvme_gb > 0 {
        // Instance stores are sold in decimal gigabytes, EBS volumes in GiB.
        return i64::try_from(facts.local_nvme_gb)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
    }
    shape.root_bytes
}

fn kube_reserved_cpu(millicores: i64) -> i64 {
    let tier = |from: i64, to: i64, basis_points: i64| {
        (millicores.min(to) - from).max(0) * basis_points / 10_000
    };
    tier(0, 1000, 600) + tier(1000, 2000, 100) + tier(2000, 4000, 50) + tier(4000, i64::MAX, 25)
}

fn share_rounded_up(amount: i64, basis_points: i64) -> i64 {
    let product = i128::from(amount.max(0)) * i128::from(basis_points.max(0));
    i64::try_from((product + 9_999) / 10_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cloud::facts::built_in;

    fn facts(name: &str) -> &'static InstanceFacts {
        &built_in().types[name]
    }

    fn allocatable(facts: &InstanceFacts, shape: &NodeShape) -> Resources {
        let mut left = capacity(facts, shape);
        left.subtract(&overhead(facts, shape));
        left
    }

    #[test]
    fn every_published_value_is_reproduced() {
        let shape = NodeShape::default();
        let golden = include_str!("data/allocatable-golden.csv");
        let mut checked = BTreeSet::new();
        for line in golden.lines().filter(|line| !line.starts_with('#')).skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [name, cpu, memory, pods] = fields.as_slice() else {
                panic!("`{line}` has not four columns");
            };
            let left = allocatable(facts(name), &shape);
            let got = (left.get(CPU), left.get(MEMORY) / MIB, left.get(PODS));
            let published = (
                cpu.parse().unwrap(),
                memory.parse().unwrap(),
                pods.parse().unwrap(),
            );
            assert_eq!(got, published, "{name}");
            assert_eq!(left.get(EPHEMERAL_STORAGE), 17 * GIB, "{name}");
            checked.insert(*name);
        }
        // Of the other families with Graviton processors no values are at hand; they differ from c7g in
        // nothing that the sums are made of but their amounts.
        let families: BTreeSet<&str> = built_in()
            .types
            .keys()
            .filter(|name| !checked.contains(&***name))
            .filter_map(|name| Some(name.split_once('.')?.0))
            .collect();
        let without = ["c6g", "m6g", "m7g", "r6g", "r7g", "t4g"];
        assert_eq!(families, BTreeSet::from(without));
    }

    #[test]
    fn one_two_cpu_executor_fits_a_c5_xlarge() {
        let left = allocatable(facts("c5.xlarge"), &NodeShape::default());
        assert_eq!(left.get(CPU), 3920);
    }

    #[test]
    fn gpus_and_instance_store_count() {
        let raid = NodeShape {
            instance_store_raid0: true,
            ..NodeShape::default()
        };
        let all = capacity(facts("g4dn.xlarge"), &raid);
        assert_eq!(all.get("nvidia.com/gpu"), 1);
        assert_eq!(all.get(EPHEMERAL_STORAGE), 125_000_000_000);
        let without = capacity(facts("c5.large"), &raid);
        assert_eq!(without.get(EPHEMERAL_STORAGE), 20 * GIB);
        assert_eq!(capacity(facts("g6f.large"), &raid).get("nvidia.com/gpu"), 0);
    }

    #[test]
    fn kubelet_settings_change_pods_and_reservations() {
        let shape = NodeShape {
            max_pods: Some(110),
            pods_per_core: Some(10),
            kube_reserved: vec![(CPU.to_owned(), 0)],
            system_reserved: Resources::new().with(MEMORY, 512 * MIB),
            eviction_memory: Some(Threshold::BasisPoints(10_000)),
            eviction_disk: Some(Threshold::Bytes(3 * GIB)),
            ..NodeShape::default()
        };
        let all = capacity(facts("c5.large"), &shape);
        let kept = overhead(facts("c5.large"), &shape);
        assert_eq!(all.get(PODS), 20);
        assert_eq!(kept.get(CPU), 0);
        // The reservation follows the interfaces, not the number of pods that was set.
        assert_eq!(kept.get(MEMORY), (255 + 11 * 29 + 512) * MIB);
        assert_eq!(kept.get(EPHEMERAL_STORAGE), 4 * GIB);
        assert_eq!(
            kube_reserved_of(&kept, &all, &shape),
            kube_reserved(facts("c5.large"), &shape)
        );
    }

    #[test]
    fn no_usable_interface_means_no_pods() {
        let shape = NodeShape {
            reserved_interfaces: 3,
            ..NodeShape::default()
        };
        assert_eq!(pods(facts("c5.large"), &shape), 0);
    }
}
