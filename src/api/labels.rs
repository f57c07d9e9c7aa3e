//! Every label, annotation, taint and finalizer key that Tonnage reads or writes.
//!
//! The keys of `karpenter.sh` and `karpenter.k8s.aws` are those of the shared API, so that no
//! workload changes; the keys of `tonnage.dev` are ours. Nothing here reads an object.

/// API group of Tonnage's own kinds, and the domain of its own keys.
pub const TONNAGE_GROUP: &str = "tonnage.dev";
/// API group of the shared kinds, and the domain of the shared keys.
pub const KARPENTER_GROUP: &str = "karpenter.sh";
/// Domain of the labels that describe an EC2 instance type.
pub const INSTANCE_DOMAIN: &str = "karpenter.k8s.aws";
/// Kind of Tonnage's node class.
pub const EC2_NODE_CLASS_KIND: &str = "EC2NodeClass";

// Labels of Nodes and NodeClaims.

/// Name of the NodePool a node belongs to.
pub const NODE_POOL: &str = "karpenter.sh/nodepool";
/// How the machine is paid for: `spot`, `on-demand` or `reserved`.
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// `true` on a Node once it is bound to its NodeClaim.
pub const REGISTERED: &str = "karpenter.sh/registered";
/// `true` on a Node once pods can use all of it; dropped while it reboots.
pub const INITIALIZED: &str = "karpenter.sh/initialized";
/// `true` on a Node whose bootstrap has set its taints already: registration leaves them alone.
pub const DO_NOT_SYNC_TAINTS: &str = "karpenter.sh/do-not-sync-taints";
/// Name of the EC2NodeClass a node was made with: `<group>/<lower-case kind>`.
pub const NODE_CLASS: &str = "tonnage.dev/ec2nodeclass";
/// Availability zone, for example `us-east-1a`.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Region, for example `us-east-1`.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Availability zone ID, the same physical zone in every account, for example `use1-az1`.
pub const ZONE_ID: &str = "topology.k8s.aws/zone-id";
/// Instance type, for example `c5.xlarge`.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
/// `amd64` or `arm64`.
pub const ARCH: &str = "kubernetes.io/arch";
/// `linux` (or `windows`).
pub const OS: &str = "kubernetes.io/os";
/// Build number of Windows nodes.
pub const WINDOWS_BUILD: &str = "node.kubernetes.io/windows-build";
/// A Namespace's own name, which every API server writes onto it.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// A Node's own name; never a requirement.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Takes a draining Node out of load balancers; the value is `karpenter`.
pub const EXCLUDE_FROM_LOAD_BALANCERS: &str =
    "node.kubernetes.io/exclude-from-external-load-balancers";
/// The value [`EXCLUDE_FROM_LOAD_BALANCERS`] gets from a provisioner.
pub const EXCLUDE_FROM_LOAD_BALANCERS_VALUE: &str = "karpenter";
/// Zone label that the EBS CSI driver uses in pod and volume terms; means [`ZONE`].
pub const EBS_CSI_ZONE: &str = "topology.ebs.csi.aws.com/zone";

// Labels that describe an EC2 instance type.

/// Leading letters of the type: `c`, `m`, `g`, `inf`.
pub const INSTANCE_CATEGORY: &str = "karpenter.k8s.aws/instance-category";
/// Number of the generation: `5` for `c5`.
pub const INSTANCE_GENERATION: &str = "karpenter.k8s.aws/instance-generation";
/// Part before the dot: `c5d`.
pub const INSTANCE_FAMILY: &str = "karpenter.k8s.aws/instance-family";
/// Part after the dot: `4xlarge`.
pub const INSTANCE_SIZE: &str = "karpenter.k8s.aws/instance-size";
/// `true` for `-flex` families.
pub const INSTANCE_CAPABILITY_FLEX: &str = "karpenter.k8s.aws/instance-capability-flex";
/// Number of vCPUs.
pub const INSTANCE_CPU: &str = "karpenter.k8s.aws/instance-cpu";
/// `intel`, `amd` or `aws`.
pub const INSTANCE_CPU_MANUFACTURER: &str = "karpenter.k8s.aws/instance-cpu-manufacturer";
/// Sustained clock speed in MHz.
pub const INSTANCE_CPU_SUSTAINED_CLOCK_SPEED_MHZ: &str =
    "karpenter.k8s.aws/instance-cpu-sustained-clock-speed-mhz";
