//! Coupled pods against the true optimum: small worlds in which zone spread, hostname spread, zone
//! affinity and hostname anti-affinity meet, searched exhaustively under the same constraints.
//!
//! The optimum is found without the planner: all ways to divide each group's pods between zones, and
//! in each zone all ways to divide them between nodes. It shows whether a gap between plan and bound
//! is the plan's fault or the bound's.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;

use super::{ProvisionSettings, add_pods, judged, pool, spec, world};
use crate::model::money::UsdPerHour;
use crate::model::node_class::NodeClass;
use crate::model::pod::{LabelSelector, PodConstraints, PodSpec, PodTerm, TopologySpread};
use crate::model::resources::{CPU, MEMORY};
use crate::model::snapshot::Snapshot;

const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
const TYPES: [&str; 4] = ["t3.medium", "c5.xlarge", "c5.2xlarge", "c5.4xlarge"];
const MIB: i64 = 1 << 20;
/// Worlds of each run.
const WORLDS: u64 = 200;
/// Units of work for each plan.
const UNITS: u64 = 400_000;
/// Measured limits of the ratios, in hundred-thousandths.
const MEAN_PLAN: i64 = 100_030;
const WORST_PLAN: i64 = 106_000;
const MEAN_BOUND: i64 = 106_900;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Coupling {
    Plain,
    ZoneSpread,
    HostnameSpread,
    ZoneAffinity,
    HostnameAntiAffinity,
}

const COUPLINGS: [Coupling; 5] = [
    Coupling::Plain,
    Coupling::ZoneSpread,
    Coupling::HostnameSpread,
    Coupling::ZoneAffinity,
    Coupling::HostnameAntiAffinity,
];

/// Equal pods that look only at each other.
#[derive(Debug, Clone, Copy)]
struct Group {
    coupling: Coupling,
    cpu: i64,
    memory_mib: i64,
    count: usize,
}

/// A kind of node: what it may hold, and its price in each zone.
#[derive(Debug, Clone)]
struct Kind {
    cpu: i64,
    memory_mib: i64,
    pods: i64,
    prices: [i64; 3],
}

impl Group {
    fn spec(&self, name: &str) -> PodSpec {
        let selector = LabelSelector {
            match_labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            match_expressions: Vec::new(),
        };
        let term = |key: &str| PodTerm {
            topology_key: key.to_owned(),
            selector: Some(selector.clone()),
            namespaces: Vec::new(),
            namespace_selector: None,
            match_label_keys: Vec::new(),
            mismatch_label_keys: Vec::new(),
        };
        let spread = |key: &str| TopologySpread {
            topology_key: key.to_owned(),
            max_skew: 1,
            min_domains: None,
            required: true,
            selector: Some(selector.clone()),
            match_label_keys: Vec::new(),
            honor_node_affinity: true,
            honor_node_taints: false,
        };
        let mut constraints = PodConstraints::default();
        let (zone, hostname) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
        match self.coupling {
            Coupling::Plain => {}
            Coupling::ZoneSpread => constraints.spread.push(spread(zone)),
            Coupling::HostnameSpread => constraints.spread.push(spread(hostname)),
            Coupling::ZoneAffinity => constraints.affinity.push(term(zone)),
            Coupling::HostnameAntiAffinity => constraints.anti_affinity.push(term(hostname)),
        }
        PodSpec {
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            constraints: Some(Arc::new(constraints)),
            ..spec(self.cpu, self.memory_mib)
        }
    }

    /// Most pods of the group on one node.
    const fn most_on_a_node(&self) -> usize {
        match self.coupling {
            Coupling::HostnameSpread | Coupling::HostnameAntiAffinity => 1,
            _ => usize::MAX,
        }
    }

    /// Whether the group may have so many pods in each zone.
    fn allows(&self, zones: [usize; 3]) -> bool {
        let most = zones.into_iter().max().unwrap_or(0);
        let least = zones.into_iter().min().unwrap_or(0);
        match self.coupling {
            Coupling::ZoneSpread => most - least <= 1,
            Coupling::ZoneAffinity => most == self.count,
            _ => true,
        }
    }
}

/// All vectors of so many pods of each group, and their places in the list.
struct States {
    list: Vec<Vec<usize>>,
    /// What one pod of each group adds to the place.
    steps: Vec<usize>,
}

