//! Groups of pods that constrain each other.
//!
//! Given classes; given back every constraint between pods once, however many classes bring it,
//! with the classes that demand it (triggers) and those that count for it (members). What tells two
//! constraints apart is everything they say, minDomains and node filters included.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Index;
use crate::model::pod::{HostPort, LabelSelector, PodSpec, PodTerm, TopologySpread};
use crate::model::requirement::Requirement;
use crate::model::snapshot::Snapshot;
use crate::model::taint::Toleration;
use crate::plan::provision::class::Class;
use crate::plan::provision::labels::{DemandTerm, HOSTNAME, NodeDemand, ZONE};
use crate::plan::provision::settings::Premium;
use crate::plan::provision::shared_claims;

/// What a group demands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Members are spread evenly.
    Spread {
        /// Largest difference to the least domain.
        max_skew: i32,
        /// With fewer domains the least count is taken as zero.
        min_domains: i32,
        /// Only nodes count that this demand accepts.
        affinity: Option<NodeDemand>,
        /// Only nodes count whose taints these tolerate.
        taints: Option<Vec<Toleration>>,
    },
    /// Triggers go where a member is.
    Affinity,
    /// Triggers stay away from members, and members from triggers.
    Anti,
    /// One pod per node takes the port.
    Port,
}

/// Which nodes count for a group: those that the demand accepts, and whose taints are tolerated.
pub type Filters<'group> = (Option<&'group NodeDemand>, Option<&'group Vec<Toleration>>);

impl Kind {
    /// Which nodes count.
    pub const fn filters(&self) -> Filters<'_> {
        match self {
            Self::Spread {
                affinity, taints, ..
            } => (affinity.as_ref(), taints.as_ref()),
            Self::Affinity | Self::Anti | Self::Port => (None, None),
        }
    }
}

/// Which pods a group counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Pods of these namespaces that the selector selects; `None` selects nothing.
    Selected {
        /// Namespaces; `None` is all of them.
        namespaces: Option<BTreeSet<String>>,
        /// The selector.
        selector: Option<SelectorKey>,
    },
    /// Pods that all of these count: kube-scheduler looks for one pod that meets every affinity term.
    Every(Vec<Self>),
    /// Pods with this port on this address or on every address.
    Port(HostPort),
    /// Pods that mount a claim whose volume is made where the first of them goes.
    Claim {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
}

/// A selector with the labels that matchLabelKeys add.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelectorKey {
    selector: LabelSelector,
    also: BTreeMap<String, Requirement>,
}

impl SelectorKey {
    /// The selector as written.
    pub const fn selector(&self) -> &LabelSelector {
        &self.selector
    }
}

/// One constraint between pods.
#[derive(Debug, Clone)]
pub struct Group {
    /// What it demands.
    pub kind: Kind,
    /// The label whose values are its domains.
    pub key: String,
    /// Which pods count.
    pub scope: Scope,
    /// False for preferences.
    pub required: bool,
    /// Classes that demand it, with the weight of a preference.
    pub triggers: BTreeMap<usize, i32>,
    /// Classes that count.
    pub members: BTreeSet<usize>,
}

impl Group {
    /// True for demands that a node without the group's label cannot meet: it is in no domain of a
    /// spread and near nothing, while anti-affinity has nothing to say there.
    pub fn needs_label(&self) -> bool {
        self.required && matches!(self.kind, Kind::Spread { .. } | Kind::Affinity)
    }
}

impl Group {
    /// How much a class wishes for what the group prefers. A spread that may be broken has no weight of its own:
    /// it counts in full.
    pub fn weight_for(&self, class: usize) -> i64 {
        match (self.triggers.get(&class), &self.kind) {
            (None, _) => 0,
            (Some(_), Kind::Spread { .. }) => Premium::FULL_WEIGHT,
            (Some(weight), _) => i64::from(*weight),
        }
    }
}

type Identity = (Kind, String, Scope, bool);

/// All groups that some waiting class has to do with.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// The groups in a fixed order.
    pub groups: Vec<Group>,
}

impl Scope {
    /// True when a pod counts.
    pub fn counts(&self, spec: &PodSpec) -> bool {
        match self {
            Self::Selected {
                namespaces,
                selector,
            } => {
                namespaces
                    .as_ref()
                    .is_none_or(|namespaces| namespaces.contains(&spec.namespace))
                    && selector.as_ref().is_some_and(|key| {
                        key.selector.matches(&spec.labels)
                            && key.also.iter().all(|(label, requirement)| {
                                requirement.accepts(spec.labels.get(label).map(String::as_str))
                            })
                    })
            }
            Self::Every(scopes) => scopes.iter().all(|scope| scope.counts(spec)),
            Self::Claim { namespace, name } => shared_claims::mounts(spec, namespace, name),
            Self::Port(port) => ports(spec).any(|own| {
                own.conflicts(port) && (own.address == port.address || own.address.is_empty())
            }),
        }
    }
}

