//! What is known of instance types: one plain record each, and the dated table that ships with the
//! binary.
//!
//! Given: the built-in table, or whatever an adapter read from EC2. Given back: [`InstanceFacts`]
//! and, for the built-in table, zones and on-demand prices of us-east-1. Nothing here depends on a
//! node class; what a node of a type offers under one is `capacity`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use crate::model::money::UsdPerHour;
use crate::model::node_class::Accelerator;
use crate::model::placement_group::Strategy;

/// A processor architecture in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// The value of the label `kubernetes.io/arch`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Reads Kubernetes' word or EC2's (`x86_64`).
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "amd64" | "x86_64" => Some(Self::Amd64),
            "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// GPUs of one model in an instance type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// How many; 0 for a fraction of one.
    pub count: u32,
    /// Lower-case with dashes, for example `t4`.
    pub name: String,
    /// Lower-case: `nvidia`, `amd`, `habana`.
    pub manufacturer: String,
    /// Memory of one, MiB.
    pub memory_mib: u32,
}

/// Neuron accelerators of one model in an instance type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neuron {
    /// Devices.
    pub count: u32,
    /// Cores of one device.
    pub cores: u32,
    /// Lower-case with dashes, for example `inferentia2`.
    pub name: String,
}

/// What counts against the limit of attached volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentLimit {
    /// Network interfaces beyond the first take the place of volumes.
    Shared,
    /// Volumes alone.
    Dedicated,
}

impl AttachmentLimit {
    /// The limit, which is for volumes alone or not.
    pub const fn of(is_dedicated: bool) -> Self {
        if is_dedicated {
            Self::Dedicated
        } else {
            Self::Shared
        }
    }
}

/// An instance type as EC2 describes it, in plain units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFacts {
    /// For example `c5.2xlarge`.
    pub name: Arc<str>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory as advertised, MiB.
    pub memory_mib: u64,
    /// First supported architecture.
    pub architecture: Architecture,
    /// Lower-case with dashes: `intel`, `amd`, `aws`.
    pub cpu_manufacturer: String,
    /// Sustained clock, MHz; 0 when EC2 does not say.
    pub clock_mhz: u32,
    /// `nitro`, `xen`, or empty for bare metal.
    pub hypervisor: String,
    /// Without hypervisor.
    pub bare_metal: bool,
    /// GPUs by model.
    pub gpus: Vec<Gpu>,
    /// Neuron accelerators by model.
    pub neurons: Vec<Neuron>,
    /// NVMe instance store in all, decimal GB; 0 when there is none.
    pub local_nvme_gb: u64,
    /// Network interfaces of the default card.
    pub interfaces: u32,
    /// Network interfaces that each card has room for, by the card's index.
    pub cards: Vec<u32>,
    /// IPv4 addresses of one interface.
    pub addresses_per_interface: u32,
    /// Branch interfaces for security groups per pod; 0 without trunking or when unknown.
    pub branch_interfaces: u32,
    /// EFA interfaces at most.
    pub efa_interfaces: u32,
    /// The placement groups that take it.
    pub placement: BTreeSet<Strategy>,
    /// What a class may switch on.
    pub features: BTreeSet<Feature>,
    /// Sustained network bandwidth, Mbps; 0 when AWS gives only a vague rating.
    pub network_mbps: u32,
    /// EBS bandwidth at most, Mbps; 0 when not optimized by default.
    pub ebs_mbps: u32,
    /// Volumes that may be attached, the root volume included; `None` when EC2 does not say.
    pub volume_attachments: Option<u32>,
    /// What else takes the place of volumes.
    pub attachment_limit: AttachmentLimit,
    /// Traffic between instances is encrypted by the hardware; `None` when unknown.
    pub encrypted_in_transit: Option<bool>,
    /// May be bought on demand.
    pub on_demand: bool,
    /// May be bought as spot.
    pub spot: bool,
}

impl InstanceFacts {
    /// What an image needs drivers for. A fraction of a GPU needs them as a whole one does.
    pub fn accelerator(&self) -> Accelerator {
        let made_by =
            |manufacturer: &str| self.gpus.iter().any(|gpu| gpu.manufacturer == manufacturer);
        if made_by("nvidia") {
            Accelerator::Nvidia
        } else if !self.neurons.is_empty() {
            Accelerator::Neuron
        } else if self.gpus.is_empty() {
            Accelerator::None
        } else {
            Accelerator::Other
        }
    }
}

