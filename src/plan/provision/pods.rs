//! Which of the pods that are alike goes where.
//!
//! Given classes and where each pod was expected before; handed out are names, first each to where it was
//! expected as far as its class still has a place there, the rest in name order: where places were given in turn,
//! the oldest pod has the first turn that nobody has had. How many of which class go
//! where is decided elsewhere: pods of one class take each other's place at no price, but a pod that was
//! nominated to a Node must not be called off from it for one that is alike, or kube-scheduler finds room
//! there that nobody has.

use std::collections::BTreeMap;

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
    snapshot: &'world Snapshot,
    /// By class, until they are dealt.
    free: Vec<Vec<&'world PodKey>>,
    /// Those that are expected at a bin, by class: whom kube-scheduler was told of first.
    kept: BTreeMap<(usize, &'world BinName), Vec<&'world PodKey>>,
    /// In which order places were given, by class.
    sequences: BTreeMap<usize, Sequence>,
    /// By class and the place in its sequence.
    hands: BTreeMap<(usize, usize), std::vec::IntoIter<&'world PodKey>>,
}

impl<'world> Pods<'world> {
    /// All pods of the classes.
    pub fn of(
        snapshot: &'world Snapshot,
        classes: &'world [Class],
        expected: &BTreeMap<&'world PodKey, Expected<'world>>,
        sequences: BTreeMap<usize, Sequence>,
    ) -> Self {
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
        Self {
            snapshot,
            free,
            kept,
            sequences,
            hands: BTreeMap::new(),
        }
    }

    /// The names of what each bin takes, given how many of which item; and `later` is what new nodes take of each,
    /// which [`Self::take`] gives. Comes first, and once.
    pub fn onto_bins<'items>(
        &mut self,
        items: &[Item],
        bins: &[(&'world BinName, &[(usize, u32)])],
        later: impl Iterator<Item = &'items (usize, u32)>,
    ) -> Vec<Vec<PodKey>> {
        let mut named: Vec<Vec<PodKey>> = Vec::with_capacity(bins.len());
        let mut missing = Vec::new();
        let mut stayed: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (place, (bin, taken)) in bins.iter().enumerate() {
            let mut names = Vec::new();
            for ((class, hand), count) in self.wanted(items, taken.iter()) {
                let kept = self.kept.get_mut(&(class, *bin));
                let stay = kept.map_or_else(Vec::new, |kept| {
                    kept.drain(..count.min(kept.len())).collect()
                });
                missing.push((place, (class, hand), count - stay.len()));
                *stayed.entry((class, hand)).or_default() += stay.len();
                names.extend(stay.into_iter().cloned());
            }
            named.push(names);
        }
        let mut wanted = self.wanted(items, later);
        for (_place, hand, count) in &missing {
            *wanted.entry(*hand).or_default() += count;
        }
        self.deal(wanted, stayed);
        for (place, hand, count) in missing {
            if let (Some(names), Some(hand)) = (named.get_mut(place), self.hands.get_mut(&hand)) {
                names.extend(hand.by_ref().take(count).cloned());
            }
        }
        for names in &mut named {
            names.sort_unstable();
        }
        named
    }

    /// Deals out whoever does not stay at a bin, by how many of a class are wanted at which of its places, and how many
    /// have stayed there.
    fn deal(
        &mut self,
        wanted: BTreeMap<(usize, usize), usize>,
        stayed: BTreeMap<(usize, usize), usize>,
    ) {
        let (mut wanted, mut stayed) = (by_class(wanted), by_class(stayed));
        for ((class, _bin), pods) in std::mem::take(&mut self.kept) {
            if let Some(free) = self.free.get_mut(class)
                && !pods.is_empty()
            {
                free.extend(pods);
                free.sort_unstable();
            }
        }
        for (class, mut names) in std::mem::take(&mut self.free).into_iter().enumerate() {
            let wanted = wanted.remove(&class).unwrap_or_default();
            let stayed = stayed.remove(&class).unwrap_or_default();
            let dealt = match self.sequences.get(&class) {
                Some(sequence) => {
                    // As kube-scheduler takes them: the oldest first.
                    names.sort_by_cached_key(|name| {
                        let pod = self.snapshot.pods.get(*name);
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
    ) -> BTreeMap<(usize, usize), usize> {
        let mut wanted: BTreeMap<(usize, usize), usize> = BTreeMap::new();
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

fn by_class(counts: BTreeMap<(usize, usize), usize>) -> BTreeMap<usize, BTreeMap<usize, usize>> {
    let mut by_class: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    for ((class, place), count) in counts {
        by_class.entry(class).or_default().insert(place, count);
    }
    by_class
}