/// Host ports of a pod.
pub fn ports(spec: &PodSpec) -> impl Iterator<Item = &HostPort> {
    spec.constraints
        .iter()
        .flat_map(|constraints| &constraints.host_ports)
}

impl Groups {
    /// The constraints of all classes, and the anti-affinity of pods that run already, with everybody who
    /// counts for them.
    pub fn of(snapshot: &Snapshot, classes: &[Class]) -> Self {
        let mut groups = Self::demanded(snapshot, classes);
        groups.count(classes, |_class| true);
        groups
    }

    /// The constraints of all classes, and the anti-affinity of pods that run already; who counts for them
    /// comes later, by [`Self::count`].
    pub fn demanded(snapshot: &Snapshot, classes: &[Class]) -> Self {
        let mut found: BTreeMap<Identity, BTreeMap<usize, i32>> = BTreeMap::new();
        let mut add = |identity: Identity, class: Option<usize>, weight: i32| {
            let triggers = found.entry(identity).or_default();
            if let Some(class) = class {
                let known = triggers.entry(class).or_default();
                *known = known.saturating_add(weight);
            }
        };
        for (index, class) in classes.iter().enumerate() {
            if class.problem.is_none() {
                for (identity, weight) in constraints_of(snapshot, &class.spec, class) {
                    add(identity, Some(index), weight);
                }
            }
        }
        let mut known: BTreeSet<*const PodSpec> = BTreeSet::new();
        for pod in snapshot.pods.values().filter(|pod| pod.is_active_on_node()) {
            let anti = pod.spec.constraints.as_ref().map(|c| &c.anti_affinity);
            if anti.is_none_or(Vec::is_empty) || !known.insert(std::sync::Arc::as_ptr(&pod.spec)) {
                continue;
            }
            for term in anti.into_iter().flatten() {
                add(
                    term_identity(snapshot, &pod.spec, term, Kind::Anti, true),
                    None,
                    0,
                );
            }
        }
        let groups = found
            .into_iter()
            .map(|((kind, key, scope, required), triggers)| Group {
                kind,
                key,
                scope,
                required,
                triggers,
                members: BTreeSet::new(),
            })
            .collect();
        Self { groups }
    }

    /// Finds out which of the classes that `holds` count for each group, and forgets groups that nobody has
    /// to do with.
    pub fn count(&mut self, classes: &[Class], holds: impl Fn(usize) -> bool) {
        let index = Index::of(&self.groups);
        let all = classes.iter().enumerate();
        let counting: Vec<(usize, Vec<usize>)> = all
            .filter(|(class, _spec)| holds(*class))
            .map(|(class, of)| (class, index.counting(&self.groups, &of.spec)))
            .collect();
        for (class, places) in counting {
            for place in places {
                if let Some(group) = self.groups.get_mut(place) {
                    group.members.insert(class);
                }
            }
        }
        self.groups
            .retain(|group| !group.triggers.is_empty() || !group.members.is_empty());
    }

    /// Forgets the groups over labels that no node has or could have: nobody is near or apart there. Gives
    /// back the classes that demand to be in some domain of them, with those labels; they are in no group
    /// afterwards.
    pub fn take_unlabelled(
        &mut self,
        carried: &BTreeSet<&str>,
    ) -> BTreeMap<usize, BTreeSet<String>> {
        let mut missing: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        self.groups.retain(|group| {
            let carried = carried.contains(group.key.as_str());
            if !carried && group.needs_label() {
                for class in group.triggers.keys() {
                    missing.entry(*class).or_default().insert(group.key.clone());
                }
            }
            carried
        });
        self.forget(|class| missing.contains_key(&class));
        missing
    }

    /// Takes classes out of every group.
    fn forget(&mut self, gone: impl Fn(usize) -> bool) {
        for group in &mut self.groups {
            group.triggers.retain(|class, _weight| !gone(*class));
            group.members.retain(|class| !gone(*class));
        }
    }

    /// Takes classes out of those that demand what is only preferred.
    pub fn forget_wishes(&mut self, gone: impl Fn(usize) -> bool) {
        for group in self.groups.iter_mut().filter(|group| !group.required) {
            group.triggers.retain(|class, _weight| !gone(*class));
        }
    }