/// What only some types can do, and a node class may switch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Nitro Enclaves.
    Enclaves,
    /// Virtual machines within the machine.
    NestedVirtualization,
}

/// The table that ships with the binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltInTable {
    /// Types by name.
    pub types: BTreeMap<Arc<str>, Arc<InstanceFacts>>,
    /// Zones of us-east-1 that offer a type.
    pub zones: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// On-demand prices in us-east-1.
    pub on_demand: BTreeMap<Arc<str>, UsdPerHour>,
}

/// The region of the built-in prices and zones.
pub const BUILT_IN_REGION: &str = "us-east-1";
/// When the built-in prices were published.
pub const BUILT_IN_PRICED_AT: &str = "2026-07-20T13:44:30Z";

/// A line of a table that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the instance type table: {problem}")]
pub struct TableError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// The built-in table.
pub fn built_in() -> &'static BuiltInTable {
    static TABLE: LazyLock<BuiltInTable> = LazyLock::new(|| {
        parse_table(include_str!("data/instance-types.csv"))
            .expect("the table ships with the binary and a test reads it")
    });
    &TABLE
}

/// Reads a table in the form of the built-in one.
pub fn parse_table(text: &str) -> Result<BuiltInTable, TableError> {
    let mut table = BuiltInTable {
        types: BTreeMap::new(),
        zones: BTreeMap::new(),
        on_demand: BTreeMap::new(),
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_index, line)| !line.is_empty() && !line.starts_with('#'))
        .skip(1);
    for (index, line) in lines {
        let row = Row::new(line)
            .and_then(|row| read_row(&row))
            .map_err(|problem| TableError {
                line: index + 1,
                problem,
            })?;
        let name = Arc::clone(&row.facts.name);
        table.zones.insert(Arc::clone(&name), row.zones);
        table.on_demand.insert(Arc::clone(&name), row.price);
        table.types.insert(name, Arc::new(row.facts));
    }
    Ok(table)
}

const COLUMNS: usize = 23;

struct Row<'line>(Vec<&'line str>);

impl<'line> Row<'line> {
    fn new(line: &'line str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() == COLUMNS {
            Ok(Self(fields))
        } else {
            Err(format!("{} columns, {COLUMNS} expected", fields.len()))
        }
    }

    fn text(&self, column: usize) -> &'line str {
        self.0.get(column).copied().unwrap_or("")
    }

    fn number(&self, column: usize) -> Result<u32, String> {
        let text = self.text(column);
        text.parse()
            .map_err(|error| format!("column {}: `{text}`: {error}", column + 1))
    }

    fn flag(&self, column: usize) -> Option<bool> {
        match self.text(column) {
            "y" => Some(true),
            "n" => Some(false),
            _ => None,
        }
    }
}

struct TypeRow {
    facts: InstanceFacts,
    zones: BTreeSet<Arc<str>>,
    price: UsdPerHour,
}

/// The table does not say which limits on volumes are for volumes alone: those from here on, as shared ones are 28 at most,
/// and 31 on bare metal. Source: "Amazon EBS volume limits for Amazon EC2 instances" in the EC2 user guide.
const LEAST_DEDICATED: u32 = 32;

/// Burstable types are not in cluster placement groups. Source: "Placement groups" in the EC2 user guide.
fn is_burstable(name: &str) -> bool {
    name.starts_with('t')
        && name
            .chars()
            .nth(1)
            .is_some_and(|second| second.is_ascii_digit())
}

/// Families on Nitro without enclaves. Source: "Requirements" in the AWS Nitro Enclaves user guide.
const WITHOUT_ENCLAVES: [&str; 5] = ["c7i", "g4ad", "m7i", "r7i", "r7iz"];
/// Families with virtual machines within. Source: "Nested virtualization" in the EC2 user guide.
const WITH_NESTED_VIRTUALIZATION: [&str; 3] = ["c8i", "m8i", "r8i"];

