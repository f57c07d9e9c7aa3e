//! Volumes that are, or may be made, only where a NodePool has nothing for their pods.
//!
//! Given a class whose own words leave it candidates of a pool, none of which its volumes leave; given back
//! which volume that is, in general and by the claim of each pod: pods of one class differ in their claims.

use std::collections::BTreeSet;

use super::{Explained, Reason, wish};
use crate::model::pod::PodSpec;
use crate::model::report::{ReasonKind, Unschedulable};
use crate::model::snapshot::Snapshot;
use crate::model::workload::VolumeClaim;
use crate::plan::provision::class::{Class, places_of};
use crate::plan::provision::labels::{DemandTerm, HOSTNAME, Labelled};
use crate::plan::provision::supply::Supply;

/// So many values at most are named.
const FEW: usize = 6;

/// A volume that no node of a NodePool reaches.
#[derive(Debug, Clone)]
pub struct Absent {
    node_pool: String,
    /// Where the volume is or may be made.
    place: Vec<DemandTerm>,
    /// It could be reached if it were not for the pod's other volumes.
    beside_others: bool,
    /// The label that it is about, and the values of it that the pool has for the pod.
    key: String,
    offered: Vec<String>,
}

impl Absent {
    /// The volume that leaves a class nothing of what its own words leave it; `None` when its volumes have no
    /// part in it.
    pub(super) fn of(class: &Class, supply: &Supply, own: &[usize], pool: &str) -> Option<Self> {
        let accepted = |terms: &[DemandTerm], index: usize| {
            let labels = supply.labels(index);
            labels.is_some_and(|labels| terms.iter().any(|term| term.accepts(&labels)))
        };
        let mut reached: Vec<usize> = own.to_vec();
        reached.retain(|index| accepted(&class.own_demand.terms, *index));
        let by_own_words = reached.clone();
        for place in &class.places {
            let before = std::mem::take(&mut reached);
            let there = before.iter().copied();
            reached.extend(there.filter(|index| accepted(place, *index)));
            if !reached.is_empty() {
                continue;
            }
            let key = place.iter().find_map(|term| term.labels.0.keys().next())?;
            // The name of a new node is not known before it is there.
            let nameable = before.iter().filter(|_index| key != HOSTNAME);
            let offered: BTreeSet<String> = nameable
                .filter_map(|index| Some(supply.labels(*index)?.label(key)?.to_owned()))
                .collect();
            if before.is_empty() {
                return None;
            }
            return Some(Self {
                node_pool: pool.to_owned(),
                place: place.clone(),
                beside_others: by_own_words.iter().any(|index| accepted(place, *index)),
                key: key.clone(),
                offered: offered.into_iter().collect(),
            });
        }
        None
    }

    /// The reason while no claim is named.
    pub(super) fn general(&self) -> Reason {
        let place = text(&self.place);
        let detail = format!("a volume of the pod is only at {place}{}", self.nothing());
        let miss = self.reach();
        (ReasonKind::VolumeUnsatisfiable, detail, Some(miss))
    }

    fn nothing(&self) -> String {
        let offered: Vec<&str> = self.offered.iter().take(FEW).map(String::as_str).collect();
        let more = if self.offered.len() > FEW {
            ", ..."
        } else {
            ""
        };
        let others = if self.beside_others {
            " beside its other volumes"
        } else {
            ""
        };
        let has = match offered.as_slice() {
            [] => "none".to_owned(),
            some => format!("{}{more}", some.join(", ")),
        };
        format!(
            ", where the NodePool has nothing for the pod{others}: of {} it has {has}",
            self.key
        )
    }

    fn reach(&self) -> String {
        if self.key == HOSTNAME {
            return "make room on that node, or make the volume anew where other nodes reach it"
                .to_owned();
        }
        format!(
            "let the NodePool, and the subnets of its EC2NodeClass, reach {}",
            text(&self.place)
        )
    }

    fn named(&self, claim: &VolumeClaim) -> (String, String) {
        let name = &claim.name;
        let (place, nothing) = (text(&self.place), self.nothing());
        let mut miss = self.reach();
        let other = self.offered.first();
        if let Some(volume) = &claim.volume_name {
            if let Some(other) = other {
                miss.push_str(", or make the volume anew from a snapshot at ");
                miss.push_str(other);
            }
            let detail = format!(
                "PersistentVolume {volume} of PersistentVolumeClaim {name} is only at {place}{nothing}"
            );
            return (detail, miss);
        }
        let class = claim.storage_class.as_deref().unwrap_or_default();
        if let Some(other) = other {
            miss.push_str(", or name ");
            miss.push_str(other);
            miss.push_str(" in the allowedTopologies of a StorageClass for the claim");
        }
        let detail = format!(
            "the allowedTopologies of StorageClass {class} let the volume of PersistentVolumeClaim {name} be made \
             only at {place}{nothing}"
        );
        (detail, miss)
    }
}

/// The same reasons with the claims that a pod itself mounts.
pub fn of_pod(explained: &Explained, snapshot: &Snapshot, spec: &PodSpec) -> Unschedulable {
    let mut own = explained.why.clone();
    for absent in &explained.absent {
        let Some(claim) = claim_at(snapshot, spec, &absent.place) else {
            continue;
        };
        let mut reasons = own.reasons.iter_mut();
        if let Some(reason) = reasons.find(|reason| reason.node_pool == absent.node_pool) {
            let (detail, miss) = absent.named(claim);
            reason.detail = detail;
            reason.nearest_miss = Some(miss);
        }
    }
    own
}

/// The claim of a pod whose volume is at this place.
fn claim_at<'world>(
    snapshot: &'world Snapshot,
    spec: &PodSpec,
    place: &[DemandTerm],
) -> Option<&'world VolumeClaim> {
    let constraints = spec.constraints.as_ref()?;
    let claims = constraints.volume_claims.iter().filter_map(|name| {
        let key = format!("{}/{name}", spec.namespace);
        snapshot.volume_claims.get(&key)
    });
    claims
        .map(|claim| &**claim)
        .find(|claim| places_of(claim) == place)
}

fn text(place: &[DemandTerm]) -> String {
    let terms: Vec<String> = place
        .iter()
        .map(|term| {
            let labels = term.labels.0.iter();
            let labels: Vec<String> = labels
                .map(|(key, requirement)| format!("{key} {}", wish(requirement)))
                .collect();
            labels.join(" and ")
        })
        .collect();
    terms.join(" or ")
}
