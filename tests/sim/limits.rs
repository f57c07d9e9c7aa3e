//! The limits of a NodePool, which small machines meet, and whether they are kept.

use serde_json::{Value, json};
use tonnage::world::RandomStream;

/// The families that the NodePool has.
pub(crate) const FAMILIES: &[&str] = &["c5", "t3"];

/// The most that a NodePool may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Machines.
    nodes: u64,
    /// vCPUs: two machines of the family c5 meet the least of them long before the memory.
    cpu: u64,
    /// Memory, GiB: two machines of the family t3 meet the least of it before the vCPUs, or with one of c5.
    memory: u64,
}

/// The least that the jobs of the NodePool get through with in time.
const LEAST: Limits = Limits {
    nodes: 2,
    cpu: 12,
    memory: 32,
};
/// With one vCPU more a size would fit that [`SIZES`] does not have.
const MOST_CPU: u64 = 15;

/// The vCPUs and the memory in GiB that EC2 says of the sizes of [`FAMILIES`] that are within any limits.
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

impl Limits {
    /// Those of one world: every second has the least, as that is met most.
    pub(crate) fn draw(dice: &RandomStream) -> Self {
        if dice.below(2) == 0 {
            return LEAST;
        }
        Self {
            nodes: LEAST.nodes + dice.below(2),
            cpu: LEAST.cpu + dice.below(2),
            memory: LEAST.memory + 8 * dice.below(3),
        }
    }

    /// Higher ones.
    pub(crate) fn raised(self, dice: &RandomStream) -> Self {
        Self {
            nodes: self.nodes + 1,
            cpu: MOST_CPU.min(self.cpu + 1 + dice.below(2)),
            memory: self.memory + 8 * (1 + dice.below(2)),
        }
    }

    /// What the NodePool says.
    pub(crate) fn manifest(self) -> Value {
        json!({
            "cpu": self.cpu.to_string(),
            "memory": format!("{}Gi", self.memory),
            "nodes": self.nodes.to_string(),
        })
    }

    /// Those that the claims of the NodePool exceed, by their types; a claim without a machine has none yet. A size
    /// that is not known exceeds them by itself.
    pub(crate) fn exceeded<'claim>(self, types: impl Iterator<Item = &'claim str>) -> Vec<String> {
        let (mut nodes, mut cpu, mut memory) = (0, 0, 0);
        for name in types {
            nodes += 1;
            let (vcpus, gib) = match SIZES.iter().find(|(size, ..)| *size == name) {
                Some((_size, vcpus, gib)) => (*vcpus, *gib),
                None if name.is_empty() => (0, 0),
                None => (self.cpu + 1, 2 * self.memory),
            };
            cpu += vcpus;
            // A tenth of what EC2 says may never reach the machine's kernel; what does counts.
            memory += gib * 9;
        }
        let checks = [
            ("claims", nodes, self.nodes),
            ("vCPUs", cpu, self.cpu),
            ("tenths of GiB", memory, self.memory * 10),
        ];
        let over = checks.into_iter().filter(|(_what, has, limit)| has > limit);
        over.map(|(what, has, limit)| format!("{has} {what}, its limit is {limit}"))
            .collect()
    }
}