/// What the table takes a type to be able to, on the safe side: of families with exceptions none.
fn features(facts: &InstanceFacts) -> BTreeSet<Feature> {
    let family = facts.name.split('.').next().unwrap_or_default();
    let on_nitro = facts.hypervisor == "nitro" && !facts.bare_metal;
    let with_enclaves = on_nitro
        && facts.architecture == Architecture::Amd64
        && facts.vcpus >= 4
        && !is_burstable(&facts.name)
        && !WITHOUT_ENCLAVES.contains(&family);
    let nested = on_nitro && WITH_NESTED_VIRTUALIZATION.contains(&family);
    [
        (Feature::Enclaves, with_enclaves),
        (Feature::NestedVirtualization, nested),
    ]
    .into_iter()
    .filter(|(_feature, has)| *has)
    .map(|(feature, _has)| feature)
    .collect()
}

fn read_row(row: &Row<'_>) -> Result<TypeRow, String> {
    let gpus = if row.text(8).is_empty() {
        Vec::new()
    } else {
        vec![Gpu {
            count: row.number(8)?,
            name: row.text(9).to_owned(),
            manufacturer: row.text(10).to_owned(),
            memory_mib: row.number(11)?,
        }]
    };
    let volume_attachments = match row.text(19) {
        "" => None,
        _ => Some(row.number(19)?),
    };
    let interfaces = row.number(13)?;
    let efa_interfaces = row.number(16)?;
    // The table does not count cards: a type with several EFA interfaces has a card for each.
    let cards = usize::try_from(efa_interfaces.max(1)).unwrap_or(1);
    let mut facts = InstanceFacts {
        features: BTreeSet::new(),
        name: row.text(0).into(),
        vcpus: row.number(1)?,
        memory_mib: u64::from(row.number(2)?),
        architecture: Architecture::parse(row.text(3))
            .ok_or_else(|| format!("column 4: `{}` is no architecture", row.text(3)))?,
        cpu_manufacturer: row.text(4).to_owned(),
        clock_mhz: row.number(5)?,
        hypervisor: row.text(6).to_owned(),
        bare_metal: row.flag(7).unwrap_or(false),
        gpus,
        neurons: Vec::new(),
        local_nvme_gb: u64::from(row.number(12)?),
        interfaces,
        cards: vec![interfaces; cards],
        addresses_per_interface: row.number(14)?,
        branch_interfaces: row.number(15)?,
        efa_interfaces,
        placement: Strategy::ALL
            .into_iter()
            .filter(|strategy| *strategy != Strategy::Cluster || !is_burstable(row.text(0)))
            .collect(),
        network_mbps: row.number(17)?,
        ebs_mbps: row.number(18)?,
        volume_attachments,
        attachment_limit: AttachmentLimit::of(
            volume_attachments.is_some_and(|most| most >= LEAST_DEDICATED),
        ),
        encrypted_in_transit: row.flag(20),
        on_demand: true,
        spot: true,
    };
    facts.features = features(&facts);
    let zones = row
        .text(21)
        .chars()
        .filter(char::is_ascii_lowercase)
        .map(|letter| Arc::from(format!("{BUILT_IN_REGION}{letter}")))
        .collect();
    let price = UsdPerHour::parse(row.text(22)).map_err(|error| error.to_string())?;
    Ok(TypeRow {
        facts,
        zones,
        price,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_table_reads_and_knows_the_usual_types() {
        let table = built_in();
        assert_eq!(table.types.len(), 382);
        let large = &table.types["c5.xlarge"];
        assert_eq!((large.vcpus, large.memory_mib), (4, 8192));
        assert_eq!(table.on_demand["c5.xlarge"].to_string(), "0.170");
        assert_eq!(table.on_demand["p4d.24xlarge"].to_string(), "21.957642");
        let gpu = table.types["g4dn.xlarge"].gpus.first().unwrap();
        assert_eq!((gpu.count, gpu.name.as_str()), (1, "t4"));
        let graviton = &table.types["m7g.xlarge"];
        assert_eq!(graviton.architecture, Architecture::Arm64);
        assert_eq!((graviton.vcpus, graviton.memory_mib), (4, 16_384));
        assert_eq!(table.on_demand["m7g.xlarge"].to_string(), "0.1632");
        assert!(table.zones["c5.xlarge"].contains("us-east-1a"));
        assert!(!table.zones["c5.xlarge"].contains("us-east-1e"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse_table("header\nc5.large,2\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2 of the instance type table: 2 columns, 23 expected"
        );
    }
}
