//! Which of the pods that are alike goes where.
//!
//! Given classes and where each pod was expected before; handed out are names, first each to where it was
//! expected as far as its class still has a place there, the rest in name order: where places were given in turn,
//! the oldest pod has the first turn that nobody has had. How many of which class go
//! where is decided elsewhere: pods of one class take each other's place at no price, but a pod that was
//! nominated to a Node must not be called off from it for one that is alike, or kube-scheduler finds room
//! there that nobody has.

use std::collections::BTreeMap;

use super::buy::Bought;
use super::class::Class;
use super::item::Item;
use super::stock::{Bin, BinName};
use super::topology::sequence::Sequence;
use crate::model::pod::PodKey;
use crate::model::snapshot::Snapshot;

/// Where a pod that still waits is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected<'world> {
    /// There, and kube-scheduler was told so.
    Nominated(&'world BinName),
    /// There, by the last plan.
    Planned(&'world BinName),
}

impl<'world> Expected<'world> {
    fn bin(self) -> &'world BinName {
        match self {
            Self::Nominated(bin) | Self::Planned(bin) => bin,
        }
    }
}

/// Where pods that still wait are expected, by what was said of them and, failing that, by the last plan.
pub fn expected<'world>(
    snapshot: &'world Snapshot,
    bins: &'world [Bin],
) -> BTreeMap<&'world PodKey, Expected<'world>> {
    if bins.is_empty() {
        return BTreeMap::new();
    }
    let names: BTreeMap<&str, &BinName> = bins
        .iter()
        .map(|bin| match &bin.name {
            BinName::Node(name) | BinName::Claim(name) => (name.as_str(), &bin.name),
        })
        .collect();
    let nodes_of_claims = snapshot.nodes_of_claims();
    let mut expected = BTreeMap::new();
    for (name, pods) in &snapshot.expected {
        let node = nodes_of_claims.get(name.as_str());
        let node = node.and_then(|node| names.get(node.name.as_str()));
        if let Some(bin) = node.or_else(|| names.get(name.as_str())) {
            expected.extend(pods.iter().map(|pod| (pod, Expected::Planned(bin))));
        }
    }
    for (key, pod) in &snapshot.pods {
        let nominated = pod.nominated_node.as_deref();
        if let Some(bin) = nominated.and_then(|name| names.get(name)) {
            expected.insert(key, Expected::Nominated(bin));
        }
    }
    expected
}

/// Hands out the pods of each class.
#[derive(Debug)]
pub struct Pods<'world> {
    /// In which order places were given, by class.
    sequences: BTreeMap<usize, Sequence>,
    /// By class and the place in its sequence.
    hands: BTreeMap<(usize, usize), std::vec::IntoIter<&'world PodKey>>,
}

/// So many pods, by class and the place in its sequence.
type Counts = BTreeMap<(usize, usize), usize>;

/// What takes pods: how many of which items each bin does, and how many of each the new nodes do.
#[derive(Debug, Clone, Copy)]
pub struct Takers<'world, 'items> {
    /// The items.
    pub items: &'items [Item],
    /// The bins that take some.
    pub bins: &'items [(&'world BinName, &'items [(usize, u32)])],
    /// What is bought.
    pub nodes: &'items [Bought],
}

impl<'world> Pods<'world> {
    /// Deals all pods of the classes out. Given back with it are the names of what each bin takes; what nodes take is left
    /// for [`Self::take`].
    pub fn dealt(
        (snapshot, classes): (&'world Snapshot, &'world [Class]),
        expected: &BTreeMap<&'world PodKey, Expected<'world>>,
        sequences: BTreeMap<usize, Sequence>,
        takers: Takers<'world, '_>,
    ) -> (Self, Vec<Vec<PodKey>>) {
        let mut pods = Self {
            sequences,
            hands: BTreeMap::new(),
        };
        let (mut free, mut kept) = told_apart(classes, expected);
        let mut named: Vec<Vec<PodKey>> = Vec::with_capacity(takers.bins.len());
        let mut missing = Vec::new();
        let mut stayed = Counts::new();
        for (index, (bin, taken)) in takers.bins.iter().enumerate() {
            let mut names = Vec::new();
            for ((class, place), count) in pods.wanted(takers.items, taken.iter()) {
                let kept = kept.get_mut(&(class, *bin));
                let stay = kept.map_or_else(Vec::new, |kept| {
                    kept.drain(..count.min(kept.len())).collect()
                });
                missing.push((index, (class, place), count - stay.len()));
                *stayed.entry((class, place)).or_default() += stay.len();
                names.extend(stay.into_iter().cloned());
            }
            named.push(names);
        }
        let later = takers.nodes.iter().flat_map(|node| &node.contents);
        let mut wanted = pods.wanted(takers.items, later);
        for (_index, hand, count) in &missing {
            *wanted.entry(*hand).or_default() += count;
        }
        // Whom their bins have no place for any more goes anywhere.
        for ((class, _bin), left) in kept {
            if let Some(free) = free.get_mut(class) {
                free.extend(left);
            }
        }
        pods.deal(snapshot, free, (wanted, stayed));
        for (index, hand, count) in missing {
            if let (Some(names), Some(hand)) = (named.get_mut(index), pods.hands.get_mut(&hand)) {
                names.extend(hand.by_ref().take(count).cloned());
            }
        }
        for names in &mut named {
            names.sort_unstable();
        }
        (pods, named)
    }