/// Memory in MiB, before any overhead.
pub const INSTANCE_MEMORY: &str = "karpenter.k8s.aws/instance-memory";
/// Greatest EBS bandwidth in Mbit/s.
pub const INSTANCE_EBS_BANDWIDTH: &str = "karpenter.k8s.aws/instance-ebs-bandwidth";
/// Baseline network bandwidth in Mbit/s.
pub const INSTANCE_NETWORK_BANDWIDTH: &str = "karpenter.k8s.aws/instance-network-bandwidth";
/// `nitro` or `xen`; empty for metal.
pub const INSTANCE_HYPERVISOR: &str = "karpenter.k8s.aws/instance-hypervisor";
/// `true` where traffic between instances is encrypted by the network card.
pub const INSTANCE_ENCRYPTION_IN_TRANSIT_SUPPORTED: &str =
    "karpenter.k8s.aws/instance-encryption-in-transit-supported";
/// Size of the local NVMe disks in GB (powers of ten).
pub const INSTANCE_LOCAL_NVME: &str = "karpenter.k8s.aws/instance-local-nvme";
/// GPU model: `t4`, `a10g`.
pub const INSTANCE_GPU_NAME: &str = "karpenter.k8s.aws/instance-gpu-name";
/// GPU manufacturer: `nvidia`, `amd`, `habana`.
pub const INSTANCE_GPU_MANUFACTURER: &str = "karpenter.k8s.aws/instance-gpu-manufacturer";
/// Number of GPUs.
pub const INSTANCE_GPU_COUNT: &str = "karpenter.k8s.aws/instance-gpu-count";
/// Memory of one GPU in MiB.
pub const INSTANCE_GPU_MEMORY: &str = "karpenter.k8s.aws/instance-gpu-memory";
/// Accelerator model: `inferentia2`.
pub const INSTANCE_ACCELERATOR_NAME: &str = "karpenter.k8s.aws/instance-accelerator-name";
/// Accelerator manufacturer: `aws`.
pub const INSTANCE_ACCELERATOR_MANUFACTURER: &str =
    "karpenter.k8s.aws/instance-accelerator-manufacturer";
/// Number of accelerators.
pub const INSTANCE_ACCELERATOR_COUNT: &str = "karpenter.k8s.aws/instance-accelerator-count";
/// `default` or `dedicated`.
pub const INSTANCE_TENANCY: &str = "karpenter.k8s.aws/instance-tenancy";
/// Capacity reservation a node runs in: `cr-…`.
pub const CAPACITY_RESERVATION_ID: &str = "karpenter.k8s.aws/capacity-reservation-id";
/// `default` or `capacity-block`.
pub const CAPACITY_RESERVATION_TYPE: &str = "karpenter.k8s.aws/capacity-reservation-type";
/// Whether EC2 may take the reserved instance back.
pub const CAPACITY_RESERVATION_INTERRUPTIBLE: &str =
    "karpenter.k8s.aws/capacity-reservation-interruptible";
/// Placement group a node runs in: `pg-…`.
pub const PLACEMENT_GROUP_ID: &str = "karpenter.k8s.aws/placement-group-id";
/// Partition of the placement group, from `1`.
pub const PLACEMENT_GROUP_PARTITION: &str = "karpenter.k8s.aws/placement-group-partition";

// Annotations.

