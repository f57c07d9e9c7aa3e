//! Sets of label values: what a pod asks of a node, what a NodePool allows, what an offering is.

use std::collections::{BTreeMap, BTreeSet};

/// The values that one label key may take.
///
/// Either a finite set (`complement` false) or everything except a set (`complement` true), within
/// optional inclusive integer bounds; with any bound present, a value that is not an integer is
/// never a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// True when `values` lists what is excluded.
    pub complement: bool,
    /// The members, or the excluded values.
    pub values: BTreeSet<String>,
    /// Smallest integer that is a member.
    pub at_least: Option<i64>,
    /// Largest integer that is a member.
    pub at_most: Option<i64>,
    /// How many distinct values the offerings of one claim must keep between them.
    pub min_values: Option<u32>,
}

/// Requirements by label key; an absent key allows everything, the label's absence included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Requirements(pub BTreeMap<String, Requirement>);
