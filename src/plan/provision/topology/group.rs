//! Groups of pods that constrain each other.
//!
//! Given classes; given back every constraint between pods once, however many classes bring it,
//! with the classes that demand it (triggers) and those that count for it (members). What tells two
//! constraints apart is everything they say, minDomains and node filters included.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::pod::{HostPort, LabelSelector, PodSpec, PodTerm, TopologySpread};
use crate::model::requirement::Requirement;
use crate::model::snapshot::Snapshot;
use crate::model::taint::Toleration;
use crate::plan::provision::class::Class;
use crate::plan::provision::labels::{HOSTNAME, NodeDemand, ZONE};
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
                own.protocol == port.protocol
                    && own.port == port.port
                    && (own.address == port.address || own.address.is_empty())
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
    /// Collects the constraints of all classes, and the anti-affinity of pods that run already.
    pub fn of(snapshot: &Snapshot, classes: &[Class]) -> Self {
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
            .map(|((kind, key, scope, required), triggers)| {
                let members = classes
                    .iter()
                    .enumerate()
                    .filter(|(_index, class)| scope.counts(&class.spec))
                    .map(|(index, _class)| index)
                    .collect();
                Group {
                    kind,
                    key,
                    scope,
                    required,
                    triggers,
                    members,
                }
            })
            .filter(|group| !group.triggers.is_empty() || !group.members.is_empty())
            .collect();
        Self { groups }
    }

    /// Takes out the classes whose required affinity kube-scheduler can never meet, whatever nodes
    /// there are, and gives them back: the pods that they select wait for them in turn, or do not
    /// exist. `runs` says whether a member of a group runs already.
    pub fn take_stuck(&mut self, count: usize, runs: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let follows: Vec<(usize, &Group)> = self
            .groups
            .iter()
            .enumerate()
            .filter(|(_index, group)| group.required && group.kind == Kind::Affinity)
            .collect();
        let mut stuck: BTreeSet<usize> = (0..count)
            .filter(|class| {
                follows
                    .iter()
                    .any(|(_, group)| group.triggers.contains_key(class))
            })
            .collect();
        loop {
            let free: Vec<usize> = stuck
                .iter()
                .copied()
                .filter(|class| {
                    follows
                        .iter()
                        .filter(|(_index, group)| group.triggers.contains_key(class))
                        .all(|(index, group)| {
                            runs(*index)
                                || group.members.contains(class)
                                || group.members.iter().any(|member| !stuck.contains(member))
                        })
                })
                .collect();
            if free.is_empty() {
                break;
            }
            for class in free {
                stuck.remove(&class);
            }
        }
        for group in &mut self.groups {
            group
                .triggers
                .retain(|class, _weight| !stuck.contains(class));
            group.members.retain(|class| !stuck.contains(class));
        }
        stuck
    }

    /// True for a class whose pods must share a node with each other.
    pub fn gathers(&self, class: usize) -> bool {
        self.groups.iter().any(|group| {
            group.required
                && group.kind == Kind::Affinity
                && group.key == HOSTNAME
                && group.triggers.contains_key(&class)
                && group.members.contains(&class)
        })
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
        found.push((spread_identity(spec, spread, class), 1));
    }
    let mut terms = |list: &[PodTerm], kind: &Kind| {
        for term in list {
            found.push((term_identity(snapshot, spec, term, kind.clone(), true), 1));
        }
    };
    terms(&constraints.anti_affinity, &Kind::Anti);
    found.extend(
        affinity_identities(snapshot, spec, &constraints.affinity)
            .into_iter()
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

fn spread_identity(spec: &PodSpec, spread: &TopologySpread, class: &Class) -> Identity {
    let kind = Kind::Spread {
        max_skew: spread.max_skew.max(1),
        min_domains: spread.min_domains.unwrap_or(1),
        affinity: spread.honor_node_affinity.then(|| class.own_demand.clone()),
        taints: spread.honor_node_taints.then(|| spec.tolerations.clone()),
    };
    let selector = spread.selector.as_ref().map(|selector| SelectorKey {
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

/// True when a pod of this spec demands the group's anti-affinity.
pub fn owns(snapshot: &Snapshot, spec: &PodSpec, group: &Group) -> bool {
    match group.kind {
        Kind::Anti if group.required => spec
            .constraints
            .iter()
            .flat_map(|constraints| &constraints.anti_affinity)
            .any(|term| {
                term.topology_key == group.key
                    && term_identity(snapshot, spec, term, Kind::Anti, true).2 == group.scope
            }),
        Kind::Port => {
            let Scope::Port(port) = &group.scope else {
                return false;
            };
            // On every address the pod is in the way of each single one, and the other way round.
            ports(spec).any(|own| {
                own.protocol == port.protocol
                    && own.port == port.port
                    && (own.address.is_empty()
                        || port.address.is_empty()
                        || own.address == port.address)
            })
        }
        _ => false,
    }
}
