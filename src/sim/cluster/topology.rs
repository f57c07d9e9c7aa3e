//! Whether a node may take a pod beside other pods: affinity, anti-affinity and spread.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::node::Node;
use crate::model::pod::{LabelSelector, Pod, PodConstraints, PodSpec, PodTerm, TopologySpread};

/// The pods on nodes, as terms count them.
#[derive(Debug)]
pub struct Placed<'world, Entry = Node> {
    /// The nodes by name.
    pub nodes: &'world BTreeMap<String, Entry>,
    /// Pods with the node that each is on.
    pub pods: Vec<(Arc<Pod>, String)>,
}

impl<Entry: Borrow<Node>> Placed<'_, Entry> {
    /// True when every required term holds on a node.
    pub fn allows(&self, pod: &Pod, node: &Node) -> bool {
        let own = pod.spec.constraints.as_deref();
        own.is_none_or(|constraints| self.holds(&pod.spec, constraints, node))
            && self.is_welcome(pod, node)
    }

    fn holds(&self, spec: &PodSpec, constraints: &PodConstraints, node: &Node) -> bool {
        constraints
            .anti_affinity
            .iter()
            .all(|term| !self.meets(spec, term, node))
            && constraints.affinity.iter().all(|term| {
                // The first of a group that wants to be together may go anywhere.
                let alone = !self
                    .pods
                    .iter()
                    .any(|(pod, _node)| is_meant(spec, term, &pod.spec));
                self.meets(spec, term, node) || (alone && is_meant(spec, term, spec))
            })
            && constraints
                .spread
                .iter()
                .filter(|spread| spread.required)
                .all(|spread| self.spreads(spec, spread, node))
    }

    /// True when no pod that is there wants to keep away from this one.
    fn is_welcome(&self, pod: &Pod, node: &Node) -> bool {
        self.pods.iter().all(|(other, place)| {
            let terms = other
                .spec
                .constraints
                .as_ref()
                .map_or(&[][..], |constraints| &constraints.anti_affinity);
            terms.iter().all(|term| {
                !is_meant(&other.spec, term, &pod.spec)
                    || !self.same_domain(&term.topology_key, place, node)
            })
        })
    }

    fn meets(&self, spec: &PodSpec, term: &PodTerm, node: &Node) -> bool {
        self.pods.iter().any(|(pod, place)| {
            is_meant(spec, term, &pod.spec) && self.same_domain(&term.topology_key, place, node)
        })
    }

    fn same_domain(&self, key: &str, place: &str, node: &Node) -> bool {
        let there = self
            .nodes
            .get(place)
            .and_then(|place| place.borrow().labels.get(key));
        there.is_some() && there == node.labels.get(key)
    }

    fn spreads(&self, spec: &PodSpec, spread: &TopologySpread, node: &Node) -> bool {
        let Some(domain) = node.labels.get(&spread.topology_key) else {
            return false;
        };
        let selector = spread.counted(spec);
        let mut counts: BTreeMap<&String, i32> = BTreeMap::new();
        for candidate in self.nodes.values().map(Borrow::borrow) {
            let counted =
                !spread.honor_node_affinity || spec.selects(&candidate.name, &candidate.labels);
            if let (true, Some(domain)) = (counted, candidate.labels.get(&spread.topology_key)) {
                counts.entry(domain).or_default();
            }
        }
        for (pod, place) in &self.pods {
            let counts_here = pod.deleting_until.is_none()
                && pod.spec.namespace == spec.namespace
                && selected(selector, &spread.match_label_keys, spec, &pod.spec);
            let domain = self
                .nodes
                .get(place)
                .and_then(|place| place.borrow().labels.get(&spread.topology_key));
            if let (true, Some(domain)) = (counts_here, domain)
                && let Some(count) = counts.get_mut(domain)
            {
                *count += 1;
            }
        }
        let domains = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        let least = if spread.min_domains.is_some_and(|wanted| domains < wanted) {
            0
        } else {
            counts.values().copied().min().unwrap_or(0)
        };
        let own = i32::from(selected(selector, &[], spec, spec));
        counts.get(domain).copied().unwrap_or(0) + own - least <= spread.max_skew
    }
}

/// True when a selector selects `other`, with the values that `own` has for the given keys.
fn selected(
    selector: Option<&LabelSelector>,
    keys: &[String],
    own: &PodSpec,
    other: &PodSpec,
) -> bool {
    selector.is_some_and(|selector| selector.matches(&other.labels))
        && keys.iter().all(|key| {
            !own.labels.contains_key(key) || own.labels.get(key) == other.labels.get(key)
        })
}

/// True when a term of `own` speaks of `other`. Namespace selectors are taken as all namespaces.
fn is_meant(own: &PodSpec, term: &PodTerm, other: &PodSpec) -> bool {
    let namespace = term.namespace_selector.is_some()
        || term.namespaces.contains(&other.namespace)
        || (term.namespaces.is_empty() && own.namespace == other.namespace);
    let different = term
        .mismatch_label_keys
        .iter()
        .all(|key| own.labels.get(key) != other.labels.get(key));
    namespace && different && selected(term.selector.as_ref(), &term.match_label_keys, own, other)
}
