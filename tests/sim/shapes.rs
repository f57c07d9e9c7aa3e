//! What the pods of workloads ask for: processors, memory, a priority, time to end, and where they may be.
//!
//! Every shape can run in every world as long as no shortage lasts: its zone has machines of every family, on-demand as
//! well as spot, each family has sizes that hold it, and those that keep apart are few. Pods for the NodePool with
//! limits are small and may be anywhere: it has few machines, and all of its jobs must get through them in time.

use std::fmt;

use serde_json::{Value, json};
use tonnage::api::labels;
use tonnage::world::RandomStream;

use crate::furniture::FAMILIES;

/// The most pods of a workload whose pods mind where the others are.
pub(crate) const FEW: u32 = 4;
/// The most pods of any other, and of those for the NodePool with limits.
const MANY: u64 = 12;
const LIMITED: u64 = 10;

/// What pods ask for of processors, and the same in thousandths.
const CPUS: [(&str, u32); 5] = [
    ("250m", 250),
    ("500m", 500),
    ("1", 1_000),
    ("2", 2_000),
    ("3", 3_000),
];
/// GiB of memory for each processor: as machines of the families c5 and m5 have it, less, and in between.
const RATIOS: [u32; 4] = [1, 2, 3, 4];
/// Memory of pods for the NodePool with limits, MiB.
const LIMITED_MEMORY: [u32; 2] = [512, 1_024];
const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
/// PriorityClasses, and the value that admission reads off them.
const PRIORITIES: [(&str, i32); 2] = [("important", 100), ("urgent", 1_000)];
/// The time to end of pods that take longer than others, seconds: less than EC2's notice leaves.
const LONG_GRACE: u32 = 90;

/// What each pod of a workload asks for.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) pods: u32,
    pub(crate) cpu: &'static str,
    /// MiB.
    memory: u32,
    priority: Option<(&'static str, i32)>,
    /// Seconds that they have to end, where they say it.
    pub(crate) grace: Option<u32>,
    place: Place,
}

/// Where the pods of a workload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    Zone(&'static str),
    Family(&'static str),
    Architecture,
    /// As many in one zone as in another, but for one.
    SpreadOverZones,
    /// Each on a Node of its own.
    Apart,
    /// All in one zone.
    Together,
}

impl Place {
    fn draw(dice: &RandomStream) -> Self {
        match dice.below(16) {
            0 => {
                let zone = one_of(&ZONES, dice).copied();
                zone.map_or(Self::Anywhere, Self::Zone)
            }
            1 => {
                let family = one_of(&FAMILIES, dice).copied();
                family.map_or(Self::Anywhere, Self::Family)
            }
            2 => Self::Architecture,
            3 | 4 => Self::SpreadOverZones,
            5 => Self::Apart,
            6 => Self::Together,
            _ => Self::Anywhere,
        }
    }

    /// Whether its pods mind where the others are.
    const fn is_coupled(self) -> bool {
        matches!(self, Self::SpreadOverZones | Self::Apart | Self::Together)
    }
}

/// One of them, as the dice have it.
pub(crate) fn one_of<'all, T>(all: &'all [T], dice: &RandomStream) -> Option<&'all T> {
    let index = usize::try_from(dice.below(all.len() as u64)).ok()?;
    all.get(index)
}

/// One of them, each as often as its weight has it against the others'.
pub(crate) fn weighted<T: Copy>(all: &[(T, u64)], dice: &RandomStream) -> Option<T> {
    let mut draw = dice.below(all.iter().map(|(_one, weight)| weight).sum());
    for (one, weight) in all {
        if draw < *weight {
            return Some(*one);
        }
        draw -= weight;
    }
    None
}

impl Shape {
    /// The shape of one workload.
    pub(crate) fn draw(limited: bool, dice: &RandomStream) -> Self {
        let (cpu, millis) = one_of(&CPUS, dice).copied().unwrap_or(("1", 1_000));
        let place = if limited {
            Place::Anywhere
        } else {
            Place::draw(dice)
        };
        let ratio = one_of(&RATIOS, dice).copied().unwrap_or(1);
        let memory = if limited {
            one_of(&LIMITED_MEMORY, dice).copied().unwrap_or(1_024)
        } else {
            ratio * 1_024 * millis / 1_000
        };
        let most = match (limited, place.is_coupled()) {
            (true, _) => LIMITED,
            (false, true) => u64::from(FEW),
            (false, false) => MANY,
        };
        let priority = one_of(&PRIORITIES, dice).copied();
        Self {
            pods: 1 + u32::try_from(dice.below(most)).unwrap_or(0),
            cpu,
            memory,
            priority: priority.filter(|_priority| dice.below(4) == 0),
            grace: (dice.below(6) == 0).then_some(LONG_GRACE),
            place,
        }
    }

    /// The memory of each pod, as a quantity.
    pub(crate) fn memory(&self) -> String {
        format!("{}Mi", self.memory)
    }

    /// Puts it onto the template of the pods of a workload that is called so.
    pub(crate) fn put_onto(&self, template: &mut Value, workload: &str) {
        let spec = &mut template["spec"];
        if let Some((class, value)) = self.priority {
            spec["priorityClassName"] = json!(class);
            spec["priority"] = json!(value);
        }
        if let Some(seconds) = self.grace {
            spec["terminationGracePeriodSeconds"] = json!(seconds);
        }
        let own = json!({ "matchLabels": { "app": workload } });
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let near = |key: &str| json!([{ "topologyKey": key, "labelSelector": own }]);
        match self.place {
            Place::Anywhere => {}
            Place::Zone(zone) => spec["nodeSelector"][labels::ZONE] = json!(zone),
            Place::Family(family) => {
                spec["nodeSelector"][labels::INSTANCE_FAMILY] = json!(family);
            }
            Place::Architecture => spec["nodeSelector"][labels::ARCH] = json!("amd64"),
            Place::SpreadOverZones => {
                spec["topologySpreadConstraints"] = json!([{
                    "maxSkew": 1, "topologyKey": labels::ZONE,
                    "whenUnsatisfiable": "DoNotSchedule", "labelSelector": own,
                }]);
            }
            Place::Apart => spec["affinity"]["podAntiAffinity"][required] = near(labels::HOSTNAME),
            Place::Together => spec["affinity"]["podAffinity"][required] = near(labels::ZONE),
        }
    }
}

/// Whether the pods of a Deployment mind where the others are.
pub(crate) fn is_coupled(deployment: &Value) -> bool {
    let spec = &deployment["spec"]["template"]["spec"];
    spec["affinity"].is_object() || spec["topologySpreadConstraints"].is_array()
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pods, cpu, memory, ..
        } = self;
        write!(formatter, "{pods} pods of {cpu} cpu and {memory} MiB")?;
        if let Some((class, _value)) = self.priority {
            write!(formatter, ", {class}")?;
        }
        if let Some(seconds) = self.grace {
            write!(formatter, ", {seconds} s to end")?;
        }
        match self.place {
            Place::Anywhere => Ok(()),
            Place::Zone(zone) => write!(formatter, ", in {zone}"),
            Place::Family(family) => write!(formatter, ", on {family}"),
            Place::Architecture => write!(formatter, ", on amd64"),
            Place::SpreadOverZones => write!(formatter, ", spread over zones"),
            Place::Apart => write!(formatter, ", each on a Node of its own"),
            Place::Together => write!(formatter, ", together in a zone"),
        }
    }
}
