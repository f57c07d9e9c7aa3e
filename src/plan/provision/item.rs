//! What is packed: pods of one class with the same choice of place.
//!
//! A class becomes several items where its pods are divided between zones, and several classes
//! become one item where pods must share a node.

use std::collections::BTreeSet;

use super::class::Class;
use crate::plan::pack::Bits;
use crate::plan::pack::problem::Relation;

/// The pods of one class in an item.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The class.
    pub class: usize,
    /// How many of its pods one item holds.
    pub each: u32,
    /// What one pod takes, by dimension.
    pub size: Vec<i64>,
    /// Groups that limit what shares its node.
    pub relations: Vec<Relation>,
}

/// What a node must have of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// The label.
    pub key: String,
    /// Values that it may have.
    pub values: BTreeSet<String>,
    /// It may lack the label.
    pub or_none: bool,
}

impl Domain {
    /// One of these values.
    pub const fn one_of(key: String, values: BTreeSet<String>) -> Self {
        Self {
            key,
            values,
            or_none: false,
        }
    }

    /// This value, or for `None` a node without the label.
    pub fn exactly(key: String, value: Option<String>) -> Self {
        Self {
            key,
            or_none: value.is_none(),
            values: value.into_iter().collect(),
        }
    }

    /// True for a node that has this value of the label, or lacks it.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        value.map_or(self.or_none, |value| self.values.contains(value))
    }

    /// The value, when nothing else is allowed.
    pub fn single(&self) -> Option<&String> {
        let only = self.values.len() == 1 && !self.or_none;
        self.values.first().filter(|_value| only)
    }
}

/// Equal things to place.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// Class index and how many of its pods one item holds.
    pub content: Vec<(usize, u32)>,
    /// What one takes, by dimension.
    pub size: Vec<i64>,
    /// How many there are.
    pub count: u32,
    /// Candidates by preference: each level is tried when those before it cannot take the item.
    pub levels: Vec<Bits>,
    /// What its node must have of some labels.
    pub domains: Vec<Domain>,
    /// Groups that limit what shares its node.
    pub relations: Vec<Relation>,
    /// Priority of its pods.
    pub priority: i32,
    /// What it is made of, each class by itself: what a lower bound may count on.
    pub parts: Vec<Part>,
    /// For pods that lead others: the same without those that follow, for when there is no place
    /// for all of them together.
    pub leader: Option<Box<Self>>,
}

impl Item {
    /// One item for each pod of a class, with no choice of place made.
    pub fn of_class(index: usize, class: &Class) -> Self {
        Self {
            content: vec![(index, 1)],
            size: class.size.clone(),
            count: u32::try_from(class.pods.len()).unwrap_or(u32::MAX),
            levels: class.levels.clone(),
            domains: Vec::new(),
            relations: Vec::new(),
            priority: class.spec.priority,
            parts: vec![Part {
                class: index,
                each: 1,
                size: class.size.clone(),
                relations: Vec::new(),
            }],
            leader: None,
        }
    }

    /// The candidates of all its levels.
    pub fn may_use(&self) -> Bits {
        let mut levels = self.levels.iter();
        let mut all = levels.next().cloned().unwrap_or_default();
        for level in levels {
            all.add_all(level);
        }
        all
    }

    /// Keeps only these candidates, and drops levels that are empty then.
    pub fn restrict(&mut self, candidates: &Bits) {
        for level in &mut self.levels {
            level.retain(candidates);
        }
        self.levels.retain(|level| !level.is_empty());
    }

    /// Takes so many pods of a class out of each of the items.
    pub fn remove(&mut self, class: usize, count: u32) {
        // A class may be in it several times.
        let mut rest = count;
        for (_class, each) in self.content.iter_mut().filter(|(own, _each)| *own == class) {
            let gone = rest.min(*each);
            *each -= gone;
            rest -= gone;
        }
        let mut rest = count;
        for part in self.parts.iter_mut().filter(|part| part.class == class) {
            let gone = rest.min(part.each);
            part.each -= gone;
            rest -= gone;
        }
        self.content.retain(|(_class, each)| *each > 0);
        self.parts.retain(|part| part.each > 0);
        self.size = vec![0; self.size.len()];
        self.relations.clear();
        for part in &self.parts {
            for (sum, size) in self.size.iter_mut().zip(&part.size) {
                *sum = sum.saturating_add(size.saturating_mul(i64::from(part.each)));
            }
            add_relations(&mut self.relations, &part.relations, part.each);
        }
    }

    /// The class, when the item is a single pod of it.
    pub fn main_class(&self) -> Option<usize> {
        match self.content.as_slice() {
            [(class, 1)] => Some(*class),
            _ => None,
        }
    }
}

/// Adds the relations of so many pods to those of what they share a node with.
pub fn add_relations(sum: &mut Vec<Relation>, relations: &[Relation], count: u32) {
    for relation in relations {
        let weight = relation.weight.saturating_mul(count);
        match sum.iter_mut().find(|own| own.group == relation.group) {
            Some(own) => {
                own.weight = own.weight.saturating_add(weight);
                own.cap = own.cap.into_iter().chain(relation.cap).min();
            }
            None => sum.push(Relation {
                weight,
                ..*relation
            }),
        }
    }
}
