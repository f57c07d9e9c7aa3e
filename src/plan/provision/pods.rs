//! Which of the pods that are alike goes where.
//!
//! Given classes and where each pod was expected before; handed out are names, first each to where it was
//! expected as far as its class still has a place there, the rest in name order. How many of which class go
//! where is decided elsewhere: pods of one class take each other's place at no price, but a pod that was
//! nominated to a Node must not be called off from it for one that is alike, or kube-scheduler finds room
//! there that nobody has.

use std::collections::BTreeMap;

use super::class::Class;
use super::item::Item;
use super::stock::{Bin, BinName};
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
    /// By class, in name order.
    free: Vec<Vec<&'world PodKey>>,
    /// How many of `free` are taken, by class.
    next: Vec<usize>,
    /// Those that are expected at a bin, by class: whom kube-scheduler was told of first.
    kept: BTreeMap<(usize, &'world BinName), Vec<&'world PodKey>>,
}

impl<'world> Pods<'world> {
    /// All pods of the classes.
    pub fn of(
        classes: &'world [Class],
        expected: &BTreeMap<&'world PodKey, Expected<'world>>,
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
            next: vec![0; free.len()],
            free,
            kept,
        }
    }

    /// The names of what each bin takes, given how many of which item.
    pub fn onto_bins(
        &mut self,
        items: &[Item],
        bins: &[(&'world BinName, &[(usize, u32)])],
    ) -> Vec<Vec<PodKey>> {
        let wanted: Vec<BTreeMap<usize, usize>> = bins
            .iter()
            .map(|(_bin, taken)| of_classes(items, taken))
            .collect();
        let mut named: Vec<Vec<PodKey>> = Vec::with_capacity(bins.len());
        let mut missing = Vec::new();
        for (place, ((bin, _taken), wanted)) in bins.iter().zip(wanted).enumerate() {
            let mut names = Vec::new();
            for (class, count) in wanted {
                let kept = self.kept.get_mut(&(class, *bin));
                let stay = kept.map_or_else(Vec::new, |kept| {
                    kept.drain(..count.min(kept.len())).collect()
                });
                missing.push((place, class, count - stay.len()));
                names.extend(stay.into_iter().cloned());
            }
            named.push(names);
        }
        self.release();
        for (place, class, count) in missing {
            let more = self.take_of(class, count);
            if let Some(names) = named.get_mut(place) {
                names.extend(more);
            }
        }
        for names in &mut named {
            names.sort_unstable();
        }
        named
    }

    /// Whom their bins have no place for any more goes anywhere.
    fn release(&mut self) {
        for ((class, _bin), pods) in std::mem::take(&mut self.kept) {
            if let Some(free) = self.free.get_mut(class)
                && !pods.is_empty()
            {
                free.extend(pods);
                free.sort_unstable();
            }
        }
    }

    /// The pods of these many items.
    pub fn take(&mut self, item: &Item, count: u32) -> Vec<PodKey> {
        let mut pods = Vec::new();
        for (class, each) in &item.content {
            let wanted = usize::try_from(each.saturating_mul(count)).unwrap_or(usize::MAX);
            pods.extend(self.take_of(*class, wanted));
        }
        pods
    }

    fn take_of(&mut self, class: usize, wanted: usize) -> Vec<PodKey> {
        let (Some(free), Some(next)) = (self.free.get(class), self.next.get_mut(class)) else {
            return Vec::new();
        };
        let end = next.saturating_add(wanted).min(free.len());
        let taken = free.get(*next..end).unwrap_or_default();
        *next = end;
        taken.iter().copied().cloned().collect()
    }

    /// The pods that nobody took, by class.
    pub fn rest(self) -> impl Iterator<Item = (usize, Vec<&'world PodKey>)> {
        self.free
            .into_iter()
            .zip(self.next)
            .enumerate()
            .filter_map(|(class, (mut free, next))| {
                let rest = free.split_off(next.min(free.len()));
                (!rest.is_empty()).then_some((class, rest))
            })
    }
}

fn of_classes(items: &[Item], taken: &[(usize, u32)]) -> BTreeMap<usize, usize> {
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, count) in taken {
        for (class, each) in items.get(*index).into_iter().flat_map(|item| &item.content) {
            let number = usize::try_from(each.saturating_mul(*count)).unwrap_or(usize::MAX);
            let known = wanted.entry(*class).or_default();
            *known = known.saturating_add(number);
        }
    }
    wanted
}
