//! In which zones the volumes of pods are.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::labels;
use crate::model::workload::VolumeClaim;

/// Zones by volume claim, `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Zones(BTreeMap<String, BTreeSet<String>>);

impl Zones {
    /// The zones that claims are held to.
    pub fn new<'claims>(
        claims: impl IntoIterator<Item = (&'claims String, &'claims VolumeClaim)>,
    ) -> Self {
        let held = claims.into_iter().filter_map(|(key, claim)| {
            let zones: BTreeSet<String> = claim
                .node_terms
                .iter()
                .flat_map(|term| &term.expressions)
                .filter(|expression| expression.key == labels::ZONE && expression.operator == "In")
                .flat_map(|expression| expression.values.iter().cloned())
                .collect();
            (!zones.is_empty()).then(|| (key.clone(), zones))
        });
        Self(held.collect())
    }

    /// The zones in which all these claims can be; none is anywhere.
    pub(super) fn of(&self, claims: &[String]) -> Vec<String> {
        let mut common: Option<BTreeSet<String>> = None;
        for zones in claims.iter().filter_map(|claim| self.0.get(claim)) {
            common = Some(match common {
                None => zones.clone(),
                Some(known) => known.intersection(zones).cloned().collect(),
            });
        }
        common.unwrap_or_default().into_iter().collect()
    }
}
