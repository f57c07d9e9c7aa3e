//! Which groups a pod belongs to, without asking each of them.
//!
//! Given groups; given back those that count a pod, and those whose anti-affinity or port a running
//! pod demands. A group is looked up by one label that its members must have, so that the work grows
//! with the pods and groups, not with their product.

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, Identified, Kind, Scope, SelectorKey, owned_terms, ports};
use crate::model::pod::PodSpec;
use crate::model::snapshot::Snapshot;
use crate::plan::provision::shared_claims;

/// Groups by what their members must have.
#[derive(Debug, Default)]
pub struct Index<'groups> {
    by_label: BTreeMap<&'groups str, BTreeMap<&'groups str, Vec<usize>>>,
    by_port: BTreeMap<i32, Vec<usize>>,
    /// By namespace and name of the volume claim.
    by_claim: BTreeMap<Pair<'groups>, Vec<usize>>,
    /// Groups whose members need have no label in particular.
    open: Vec<usize>,
    anti: BTreeMap<Identified<'groups>, usize>,
}

type Pair<'groups> = (&'groups str, &'groups str);

impl<'groups> Index<'groups> {
    /// An index of groups, whose numbers are their places in the list.
    pub fn of(groups: &'groups [Group]) -> Self {
        let mut uses: BTreeMap<Pair<'_>, usize> = BTreeMap::new();
        for group in groups {
            for pair in pairs(&group.scope) {
                *uses.entry(pair).or_default() += 1;
            }
        }
        let mut index = Self::default();
        for (place, group) in groups.iter().enumerate() {
            if group.kind == Kind::Anti && group.required {
                index.anti.insert((group.key.as_str(), &group.scope), place);
            }
            if let Scope::Port(port) = &group.scope {
                index.by_port.entry(port.port).or_default().push(place);
                continue;
            }
            if let Scope::Claim { namespace, name } = &group.scope {
                let claim = (namespace.as_str(), name.as_str());
                index.by_claim.entry(claim).or_default().push(place);
                continue;
            }
            // What few groups ask for, few pods have.
            let rarest = pairs(&group.scope)
                .into_iter()
                .min_by_key(|pair| (uses.get(pair), *pair));
            match rarest {
                Some((label, value)) => index
                    .by_label
                    .entry(label)
                    .or_default()
                    .entry(value)
                    .or_default()
                    .push(place),
                None => index.open.push(place),
            }
        }
        index
    }

    /// The groups that count a pod, in order.
    pub fn counting(&self, groups: &[Group], spec: &PodSpec) -> Vec<usize> {
        let mut found = self.open.clone();
        for (label, value) in &spec.labels {
            let values = self.by_label.get(label.as_str());
            found.extend(
                values
                    .and_then(|values| values.get(value.as_str()))
                    .into_iter()
                    .flatten(),
            );
        }
        found.extend(self.with_port(spec));
        for name in shared_claims::claims(spec) {
            let claim = (spec.namespace.as_str(), name.as_str());
            found.extend(self.by_claim.get(&claim).into_iter().flatten());
        }
        found.retain(|place| {
            let group = groups.get(*place);
            group.is_some_and(|group| group.scope.counts(spec))
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The groups whose anti-affinity or port a pod of this spec demands, in order.
    pub fn owned(&self, snapshot: &Snapshot, groups: &[Group], spec: &PodSpec) -> Vec<usize> {
        let mut found: BTreeSet<usize> = owned_terms(snapshot, spec)
            .iter()
            .filter_map(|(key, scope)| self.anti.get(&(key.as_str(), scope)).copied())
            .collect();
        found.extend(self.with_port(spec).filter(|place| {
            let group = groups.get(*place);
            group.is_some_and(|group| takes_port(spec, &group.scope))
        }));
        found.into_iter().collect()
    }

    fn with_port(&self, spec: &PodSpec) -> impl Iterator<Item = usize> {
        ports(spec)
            .filter_map(|port| self.by_port.get(&port.port))
            .flatten()
            .copied()
    }
}

/// Labels with values that every member of the scope has.
fn pairs(scope: &Scope) -> Vec<Pair<'_>> {
    match scope {
        Scope::Selected {
            selector: Some(key),
            ..
        } => key.pairs().collect(),
        Scope::Every(scopes) => scopes.iter().flat_map(pairs).collect(),
        Scope::Selected { selector: None, .. } | Scope::Port(_) | Scope::Claim { .. } => Vec::new(),
    }
}

impl SelectorKey {
    /// Labels with values that everything selected has.
    fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let labels = self.selector().match_labels.iter();
        labels.map(|(label, value)| (label.as_str(), value.as_str()))
    }
}

/// True for a pod in the way of what asks for the port. On every address it is in the way of each single
/// one, and the other way round.
fn takes_port(spec: &PodSpec, scope: &Scope) -> bool {
    let Scope::Port(port) = scope else {
        return false;
    };
    ports(spec).any(|own| own.conflicts(port))
}