/// On pods `true` or a positive duration from the pod's start; on Nodes and NodeClaims only `true`:
/// no voluntary disruption.
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// On Nodes and NodeClaims, `true`: no repair.
pub const DO_NOT_REPAIR: &str = "karpenter.sh/do-not-repair";
/// On pods, an int32: what evicting this pod costs; wins over [`POD_DELETION_COST`].
pub const DISRUPTION_COST: &str = "karpenter.sh/disruption-cost";
/// On pods, an int32: what evicting this pod costs.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// On NodeClaims: how long a reboot may drain; absent means without end, `0s` means no drain.
pub const REBOOT_TERMINATION_GRACE_PERIOD: &str = "karpenter.sh/reboot-termination-grace-period";
/// On NodeClaims: the Node's boot ID before a reboot in progress.
pub const REBOOT_PRE_BOOT_ID: &str = "karpenter.sh/reboot-pre-boot-id";
/// Hash of a NodePool's template, on the NodePool and on what was made from it.
pub const NODE_POOL_HASH: &str = "karpenter.sh/nodepool-hash";
/// How [`NODE_POOL_HASH`] was computed; hashes of different versions are not compared.
pub const NODE_POOL_HASH_VERSION: &str = "karpenter.sh/nodepool-hash-version";
/// Hash of an EC2NodeClass's spec, on the EC2NodeClass and on the NodeClaims made with it.
pub const NODE_CLASS_HASH: &str = "tonnage.dev/ec2nodeclass-hash";
/// How [`NODE_CLASS_HASH`] was computed; hashes of different versions are not compared.
pub const NODE_CLASS_HASH_VERSION: &str = "tonnage.dev/ec2nodeclass-hash-version";
/// On NodeClaims: when EC2 stops, restarts or retires the machine for maintenance, RFC 3339.
pub const MAINTENANCE: &str = "tonnage.dev/maintenance";
/// On NodeClaims in a capacity block: when the block ends, RFC 3339, as it was known when the claim was made.
pub const CAPACITY_BLOCK_END: &str = "tonnage.dev/capacity-block-end";
/// On NodeClaims: when the drain is over at the latest, RFC 3339.
pub const TERMINATION_TIMESTAMP: &str = "karpenter.sh/nodeclaim-termination-timestamp";
/// On NodeClaims, `true` or `false`: whether `minValues` was lowered to make the launch possible.
pub const MIN_VALUES_RELAXED: &str = "karpenter.sh/nodeclaim-min-values-relaxed";
/// On NodeClaims: the DRA drivers that initialization waits for, separated by commas.
pub const REQUESTED_DRA_DRIVERS: &str = "karpenter.sh/requested-dra-drivers";
/// On NodeClaims, `true`: a NodeOverlay changed the price.
pub const PRICE_OVERLAY_APPLIED: &str = "karpenter.sh/price-overlay-applied";
/// On NodeClaims, `true`: a NodeOverlay changed the capacity.
pub const CAPACITY_OVERLAY_APPLIED: &str = "karpenter.sh/capacity-overlay-applied";
/// Marks the virtual pods of a CapacityBuffer.
pub const CAPACITY_BUFFER_FAKE_POD: &str = "karpenter.sh/capacity-buffer-fake-pod";
/// Name of the CapacityBuffer a virtual pod stands for.
pub const CAPACITY_BUFFER_NAME: &str = "karpenter.sh/capacity-buffer-name";
/// Namespace of the CapacityBuffer a virtual pod stands for.
pub const CAPACITY_BUFFER_NAMESPACE: &str = "karpenter.sh/capacity-buffer-namespace";
/// On PersistentVolumeClaims, set by Kubernetes once the binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On NodePools, `true` or `false`: makes, removes and replaces no node of this pool.
pub const PAUSED: &str = "tonnage.dev/paused";
/// On NodeClaims: what may be bought, best first, entries `TYPE/ZONE/CAPACITY-TYPE` separated by
/// commas.
pub const OFFERINGS: &str = "tonnage.dev/offerings";
/// On NodeClaims: the launch that was decided, as JSON, written before EC2 is called.
pub const LAUNCH: &str = "tonnage.dev/launch";

// The ConfigMap of what was learned.

/// The label that marks it.
pub const LEARNED: &str = "tonnage.dev/learned";
/// Its entry with what is believed short of capacity.
pub const LEARNED_SHORTAGES: &str = "shortages.json";
/// Its entry with how often machines were taken back.
pub const LEARNED_HAZARDS: &str = "interruptions.json";
/// Its entry with when launch templates were used.
pub const LEARNED_TEMPLATES: &str = "templates.json";
/// Its entry with the memory that Nodes reported.
pub const LEARNED_MEMORY: &str = "memory.json";
/// Its entry of instance types whose machines do not join.
pub const LEARNED_NO_SHOWS: &str = "no-shows.json";
/// Its entry of what was seen without an owner.
pub const LEARNED_ORPHANS: &str = "orphans.json";

// Finalizers.

/// On NodeClaims and Nodes: nothing is forgotten before its machine is gone.
pub const TERMINATION_FINALIZER: &str = "karpenter.sh/termination";
/// On EC2NodeClasses: what was made in EC2 for the class is removed before it goes.
pub const NODE_CLASS_FINALIZER: &str = "tonnage.dev/termination";

// Taints.

/// `NoExecute` from the first boot until the Node is bound to its NodeClaim; `NoSchedule` for the last second
/// where the Node is ready by then.
pub const UNREGISTERED_TAINT: &str = "karpenter.sh/unregistered";
/// `NoSchedule` on a Node that is going away.
pub const DISRUPTED_TAINT: &str = "karpenter.sh/disrupted";
/// `NoSchedule` on a Node that is being rebooted.
pub const REBOOTING_TAINT: &str = "karpenter.sh/rebooting";
/// Set by Kubernetes while a Node is not ready.
pub const NOT_READY_TAINT: &str = "node.kubernetes.io/not-ready";
/// Set by Kubernetes while a Node does not answer.
pub const UNREACHABLE_TAINT: &str = "node.kubernetes.io/unreachable";
/// `NoSchedule` until the network of a Node is set up.
pub const NETWORK_UNAVAILABLE_TAINT: &str = "node.kubernetes.io/network-unavailable";
/// `true:NoSchedule` until the cloud controller manager has seen the Node.
pub const UNINITIALIZED_TAINT: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Prefix of the taints of the Node Readiness Controller, all ephemeral.
pub const READINESS_TAINT_PREFIX: &str = "readiness.k8s.io/";