    /// Takes out the classes whose required affinity kube-scheduler can never meet, whatever nodes
    /// there are, and gives them back: the pods that they select wait for them in turn, or do not
    /// exist. `runs` says whether a member of a group runs already.
    pub fn take_stuck(&mut self, runs: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let mut follows: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut leads: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let chains = |group: &&Group| group.required && group.kind == Kind::Affinity;
        let all = self.groups.iter().enumerate();
        for (index, group) in all.filter(|(_index, group)| chains(group)) {
            for class in group.triggers.keys() {
                follows.entry(*class).or_default().push(index);
            }
            for class in &group.members {
                leads.entry(*class).or_default().push(index);
            }
        }
        let mut stuck: BTreeSet<usize> = follows.keys().copied().collect();
        // Groups with somebody to follow.
        let mut met: BTreeSet<usize> = leads
            .iter()
            .filter(|(class, _groups)| !stuck.contains(class))
            .flat_map(|(_class, groups)| groups.iter().copied())
            .collect();
        met.extend((0..self.groups.len()).filter(|index| runs(*index)));
        let mut open: Vec<usize> = stuck.iter().copied().collect();
        while let Some(class) = open.pop() {
            let meets = |index: &usize| {
                let group = self.groups.get(*index);
                met.contains(index) || group.is_some_and(|group| group.members.contains(&class))
            };
            let free = follows
                .get(&class)
                .is_some_and(|groups| groups.iter().all(meets));
            if !(free && stuck.remove(&class)) {
                continue;
            }
            for index in leads.get(&class).into_iter().flatten() {
                if met.insert(*index)
                    && let Some(group) = self.groups.get(*index)
                {
                    open.extend(group.triggers.keys().filter(|class| stuck.contains(class)));
                }
            }
        }
        self.forget(|class| stuck.contains(&class));
        stuck
    }

    /// The classes whose pods must share a node with each other.
    pub fn gathering(&self) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for group in &self.groups {
            if group.required && group.kind == Kind::Affinity && group.key == HOSTNAME {
                let triggers = group.triggers.keys();
                found.extend(triggers.filter(|class| group.members.contains(class)));
            }
        }
        found
    }

    /// True when nothing couples any pods.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// The constraints that a pod brings, with weights of preferences.
fn constraints_of(snapshot: &Snapshot, spec: &PodSpec, class: &Class) -> Vec<(Identity, i32)> {
    let Some(constraints) = &spec.constraints else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for spread in &constraints.spread {
        let counted = counted_nodes(&constraints.spread, spread, class);
        found.push((spread_identity(spec, spread, counted), 1));
    }
    let mut terms = |list: &[PodTerm], kind: &Kind| {
        for term in list {
            found.push((term_identity(snapshot, spec, term, kind.clone(), true), 1));
        }
    };
    terms(&constraints.anti_affinity, &Kind::Anti);
    // What DaemonSet pods meet on every node that is left couples the pod to nothing else.
    let is_met = |(_kind, key, scope, _required): &Identity| {
        let mut met = class.occupants.company.iter();
        met.any(|company| company.key == *key && company.scope == *scope)
    };
    found.extend(
        affinity_identities(snapshot, spec, &constraints.affinity)
            .into_iter()
            .filter(|identity| !is_met(identity))
            .map(|identity| (identity, 1)),
    );
    let preferred = [
        (&constraints.preferred_affinity, Kind::Affinity),
        (&constraints.preferred_anti_affinity, Kind::Anti),
    ];
    for (list, kind) in preferred {
        for (weight, term) in list {
            found.push((
                term_identity(snapshot, spec, term, kind.clone(), false),
                *weight,
            ));
        }
    }
    // Claims that tie no pods together have lost their names by now.
    let shared = constraints
        .volume_claims
        .iter()
        .filter(|name| !name.is_empty());
    for name in shared {
        let scope = Scope::Claim {
            namespace: spec.namespace.clone(),
            name: name.clone(),
        };
        found.push(((Kind::Affinity, ZONE.to_owned(), scope, true), 1));
    }
    for port in &constraints.host_ports {
        let identity = (
            Kind::Port,
            HOSTNAME.to_owned(),
            Scope::Port(port.clone()),
            true,
        );
        found.push((identity, 1));
    }
    found
}

/// The nodes that count for one of a pod's spreads: those that its affinity allows, where the spread honours it, and of
/// these only who has the labels of all spreads that must hold (kube-scheduler, `pkg/scheduler/framework/plugins/podtopologyspread`:
/// a node without one of them is skipped altogether). `None` is every node.
fn counted_nodes(
    all: &[TopologySpread],
    spread: &TopologySpread,
    class: &Class,
) -> Option<NodeDemand> {
    let others: BTreeSet<&str> = all
        .iter()
        .filter(|other| spread.required && other.required)
        .map(|other| other.topology_key.as_str())
        // Every node has a name, and one that is not there yet has no label of it.
        .filter(|key| *key != spread.topology_key && *key != HOSTNAME)
        .collect();
    let allowed = spread.honor_node_affinity.then(|| class.own_demand.clone());
    if others.is_empty() {
        return allowed;
    }
    let mut demand = allowed.unwrap_or_else(|| NodeDemand {
        terms: vec![DemandTerm::default()],
    });
    for term in &mut demand.terms {
        for key in &others {
            term.labels.add(key, &Requirement::exists());
        }
    }
    Some(demand)
}

