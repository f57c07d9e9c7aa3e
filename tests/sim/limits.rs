//! The limits of a NodePool, which small machines meet, and whether they are kept.

use serde_json::{Value, json};

/// The most machines.
const NODES: u64 = 2;
/// The most vCPUs: two machines of the family c5 meet it long before the memory.
const CPU: u64 = 12;
/// The most memory, GiB: two machines of the family t3 meet it before the vCPUs, or with one of c5.
const MEMORY: u64 = 32;

/// The families that the NodePool has.
pub(crate) const FAMILIES: &[&str] = &["c5", "t3"];

/// The vCPUs and the memory in GiB that EC2 says of their sizes that are within the limits.
const SIZES: [(&str, u64, u64); 9] = [
    ("c5.large", 2, 4),
    ("c5.xlarge", 4, 8),
    ("c5.2xlarge", 8, 16),
    ("t3.micro", 2, 1),
    ("t3.small", 2, 2),
    ("t3.medium", 2, 4),
    ("t3.large", 2, 8),
    ("t3.xlarge", 4, 16),
    ("t3.2xlarge", 8, 32),
];

/// What the NodePool says.
pub(crate) fn of_pool() -> Value {
    json!({ "cpu": CPU.to_string(), "memory": format!("{MEMORY}Gi"), "nodes": NODES.to_string() })
}

/// The limits that the claims of the NodePool exceed, by their types; a claim without a machine has none yet. A size
/// that is not known exceeds them by itself.
pub(crate) fn exceeded<'claim>(types: impl Iterator<Item = &'claim str>) -> Vec<String> {
    let (mut nodes, mut cpu, mut memory) = (0, 0, 0);
    for name in types {
        nodes += 1;
        let (vcpus, gib) = match SIZES.iter().find(|(size, ..)| *size == name) {
            Some((_size, vcpus, gib)) => (*vcpus, *gib),
            None if name.is_empty() => (0, 0),
            None => (CPU + 1, 2 * MEMORY),
        };
        cpu += vcpus;
        // A tenth of what EC2 says may never reach the machine's kernel; what does counts.
        memory += gib * 9;
    }
    let checks = [
        ("claims", nodes, NODES),
        ("vCPUs", cpu, CPU),
        ("tenths of GiB", memory, MEMORY * 10),
    ];
    let over = checks.into_iter().filter(|(_what, has, limit)| has > limit);
    over.map(|(what, has, limit)| format!("{has} {what}, its limit is {limit}"))
        .collect()
}