/// Labels that a template need not define for pods to select them: each machine brings its own.
pub const WELL_KNOWN: &[&str] = &[
    NODE_POOL,
    NODE_CLASS,
    CAPACITY_TYPE,
    ZONE,
    REGION,
    ZONE_ID,
    INSTANCE_TYPE,
    ARCH,
    OS,
    WINDOWS_BUILD,
    INSTANCE_CATEGORY,
    INSTANCE_GENERATION,
    INSTANCE_FAMILY,
    INSTANCE_SIZE,
    INSTANCE_CAPABILITY_FLEX,
    INSTANCE_CPU,
    INSTANCE_CPU_MANUFACTURER,
    INSTANCE_CPU_SUSTAINED_CLOCK_SPEED_MHZ,
    INSTANCE_MEMORY,
    INSTANCE_EBS_BANDWIDTH,
    INSTANCE_NETWORK_BANDWIDTH,
    INSTANCE_HYPERVISOR,
    INSTANCE_ENCRYPTION_IN_TRANSIT_SUPPORTED,
    INSTANCE_LOCAL_NVME,
    INSTANCE_GPU_NAME,
    INSTANCE_GPU_MANUFACTURER,
    INSTANCE_GPU_COUNT,
    INSTANCE_GPU_MEMORY,
    INSTANCE_ACCELERATOR_NAME,
    INSTANCE_ACCELERATOR_MANUFACTURER,
    INSTANCE_ACCELERATOR_COUNT,
    INSTANCE_TENANCY,
    CAPACITY_RESERVATION_ID,
    CAPACITY_RESERVATION_TYPE,
    CAPACITY_RESERVATION_INTERRUPTIBLE,
    PLACEMENT_GROUP_ID,
    PLACEMENT_GROUP_PARTITION,
];

/// Domains in which users may not invent keys; subdomains count.
const RESTRICTED_DOMAINS: &[&str] = &[KARPENTER_GROUP, INSTANCE_DOMAIN, TONNAGE_GROUP];

/// The current key for an old or driver-specific one: `beta.kubernetes.io/arch` is
/// `kubernetes.io/arch`. Every other key is its own.
pub fn normalize(key: &str) -> &str {
    match key {
        "failure-domain.beta.kubernetes.io/zone" | EBS_CSI_ZONE => ZONE,
        "failure-domain.beta.kubernetes.io/region" => REGION,
        "beta.kubernetes.io/arch" => ARCH,
        "beta.kubernetes.io/os" => OS,
        "beta.kubernetes.io/instance-type" => INSTANCE_TYPE,
        other => other,
    }
}

/// Whether every machine brings its own value of this label.
pub fn is_well_known(key: &str) -> bool {
    WELL_KNOWN.contains(&key)
}

/// Whether users may not use this key in templates, node selectors and node affinity: the host name,
/// and keys of the provisioner's domains that it does not define.
pub fn is_restricted(key: &str) -> bool {
    key == HOSTNAME || (!is_well_known(key) && in_restricted_domain(key))
}

fn in_restricted_domain(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    RESTRICTED_DOMAINS.iter().any(|restricted| {
        domain
            .strip_suffix(restricted)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_our_domains_are_restricted_unless_defined() {
        for key in [
            "karpenter.sh/foo",
            "a.karpenter.sh/foo",
            "karpenter.k8s.aws/instance-cpus",
            "tonnage.dev/x",
            HOSTNAME,
        ] {
            assert!(is_restricted(key), "{key}");
        }
        for key in [
            "mykarpenter.sh/foo",
            "karpenter.sh",
            "team",
            "example.com/team",
            CAPACITY_TYPE,
            INSTANCE_CPU,
        ] {
            assert!(!is_restricted(key), "{key}");
        }
    }

    #[test]
    fn old_keys_mean_the_current_ones() {
        assert_eq!(normalize("beta.kubernetes.io/instance-type"), INSTANCE_TYPE);
        assert_eq!(normalize("example.com/team"), "example.com/team");
    }
}
