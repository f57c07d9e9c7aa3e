//! Machines with contents, as the solver keeps them.

use std::collections::BTreeMap;

use super::reduced::Reduced;

/// One machine and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its kind.
    pub kind: usize,
    /// Classes and how many of each, in class order.
    pub contents: Vec<(u32, u32)>,
}

/// Machines that hold everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// The machines.
    pub nodes: Vec<Node>,
    /// What they cost together.
    pub price: i64,
}

impl Fleet {
    /// Adds so many equal machines, each as the cheapest kind that holds the contents and is not
    /// dearer than `kind`.
    pub fn add<const D: usize>(
        &mut self,
        reduced: &Reduced<D>,
        kind: usize,
        contents: &[(u32, u32)],
        copies: u32,
    ) {
        let kind = reduced.cheapest(contents, kind).unwrap_or(kind);
        let price = reduced.kinds[kind].price.saturating_mul(i64::from(copies));
        self.price = self.price.saturating_add(price);
        for _copy in 0..copies {
            self.nodes.push(Node {
                kind,
                contents: contents.to_vec(),
            });
        }
    }

    /// Equal machines counted once.
    pub fn counted(&self) -> Vec<(Node, u32)> {
        let mut counted: BTreeMap<&Node, u32> = BTreeMap::new();
        for node in &self.nodes {
            *counted.entry(node).or_default() += 1;
        }
        counted
            .into_iter()
            .map(|(node, copies)| (node.clone(), copies))
            .collect()
    }
}
