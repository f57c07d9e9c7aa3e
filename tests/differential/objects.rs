//! Objects of the cluster that are not a set's own: classes that pods name, and nodes.

use serde_json::{Value, json};

use crate::generate::{DRIVER, Machine, Pool, Set, ZONES, machines};

/// What all sets share.
pub(crate) fn shared() -> Vec<Value> {
    let priority = |name: &str, value: i32| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"})
    };
    let late = |name: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": DRIVER, "volumeBindingMode": "WaitForFirstConsumer"})
    };
    let mut narrow = late("late-zone-b");
    narrow["allowedTopologies"] = json!([{"matchLabelExpressions": [
        {"key": "topology.kubernetes.io/zone", "values": ["zone-b"]}]}]);
    vec![
        priority("high", 1000),
        priority("higher", 2000),
        late("late"),
        narrow,
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "heavy"},
            "handler": "heavy", "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}}}),
    ]
}

/// The NodePools of a set and the node class, for the planner alone.
pub(crate) fn pools(set: &Set) -> Vec<Value> {
    let class = json!({"apiVersion": "tonnage.dev/v1alpha1", "kind": "EC2NodeClass",
    "metadata": {"name": "default"},
    "spec": {
        "amiSelectorTerms": [{"alias": "al2023@latest"}],
        "subnetSelectorTerms": [{"tags": {"cluster": "differential"}}],
        "securityGroupSelectorTerms": [{"tags": {"cluster": "differential"}}],
        "instanceProfile": "nodes",
    }});
    let pools = set.pools.iter().map(|pool| {
        let mut object = json!({"apiVersion": "karpenter.sh/v1", "kind": "NodePool",
            "metadata": {"name": pool.name},
            "spec": {"template": {
                "metadata": {"labels": pool.labels},
                "spec": {
                    "nodeClassRef": {"group": "tonnage.dev", "kind": "EC2NodeClass", "name": "default"},
                    "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]}],
                    "taints": pool.taints,
                },
            }}});
        if let Some(limit) = pool.node_limit {
            object["spec"]["limits"] = json!({"nodes": limit.to_string()});
        }
        object
    });
    std::iter::once(class).chain(pools).collect()
}

/// A node of a pool, and what its kubelet would say of its volumes.
pub(crate) fn node(name: &str, pool: &Pool, machine: &Machine, zone: &str) -> [Value; 2] {
    let mut labels = json!(pool.labels);
    for (key, value) in [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("node.kubernetes.io/instance-type", machine.name),
        ("topology.kubernetes.io/zone", zone),
        ("karpenter.sh/capacity-type", "on-demand"),
        ("karpenter.sh/nodepool", &pool.name),
        ("example.com/size", machine.size),
    ] {
        labels[key] = json!(value);
    }
    let storage = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name},
        "spec": {"drivers": [{"name": DRIVER, "nodeID": name,
            "topologyKeys": ["topology.kubernetes.io/zone"], "allocatable": {"count": machine.volumes}}]}});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "spec": {"taints": pool.taints},
        "status": {"capacity": machine.capacity, "allocatable": machine.capacity}});
    [storage, node]
}

/// The nodes that stand already in a set.
pub(crate) fn standing(set: &Set) -> Vec<[Value; 2]> {
    let nodes = set.standing.iter();
    nodes
        .map(|found| node(&found.name, &set.pools[0], &found.machine, found.zone))
        .collect()
}

/// The pods that run on them.
pub(crate) fn occupants(set: &Set) -> impl Iterator<Item = Value> {
    set.standing.iter().map(|found| found.occupant.clone())
}

/// One node of everything that a set may buy.
pub(crate) fn every_offering(set: &Set) -> Vec<[Value; 2]> {
    let mut nodes = Vec::new();
    for pool in &set.pools {
        for machine in machines() {
            for zone in ZONES {
                let name = format!("{}-{}-{zone}", pool.name, machine.name);
                nodes.push(node(&name, pool, &machine, zone));
            }
        }
    }
    nodes
}
