//! Names become short hashes that tell equal from different and nothing else.
//!
//! Given a salt that is drawn for each recording; given back the same hash for the same text within it.
//! Keys of labels, node selectors and tolerations stay: they say what nodes are asked for.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use sha2::{Digest, Sha256};

use crate::simulate::input::trace::Line;

/// How names are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hide {
    salt: Option<String>,
}

impl Hide {
    /// Names are hashed with a salt.
    pub fn with_salt(salt: &str) -> Self {
        Self {
            salt: Some(salt.to_owned()),
        }
    }

    /// Names stay as they are.
    pub const fn nothing() -> Self {
        Self { salt: None }
    }

    fn hash(&self, text: &str) -> Option<String> {
        let salt = self.salt.as_ref()?;
        let digest = Sha256::new()
            .chain_update(salt.as_bytes())
            .chain_update([0])
            .chain_update(text.as_bytes())
            .finalize();
        let short = digest
            .iter()
            .take(5)
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Some(format!("{short:010x}"))
    }

    /// The value of a label.
    pub(super) fn value(&self, value: &str) -> String {
        self.hash(value).unwrap_or_else(|| value.to_owned())
    }

    /// A namespace.
    pub(super) fn namespace(&self, name: &str) -> String {
        let hashed = self.hash(name).map(|hash| format!("ns-{hash}"));
        hashed.unwrap_or_else(|| name.to_owned())
    }

    /// An owner.
    pub(super) fn name(&self, kind: &str, namespace: &str, name: &str) -> String {
        let hashed = self.hash(&format!("{kind}/{namespace}/{name}"));
        hashed.map_or_else(
            || name.to_owned(),
            |hash| format!("{}-{hash}", kind.to_lowercase()),
        )
    }

    /// Affinity with the values of pod selectors and the namespaces hidden; that to nodes stays.
    pub(super) fn affinity(&self, mut affinity: core::Affinity) -> core::Affinity {
        if let Some(pods) = &mut affinity.pod_affinity {
            self.terms(
                pods.required_during_scheduling_ignored_during_execution
                    .as_deref_mut(),
                pods.preferred_during_scheduling_ignored_during_execution
                    .as_deref_mut(),
            );
        }
        if let Some(pods) = &mut affinity.pod_anti_affinity {
            self.terms(
                pods.required_during_scheduling_ignored_during_execution
                    .as_deref_mut(),
                pods.preferred_during_scheduling_ignored_during_execution
                    .as_deref_mut(),
            );
        }
        affinity
    }

    fn terms(
        &self,
        required: Option<&mut [core::PodAffinityTerm]>,
        preferred: Option<&mut [core::WeightedPodAffinityTerm]>,
    ) {
        let preferred = preferred.into_iter().flatten();
        let preferred = preferred.map(|weighted| &mut weighted.pod_affinity_term);
        for term in required.into_iter().flatten().chain(preferred) {
            self.selector(term.label_selector.as_mut());
            for namespace in term.namespaces.iter_mut().flatten() {
                *namespace = self.namespace(namespace);
            }
            self.selector(term.namespace_selector.as_mut());
        }
    }

    /// Spread with the values of pod selectors hidden.
    pub(super) fn spread(
        &self,
        mut spread: Vec<core::TopologySpreadConstraint>,
    ) -> Vec<core::TopologySpreadConstraint> {
        for constraint in &mut spread {
            self.selector(constraint.label_selector.as_mut());
        }
        spread
    }

    fn selector(&self, selector: Option<&mut LabelSelector>) {
        let Some(selector) = selector else { return };
        for value in selector
            .match_labels
            .iter_mut()
            .flatten()
            .map(|(_key, value)| value)
        {
            *value = self.value(value);
        }
        let expressions = selector.match_expressions.iter_mut().flatten();
        for value in expressions.flat_map(|one| one.values.iter_mut().flatten()) {
            *value = self.value(value);
        }
    }
}

/// The keys of labels that the selectors of a line ask for: only they are written.
pub(super) fn selected_keys(line: &Line, keys: &mut BTreeSet<String>) {
    let mut take = |selector: Option<&LabelSelector>| {
        let Some(selector) = selector else { return };
        keys.extend(
            selector
                .match_labels
                .iter()
                .flatten()
                .map(|(key, _value)| key.clone()),
        );
        let expressions = selector.match_expressions.iter().flatten();
        keys.extend(expressions.map(|expression| expression.key.clone()));
    };
    let mut more = Vec::new();
    for constraint in &line.topology_spread_constraints {
        take(constraint.label_selector.as_ref());
        more.extend(constraint.match_label_keys.iter().flatten().cloned());
    }
    let affinity = line.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let near = near.map(|pods| {
        (
            &pods.required_during_scheduling_ignored_during_execution,
            &pods.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let apart = apart.map(|pods| {
        (
            &pods.required_during_scheduling_ignored_during_execution,
            &pods.preferred_during_scheduling_ignored_during_execution,
        )
    });
    for (required, preferred) in near.into_iter().chain(apart) {
        let preferred = preferred.iter().flatten();
        let preferred = preferred.map(|weighted| &weighted.pod_affinity_term);
        for term in required.iter().flatten().chain(preferred) {
            take(term.label_selector.as_ref());
            more.extend(term.match_label_keys.iter().flatten().cloned());
            more.extend(term.mismatch_label_keys.iter().flatten().cloned());
        }
    }
    keys.extend(more);
}
