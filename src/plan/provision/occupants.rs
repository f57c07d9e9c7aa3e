//! DaemonSet pods as occupants of nodes that are yet to come: what they keep off, and what may count on
//! them.
//!
//! Given classes, candidates and DaemonSets; given back classes without the candidates whose DaemonSet
//! pods would be in the way (a host port, anti-affinity of either side), each with the reason, and with
//! their affinity met by the DaemonSet pods that it selects. Room is not looked at here.

use std::collections::BTreeSet;

use super::class::Class;
use super::daemons::Daemons;
use super::labels::{HOSTNAME, Labelled};
use super::stock::Bin;
use super::supply::{Candidate, Supply};
use super::topology::group::{Scope, affinity_terms, owned_terms, ports};
use crate::model::pod::PodSpec;
use crate::model::snapshot::Snapshot;
use crate::plan::pack::Bits;

/// A DaemonSet whose pods are in the way of a class's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// Index into [`Daemons::specs`].
    daemon: usize,
    /// Only on nodes with this label.
    label: Option<String>,
    /// What it is about, for people.
    pub what: String,
}

/// Required affinity of a class that DaemonSet pods meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Company {
    /// The label whose values are its domains.
    pub key: String,
    /// The pods that it selects.
    pub scope: Scope,
    daemons: BTreeSet<usize>,
}

/// What DaemonSet pods mean to a class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Occupants {
    /// Those that are in the way.
    pub in_the_way: Vec<InTheWay>,
    /// Those that its affinity counts on.
    pub company: Vec<Company>,
}

/// Narrows every class to the candidates whose DaemonSet pods let it be.
pub fn narrow(snapshot: &Snapshot, daemons: &Daemons, supply: &Supply, classes: &mut [Class]) {
    if daemons.specs.is_empty() {
        return;
    }
    let theirs: Vec<Vec<(String, Scope)>> = daemons
        .specs
        .iter()
        .map(|spec| owned_terms(snapshot, spec))
        .collect();
    for class in classes {
        class.occupants = Occupants {
            in_the_way: in_the_way(snapshot, daemons, &theirs, &class.spec),
            company: company(snapshot, daemons, supply, class),
        };
        let occupants = &class.occupants;
        if occupants.in_the_way.is_empty() && occupants.company.is_empty() {
            continue;
        }
        let welcome = Bits::of(supply.candidates.len(), |index| {
            let (Some(candidate), Some(labels)) =
                (supply.candidates.get(index), supply.labels(index))
            else {
                return false;
            };
            occupants.welcome(candidate, &labels)
        });
        for level in &mut class.levels {
            level.retain(&welcome);
        }
        class.levels.retain(|level| !level.is_empty());
    }
}

impl Occupants {
    /// True when the DaemonSet pods of a new node let the class be there.
    fn welcome(&self, candidate: &Candidate, labels: &impl Labelled) -> bool {
        let landing = &candidate.daemon_sets;
        let free = self.blocking(candidate, labels).is_none();
        free && self.company.iter().all(|company| {
            let near = landing.iter().any(|index| company.daemons.contains(index));
            near && labels.label(&company.key).is_some()
        })
    }

    /// The DaemonSet pod of a new node that keeps the class off.
    pub fn blocking(&self, candidate: &Candidate, labels: &impl Labelled) -> Option<&InTheWay> {
        let mut all = self.in_the_way.iter();
        all.find(|found| candidate.daemon_sets.contains(&found.daemon) && found.is_on(labels))
    }

    /// True when the DaemonSet pods that are still to come to a node that exists, or is on its way, let the
    /// class be there.
    pub fn suit(&self, bin: &Bin) -> bool {
        let coming = &bin.coming_daemons;
        let free = !self
            .in_the_way
            .iter()
            .any(|found| coming.contains(&found.daemon) && found.is_on(bin));
        free && self.company.iter().all(|company| {
            let near = coming.iter().any(|index| company.daemons.contains(index))
                || bin.pods.iter().any(|pod| company.scope.counts(&pod.spec));
            near && bin.label(&company.key).is_some()
        })
    }
}

impl InTheWay {
    fn is_on(&self, labels: &impl Labelled) -> bool {
        let mut needed = self.label.iter();
        needed.all(|key| key == HOSTNAME || labels.label(key).is_some())
    }
}

fn in_the_way(
    snapshot: &Snapshot,
    daemons: &Daemons,
    theirs: &[Vec<(String, Scope)>],
    spec: &PodSpec,
) -> Vec<InTheWay> {
    let own = owned_terms(snapshot, spec);
    let mut found = Vec::new();
    for (index, (daemon, theirs)) in daemons.specs.iter().zip(theirs).enumerate() {
        let name = daemons.name(index);
        let port = ports(spec).find(|port| ports(daemon).any(|other| other.conflicts(port)));
        if let Some(port) = port {
            found.push(InTheWay {
                daemon: index,
                label: None,
                what: format!(
                    "the pod of DaemonSet {name} takes host port {}/{}",
                    port.port, port.protocol
                ),
            });
        }
        for (key, _scope) in own.iter().filter(|(_key, scope)| scope.counts(daemon)) {
            found.push(InTheWay {
                daemon: index,
                label: Some(key.clone()),
                what: format!(
                    "the pod's anti-affinity over {key} keeps it away from the pod of DaemonSet {name}"
                ),
            });
        }
        for (key, _scope) in theirs.iter().filter(|(_key, scope)| scope.counts(spec)) {
            found.push(InTheWay {
                daemon: index,
                label: Some(key.clone()),
                what: format!(
                    "the anti-affinity over {key} of DaemonSet {name} keeps its pods away from this pod"
                ),
            });
        }
    }
    found
}

/// The required affinity that DaemonSet pods meet on some candidate of the class.
fn company(snapshot: &Snapshot, daemons: &Daemons, supply: &Supply, class: &Class) -> Vec<Company> {
    let mut found = Vec::new();
    for (key, scope) in affinity_terms(snapshot, &class.spec) {
        let selected: BTreeSet<usize> = (0..daemons.specs.len())
            .filter(|index| {
                let spec = daemons.specs.get(*index);
                spec.is_some_and(|spec| scope.counts(spec))
            })
            .collect();
        let lands = |candidate: usize| {
            let candidate = supply.candidates.get(candidate);
            candidate.is_some_and(|candidate| {
                let mut landing = candidate.daemon_sets.iter();
                landing.any(|index| selected.contains(index))
            })
        };
        let carries = |candidate: usize| {
            let labels = supply.labels(candidate);
            labels.is_some_and(|labels| labels.label(&key).is_some())
        };
        let mut candidates = class.levels.iter().flat_map(Bits::iter);
        if !selected.is_empty() && candidates.any(|index| lands(index) && carries(index)) {
            found.push(Company {
                key,
                scope,
                daemons: selected,
            });
        }
    }
    found
}