    /// Deals out those who do not stay at a bin, by class, where so many are wanted and so many have stayed.
    fn deal(
        &mut self,
        snapshot: &Snapshot,
        free: Vec<Vec<&'world PodKey>>,
        (wanted, stayed): (Counts, Counts),
    ) {
        let (mut wanted, mut stayed) = (by_class(wanted), by_class(stayed));
        for (class, mut names) in free.into_iter().enumerate() {
            names.sort_unstable();
            let wanted = wanted.remove(&class).unwrap_or_default();
            let stayed = stayed.remove(&class).unwrap_or_default();
            let dealt = match self.sequences.get(&class) {
                Some(sequence) => {
                    // As kube-scheduler takes them: the oldest first.
                    names.sort_by_cached_key(|name| {
                        let pod = snapshot.pods.get(*name);
                        pod.map(|pod| pod.created)
                    });
                    sequence.deal(&names, wanted, stayed)
                }
                None => BTreeMap::from([(0, names)]),
            };
            for (place, names) in dealt {
                self.hands.insert((class, place), names.into_iter());
            }
        }
    }

    /// The pods of these many items.
    pub fn take(&mut self, item: &Item, count: u32) -> Vec<PodKey> {
        let mut pods = Vec::new();
        for (class, each) in &item.content {
            let wanted = usize::try_from(each.saturating_mul(count)).unwrap_or(usize::MAX);
            let place = self.place(*class, item);
            if let Some(hand) = self.hands.get_mut(&(*class, place)) {
                pods.extend(hand.by_ref().take(wanted).cloned());
            }
        }
        pods
    }

    /// The pods that nobody took, by class.
    pub fn rest(self) -> impl Iterator<Item = (usize, Vec<&'world PodKey>)> {
        let mut rest: BTreeMap<usize, Vec<&PodKey>> = BTreeMap::new();
        for ((class, _place), hand) in self.hands.into_iter().filter(|(_at, hand)| hand.len() > 0) {
            rest.entry(class).or_default().extend(hand);
        }
        rest.into_iter().map(|(class, mut names)| {
            names.sort_unstable();
            (class, names)
        })
    }

    /// The place of an item in the sequence of a class.
    fn place(&self, class: usize, item: &Item) -> usize {
        let sequence = self.sequences.get(&class);
        sequence.map_or(0, |sequence| sequence.place(item))
    }

    /// How many pods of which class are wanted at which of its places for so many of each item.
    fn wanted<'items>(
        &self,
        items: &[Item],
        taken: impl Iterator<Item = &'items (usize, u32)>,
    ) -> Counts {
        let mut wanted = Counts::new();
        for (index, count) in taken {
            let Some(item) = items.get(*index) else {
                continue;
            };
            for (class, each) in &item.content {
                let number = usize::try_from(each.saturating_mul(*count)).unwrap_or(usize::MAX);
                let known = wanted
                    .entry((*class, self.place(*class, item)))
                    .or_default();
                *known = known.saturating_add(number);
            }
        }
        wanted
    }
}

/// Pods by class, and by class and bin.
type Apart<'world> = (
    Vec<Vec<&'world PodKey>>,
    BTreeMap<(usize, &'world BinName), Vec<&'world PodKey>>,
);

/// Those that are expected nowhere, and those that are expected at a bin: whom kube-scheduler was told of first.
fn told_apart<'world>(
    classes: &'world [Class],
    expected: &BTreeMap<&'world PodKey, Expected<'world>>,
) -> Apart<'world> {
    let mut kept: BTreeMap<_, Vec<&PodKey>> = BTreeMap::new();
    let mut free = Vec::with_capacity(classes.len());
    for (index, class) in classes.iter().enumerate() {
        let mut there = Vec::new();
        let mut others = Vec::new();
        for pod in &*class.pods {
            match expected.get(pod) {
                Some(place) => there.push((*place, pod)),
                None => others.push(pod),
            }
        }
        there.sort_unstable();
        for (place, pod) in there {
            kept.entry((index, place.bin())).or_default().push(pod);
        }
        free.push(others);
    }
    (free, kept)
}

fn by_class(counts: Counts) -> BTreeMap<usize, BTreeMap<usize, usize>> {
    let mut by_class: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    for ((class, place), count) in counts {
        by_class.entry(class).or_default().insert(place, count);
    }
    by_class
}