fn spread_identity(
    spec: &PodSpec,
    spread: &TopologySpread,
    counted: Option<NodeDemand>,
) -> Identity {
    let kind = Kind::Spread {
        max_skew: spread.max_skew.max(1),
        min_domains: spread.min_domains.unwrap_or(1),
        affinity: counted,
        taints: spread.honor_node_taints.then(|| spec.tolerations.clone()),
    };
    let selector = spread.counted(spec).map(|selector| SelectorKey {
        selector: selector.clone(),
        also: also(spec, &spread.match_label_keys, &[]),
    });
    let scope = Scope::Selected {
        namespaces: Some(BTreeSet::from([spec.namespace.clone()])),
        selector,
    };
    (kind, spread.topology_key.clone(), scope, spread.required)
}

/// Required affinity: one identity for each term, all with the scope of all terms together.
fn affinity_identities(snapshot: &Snapshot, spec: &PodSpec, terms: &[PodTerm]) -> Vec<Identity> {
    let identities: Vec<Identity> = terms
        .iter()
        .map(|term| term_identity(snapshot, spec, term, Kind::Affinity, true))
        .collect();
    let mut scopes: Vec<Scope> = identities
        .iter()
        .map(|identity| identity.2.clone())
        .collect();
    scopes.sort();
    scopes.dedup();
    let [_first, _second, ..] = scopes.as_slice() else {
        return identities;
    };
    identities
        .into_iter()
        .map(|(kind, key, _scope, required)| (kind, key, Scope::Every(scopes.clone()), required))
        .collect()
}

fn term_identity(
    snapshot: &Snapshot,
    spec: &PodSpec,
    term: &PodTerm,
    kind: Kind,
    required: bool,
) -> Identity {
    let namespaces = match &term.namespace_selector {
        None if term.namespaces.is_empty() => Some(BTreeSet::from([spec.namespace.clone()])),
        None => Some(term.namespaces.iter().cloned().collect()),
        Some(selector) if *selector == LabelSelector::default() => None,
        Some(selector) => Some(
            snapshot
                .namespaces
                .iter()
                .filter(|(_name, namespace)| selector.matches(&namespace.labels))
                .map(|(name, _namespace)| name.clone())
                .chain(term.namespaces.iter().cloned())
                .collect(),
        ),
    };
    let selector = term.selector.as_ref().map(|selector| SelectorKey {
        selector: selector.clone(),
        also: also(spec, &term.match_label_keys, &term.mismatch_label_keys),
    });
    let scope = Scope::Selected {
        namespaces,
        selector,
    };
    (kind, term.topology_key.clone(), scope, required)
}

/// The requirements that matchLabelKeys and mismatchLabelKeys add; keys that the pod lacks add none.
fn also(spec: &PodSpec, same: &[String], different: &[String]) -> BTreeMap<String, Requirement> {
    let mut also: BTreeMap<String, Requirement> = BTreeMap::new();
    for key in same {
        if let Some(value) = spec.labels.get(key) {
            also.insert(key.clone(), Requirement::one_of([value.as_str()]));
        }
    }
    for key in different {
        if let Some(value) = spec.labels.get(key) {
            let mut requirement = Requirement::none_of([value.as_str()]);
            if let Some(known) = also.get(key) {
                requirement = requirement.intersection(known);
            }
            also.insert(key.clone(), requirement);
        }
    }
    also
}

/// What tells the anti-affinity of one group from that of others: label and scope.
pub type Identified<'group> = (&'group str, &'group Scope);

/// The required affinity that a pod of this spec demands, by label and scope.
pub fn affinity_terms(snapshot: &Snapshot, spec: &PodSpec) -> Vec<(String, Scope)> {
    let Some(constraints) = &spec.constraints else {
        return Vec::new();
    };
    affinity_identities(snapshot, spec, &constraints.affinity)
        .into_iter()
        .map(|(_kind, key, scope, _required)| (key, scope))
        .collect()
}

/// The required anti-affinity that a pod of this spec demands, by label and scope.
pub fn owned_terms(snapshot: &Snapshot, spec: &PodSpec) -> Vec<(String, Scope)> {
    let terms = spec.constraints.iter().flat_map(|own| &own.anti_affinity);
    terms
        .map(|term| {
            let (_kind, key, scope, _required) =
                term_identity(snapshot, spec, term, Kind::Anti, true);
            (key, scope)
        })
        .collect()
}