impl States {
    fn of(groups: &[Group]) -> Self {
        let mut steps = Vec::new();
        let mut size = 1;
        for group in groups {
            steps.push(size);
            size *= group.count + 1;
        }
        let list = (0..size)
            .map(|place| {
                groups
                    .iter()
                    .zip(&steps)
                    .map(|(group, step)| place / step % (group.count + 1))
                    .collect()
            })
            .collect();
        Self { list, steps }
    }

    fn fits(&self, part: usize, whole: usize) -> bool {
        let (part, whole) = (&self.list[part], &self.list[whole]);
        part.iter().zip(whole).all(|(part, whole)| part <= whole)
    }
}

/// The least price of one node of the zone with just these pods.
fn node_price(groups: &[Group], kinds: &[Kind], zone: usize, state: &[usize]) -> Option<i64> {
    let sum = |of: &dyn Fn(&Group) -> i64| -> i64 {
        groups
            .iter()
            .zip(state)
            .map(|(group, count)| of(group) * i64::try_from(*count).unwrap())
            .sum()
    };
    let apart = groups
        .iter()
        .zip(state)
        .all(|(group, count)| *count <= group.most_on_a_node());
    let (cpu, memory, pods) = (
        sum(&|group| group.cpu),
        sum(&|group| group.memory_mib),
        sum(&|_group| 1),
    );
    kinds
        .iter()
        .filter(|kind| apart && kind.cpu >= cpu && kind.memory_mib >= memory && kind.pods >= pods)
        .map(|kind| kind.prices[zone])
        .min()
}

/// The least price of nodes for each state in each zone, by which pods share the first pod's node.
fn zone_prices(groups: &[Group], kinds: &[Kind], states: &States, zone: usize) -> Vec<i64> {
    let single: Vec<Option<i64>> = states
        .list
        .iter()
        .map(|state| node_price(groups, kinds, zone, state))
        .collect();
    let mut least = vec![i64::MAX; states.list.len()];
    least[0] = 0;
    for whole in 1..states.list.len() {
        let first = states.list[whole].iter().position(|count| *count > 0);
        for part in 1..=whole {
            let with_first = first.is_some_and(|first| states.list[part][first] > 0);
            if let Some(price) = single[part]
                && with_first
                && states.fits(part, whole)
            {
                least[whole] = least[whole].min(price.saturating_add(least[whole - part]));
            }
        }
    }
    least
}

/// The least price of any fleet for these groups.
fn optimum(groups: &[Group], kinds: &[Kind]) -> i64 {
    let states = States::of(groups);
    let prices: Vec<Vec<i64>> = (0..3)
        .map(|zone| zone_prices(groups, kinds, &states, zone))
        .collect();
    let all = states.list.len() - 1;
    let mut least = i64::MAX;
    for first in 0..=all {
        for second in 0..=(all - first) {
            if !states.fits(second, all - first) {
                continue;
            }
            let third = all - first - second;
            let allowed = groups.iter().enumerate().all(|(index, group)| {
                group.allows([first, second, third].map(|place| states.list[place][index]))
            });
            let parts = [prices[0][first], prices[1][second], prices[2][third]];
            if allowed && !parts.contains(&i64::MAX) {
                least = least.min(parts.iter().sum());
            }
        }
    }
    assert_eq!(states.steps.len(), groups.len());
    least
}

/// A world with a price of its own for each type and zone in half of all cases, as on spot markets.
fn scene(seed: u64) -> (Vec<Group>, Vec<Kind>, Snapshot, bool) {
    let mut rng = Rng::with_seed(seed);
    let mut left = rng.usize(6..=14);
    let mut groups = Vec::new();
    while left > 0 && groups.len() < 4 {
        let count = rng.usize(1..=left.min(5));
        left -= count;
        groups.push(Group {
            coupling: COUPLINGS[rng.usize(..COUPLINGS.len())],
            cpu: rng.i64(3..40) * 100,
            memory_mib: rng.i64(2..66) * 100,
            count,
        });
    }
    let mut snapshot = world(vec![pool("general", &TYPES)]);
    let mut class = NodeClass::clone(&snapshot.node_classes["default"]);
    let mut catalogue = (*class.catalogue).clone();
    let differ = rng.bool();
    for offering in &mut catalogue.offerings {
        if differ {
            let percent = rng.i64(40..100);
            offering.price = UsdPerHour::from_units(offering.price.units() / 100 * percent);
        }
    }
    let kinds = TYPES
        .iter()
        .map(|name| {
            let capacity = &catalogue.types[*name].capacity;
            let price = |zone: &str| {
                catalogue
                    .offerings
                    .iter()
                    .find(|offering| {
                        &*offering.key.instance_type == *name && &*offering.key.zone == zone
                    })
                    .unwrap()
                    .price
                    .units()
            };
            Kind {
                cpu: capacity.get(CPU),
                memory_mib: capacity.get(MEMORY) / MIB,
                pods: capacity.get("pods"),
                prices: ZONES.map(price),
            }
        })
        .collect();
    class.catalogue = Arc::new(catalogue);
    snapshot
        .node_classes
        .insert("default".to_owned(), Arc::new(class));
    for (index, group) in groups.iter().enumerate() {
        let name = format!("app{index}");
        add_pods(&mut snapshot, &name, group.count, &group.spec(&name));
    }
    (groups, kinds, snapshot, differ)
}

