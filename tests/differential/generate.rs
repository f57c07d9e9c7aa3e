//! Sets of pods that carry every constraint a pod can carry, from a seed.
//!
//! Given a number; given back the pools, the offerings and the objects of one set, the same for
//! the same number. A set keeps to nodes, racks and namespaces of its own, so sets share a cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::constraints::Constraint;

/// The zones that offerings are in.
pub(crate) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// The driver of all volumes.
pub(crate) const DRIVER: &str = "ebs.csi.aws.com";

/// A stream of numbers that depends on its seed alone (SplitMix64).
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        usize::try_from(mixed % limit as u64).unwrap()
    }

    pub(crate) fn pick<'list, T>(&mut self, list: &'list [T]) -> &'list T {
        &list[self.below(list.len())]
    }
}

/// A machine that a set may buy.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) capacity: Value,
    pub(crate) volumes: u32,
    pub(crate) size: &'static str,
}

/// A pool of a set.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Value,
    pub(crate) node_limit: Option<usize>,
}

/// One set of pods with its world.
#[derive(Debug)]
pub(crate) struct Set {
    /// Its name, and the namespace of most of its pods; the others are in `NAME-b`.
    pub(crate) name: String,
    pub(crate) pools: Vec<Pool>,
    /// Objects to create before the pods.
    pub(crate) objects: Vec<Value>,
    pub(crate) pods: Vec<Value>,
    /// Nodes that stand before anything is planned.
    pub(crate) standing: Vec<Standing>,
    /// What its pods and pools really carry.
    pub(crate) used: BTreeSet<Constraint>,
}

/// A node that stands already, with a pod that runs on it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) zone: &'static str,
    pub(crate) machine: Machine,
    pub(crate) occupant: Value,
}

pub(crate) fn machines() -> [Machine; 3] {
    let machine = |name, cpu, memory, pods, gpus, volumes, size| {
        let mut capacity =
            json!({"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "50Gi"});
        if gpus != "0" {
            capacity["nvidia.com/gpu"] = json!(gpus);
        }
        Machine {
            name,
            capacity,
            volumes,
            size,
        }
    };
    [
        machine("small", "2", "4Gi", "6", "0", 2, "2"),
        machine("large", "6", "12Gi", "14", "0", 5, "6"),
        machine("accelerated", "4", "16Gi", "10", "2", 3, "4"),
    ]
}

/// The catalogue of every set: three machines in three zones, each zone a little dearer.
pub(crate) fn catalogue() -> Value {
    let prices = [(0, 100), (1, 290), (2, 500)];
    let entries: Vec<Value> = prices
        .iter()
        .flat_map(|(index, price)| {
            let machine = machines()[*index].clone();
            ZONES.iter().enumerate().map(move |(zone, name)| {
                json!({
                    "instanceType": machine.name, "zone": name, "capacityType": "on-demand",
                    "usdPerHour": format!("0.{:03}", price + 3 * zone),
                    "capacity": machine.capacity, "volumeLimit": machine.volumes,
                    "labels": {"example.com/size": machine.size},
                })
            })
        })
        .collect();
    json!(entries)
}

/// The set of that number.
pub(crate) fn set(number: usize) -> Set {
    let mut numbers = Numbers(0x7011_0000 + number as u64);
    let name = format!("set-{number:03}");
    let mut set = Set {
        pools: pools(&name, number),
        objects: namespaces(&name),
        pods: Vec::new(),
        standing: Vec::new(),
        used: BTreeSet::new(),
        name,
    };
    if number % 4 == 1 {
        set.used.insert(Constraint::PreferNoScheduleTaint);
    }
    if number % 5 == 2 {
        set.used.insert(Constraint::NodeLimit);
    }
    let workloads = 2 + numbers.below(3);
    for workload in 0..workloads {
        add_workload(&mut set, number, workload, workloads, &mut numbers);
    }
    if number.is_multiple_of(3) {
        set.standing = standing(&set.name, &mut numbers);
        set.used.insert(Constraint::StandingNode);
    }
    set
}

/// One or two nodes of the first pool, each with a pod of the first workload's app on it.
fn standing(name: &str, numbers: &mut Numbers) -> Vec<Standing> {
    let count = 1 + numbers.below(2);
    let node = |index: usize| Standing {
        name: format!("{name}-standing-{index}"),
        zone: numbers.pick::<&str>(&ZONES),
        machine: numbers.pick(&machines()).clone(),
        occupant: json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": name, "name": format!("{name}-occupant-{index}"),
                "labels": {"app": "app-0", "group": "all"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "nodeName": format!("{name}-standing-{index}"),
                "containers": [{"name": "main", "image": "example.com/none",
                    "resources": {"requests": {"cpu": "300m", "memory": "200Mi"}}}],
            },
        }),
    };
    (0..count).map(node).collect()
}

fn pools(name: &str, number: usize) -> Vec<Pool> {
    let pool = |suffix: &str, rack: &str, taints: Value, node_limit| Pool {
        name: format!("{name}-{suffix}"),
        labels: BTreeMap::from([
            ("example.com/set".to_owned(), name.to_owned()),
            (format!("{name}.example.com/rack"), rack.to_owned()),
        ]),
        taints,
        node_limit,
    };
    let effect = if number % 4 == 1 {
        "PreferNoSchedule"
    } else {
        "NoSchedule"
    };
    let limit = (number % 5 == 2).then_some(1);
    vec![
        pool("main", "a", json!([]), limit),
        pool(
            "tainted",
            "b",
            json!([{"key": "dedicated", "value": "x", "effect": effect}]),
            limit,
        ),
    ]
}

fn namespaces(name: &str) -> Vec<Value> {
    [name.to_owned(), format!("{name}-b")]
        .iter()
        .map(|space| {
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": space, "labels": {"example.com/set": name, "example.com/space": space}}})
        })
        .collect()
}

fn add_workload(
    set: &mut Set,
    number: usize,
    workload: usize,
    workloads: usize,
    numbers: &mut Numbers,
) {
    let space = if numbers.below(4) == 0 {
        format!("{}-b", set.name)
    } else {
        set.name.clone()
    };
    let cpu = *numbers.pick(&[200, 500, 700, 1100, 1900]);
    let memory = *numbers.pick(&[128, 600, 1500, 2500]);
    let template = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": space, "labels": {"app": format!("app-{workload}"), "group": "all"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"example.com/set": set.name},
            "containers": [{"name": "main", "image": "example.com/none",
                "resources": {"requests": {"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")}}}],
        },
    });
    let all = Constraint::of_pods();
    // The first of every set goes through them in turn, so that none is rare.
    let mut wanted = BTreeSet::new();
    if workload < 2 {
        wanted.insert(all[(number + 19 * workload) % all.len()]);
    }
    for _more in 0..numbers.below(4) {
        wanted.insert(*numbers.pick(&all));
    }
    let count = 1 + numbers.below(4);
    let mut pods: Vec<Value> = (0..count)
        .map(|index| {
            let mut pod = template.clone();
            pod["metadata"]["name"] = json!(format!("{}-w{workload}-{index}", set.name));
            pod
        })
        .collect();
    for constraint in wanted {
        let draw = numbers.below(1 << 20);
        let mut carried = false;
        for (index, pod) in pods.iter_mut().enumerate() {
            let mut same = Numbers(draw as u64);
            let place = crate::constraints::Place {
                set: &set.name,
                workload,
                workloads,
                index,
            };
            carried |= constraint.add(pod, &mut set.objects, place, &mut same);
        }
        if carried {
            set.used.insert(constraint);
        }
    }
    set.pods.extend(pods);
}
