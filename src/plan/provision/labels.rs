//! Labels of nodes that exist, are on their way, or could be bought, behind one question.
//!
//! Given anything that can name the value of a label; given back whether node selectors and
//! affinity terms hold there. Concrete labels need no algebra: every candidate is one type in one
//! zone under one capacity type.

use std::collections::BTreeSet;

use crate::model::labels::LabelSet;
use crate::model::pod::{NodeTerm, PodSpec};
use crate::model::requirement::{Requirement, RequirementError, Requirements};

/// The label that holds a node's own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The zone label.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The capacity type label.
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// The instance type label.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// Something that has labels.
pub trait Labelled {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;

    /// The name of the node, when it has one already.
    fn node_name(&self) -> Option<&str>;
}

/// What a pod demands of a node's labels: the terms are alternatives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeDemand {
    /// Node selector and one required term each; never empty.
    pub terms: Vec<DemandTerm>,
}

/// One alternative of a demand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct DemandTerm {
    /// Over labels.
    pub labels: Requirements,
    /// Over the node's name.
    pub name: Option<Requirement>,
}

impl DemandTerm {
    /// True when a node with these labels is fine.
    pub fn accepts(&self, node: &impl Labelled) -> bool {
        self.labels
            .0
            .iter()
            .all(|(key, requirement)| requirement.accepts(node.label(key)))
            // No name is asked for that a machine which is not there could have, but each may be excluded.
            && self
                .name
                .as_ref()
                .is_none_or(|requirement| requirement.accepts(node.node_name()))
    }
}

impl NodeDemand {
    /// Reads node selector and required node affinity of a pod.
    ///
    /// # Errors
    /// The key and what is wrong when no alternative can be read.
    pub fn of(spec: &PodSpec) -> Result<Self, (String, RequirementError)> {
        let mut selector = Requirements::new();
        for (key, value) in &spec.node_selector {
            selector.add_label(key, value);
        }
        let terms: &[NodeTerm] = spec
            .constraints
            .as_ref()
            .map_or(&[], |constraints| &constraints.required_node_terms);
        if terms.is_empty() {
            return Ok(Self {
                terms: vec![DemandTerm {
                    labels: selector,
                    name: None,
                }],
            });
        }
        let mut readable = Vec::new();
        let mut problem = None;
        for term in terms {
            match read_term(term, &selector) {
                Ok(Some(term)) => readable.push(term),
                Ok(None) => {}
                Err(error) => problem = Some(error),
            }
        }
        match (readable.is_empty(), problem) {
            (true, Some(error)) => Err(error),
            // Empty terms match nothing: a demand that no node meets.
            (true, None) => Ok(Self {
                terms: vec![DemandTerm {
                    labels: Requirements::new(),
                    name: Some(Requirement::nothing()),
                }],
            }),
            (false, _) => Ok(Self { terms: readable }),
        }
    }

    /// True when some alternative accepts the node.
    pub fn accepts(&self, node: &impl Labelled) -> bool {
        self.terms.iter().any(|term| term.accepts(node))
    }

    /// The keys that decide.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.terms
            .iter()
            .flat_map(|term| term.labels.0.keys().map(String::as_str))
    }

    /// Both demands at once: every combination of alternatives.
    pub fn and(&self, other: &[DemandTerm]) -> Self {
        let mut terms = BTreeSet::new();
        for own in &self.terms {
            for theirs in other {
                let mut labels = own.labels.clone();
                labels.add_all(&theirs.labels);
                let name = match (&own.name, &theirs.name) {
                    (Some(own), Some(theirs)) => Some(own.intersection(theirs)),
                    (own, theirs) => own.clone().or_else(|| theirs.clone()),
                };
                terms.insert(DemandTerm { labels, name });
            }
        }
        Self {
            terms: terms.into_iter().collect(),
        }
    }
}

/// A term with the node selector in it; `None` for an empty term, which matches nothing.
pub fn read_term(
    term: &NodeTerm,
    selector: &Requirements,
) -> Result<Option<DemandTerm>, (String, RequirementError)> {
    if term.expressions.is_empty() && term.fields.is_empty() {
        return Ok(None);
    }
    let mut labels = Requirements::from_expressions(&term.expressions)?;
    labels.add_all(selector);
    let fields = Requirements::from_expressions(&term.fields)?;
    let name = match fields.0.len() {
        0 => None,
        1 => Some(
            fields
                .get("metadata.name")
                .cloned()
                .unwrap_or_else(Requirement::nothing),
        ),
        _ => Some(Requirement::nothing()),
    };
    Ok(Some(DemandTerm { labels, name }))
}

/// Plain labels of a node that exists.
#[derive(Debug, Clone, Copy)]
pub struct NodeLabels<'world> {
    /// The node's name.
    pub name: &'world str,
    /// Its labels.
    pub labels: &'world LabelSet,
}

impl Labelled for NodeLabels<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .get(key)
            .map(String::as_str)
            .or_else(|| (key == HOSTNAME).then_some(self.name))
    }

    fn node_name(&self) -> Option<&str> {
        Some(self.name)
    }
}