/// Ratios in hundred-thousandths.
fn ratio(one: i64, other: i64) -> i64 {
    i64::try_from(i128::from(one) * 100_000 / i128::from(other.max(1))).unwrap()
}

#[test]
fn plans_of_coupled_pods_are_near_the_optimum_and_bounds_never_above_it() {
    let settings = ProvisionSettings {
        budget_units: UNITS,
        ..ProvisionSettings::default()
    };
    let (mut plans, mut bounds, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut apart: BTreeMap<bool, (Vec<i64>, Vec<i64>)> = BTreeMap::new();
    let mut worst: BTreeMap<Coupling, (i64, i64)> = BTreeMap::new();
    for seed in 0..WORLDS {
        let (groups, kinds, snapshot, differ) = scene(seed);
        let (plan, faults) = judged(&snapshot, &settings);
        wrong.extend(faults);
        let least = optimum(&groups, &kinds);
        let price = plan.price.units();
        let bound = plan.lower_bound.units();
        if bound > least || least > price || !plan.unschedulable.is_empty() {
            wrong.push(format!(
                "seed {seed}: bound {bound}, optimum {least}, price {price}: {groups:?}"
            ));
        }
        plans.push(ratio(price, least));
        bounds.push(ratio(least, bound));
        let (own_plans, own_bounds) = apart.entry(differ).or_default();
        own_plans.push(ratio(price, least));
        own_bounds.push(ratio(least, bound));
        for group in &groups {
            let entry = worst.entry(group.coupling).or_default();
            entry.0 = entry.0.max(ratio(price, least));
            entry.1 = entry.1.max(ratio(least, bound));
        }
    }
    println!(
        "same prices in all zones: {}",
        described(apart.remove(&false))
    );
    println!(
        "other prices in each zone: {}",
        described(apart.remove(&true))
    );
    let figures = format!(
        "{}; {worst:?}",
        described(Some((plans.clone(), bounds.clone())))
    );
    println!("{figures}");
    assert_eq!(wrong, Vec::<String>::new());
    assert!(mean(&plans) <= MEAN_PLAN, "{figures}");
    assert!(plans.iter().all(|ratio| *ratio <= WORST_PLAN), "{figures}");
    assert!(mean(&bounds) <= MEAN_BOUND, "{figures}");
}

fn mean(list: &[i64]) -> i64 {
    list.iter().sum::<i64>() / i64::try_from(list.len().max(1)).unwrap()
}

/// Mean, median, the worst of the best nine in ten, and the worst, of plan ÷ optimum and of
/// optimum ÷ bound.
fn described(lists: Option<(Vec<i64>, Vec<i64>)>) -> String {
    let (mut plans, mut bounds) = lists.unwrap_or_default();
    plans.sort_unstable();
    bounds.sort_unstable();
    let of = |list: &[i64]| {
        let at = |percent: usize| list.get((list.len().max(1) - 1) * percent / 100).copied();
        (mean(list), at(50), at(90), at(100))
    };
    let optimal = plans.iter().filter(|ratio| **ratio == 100_000).count();
    let tight = bounds.iter().filter(|ratio| **ratio <= 100_010).count();
    format!(
        "{} worlds, plan/optimum {:?}, {optimal} optimal; optimum/bound {:?}, {tight} tight",
        plans.len(),
        of(&plans),
        of(&bounds)
    )
}
