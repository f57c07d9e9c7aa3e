//! In which order the pods of a class were given their places.
//!
//! Given each place in turn; given back which pod, counted from the first, has which. Constraints that couple pods hold
//! after every turn, not only at the end of them all, and kube-scheduler asks for each pod by itself: so the first pod
//! that it takes must have the place of the first turn. Which pods are taken first is decided elsewhere.

use std::collections::BTreeMap;

use crate::plan::provision::item::{Domain, Item};

/// Places in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Numbers of places, by what a node has there.
    places: BTreeMap<Vec<Domain>, usize>,
    /// Places by turn.
    turns: Vec<usize>,
}

impl Sequence {
    /// What a node has at each place, and by turn the index of its place.
    pub(super) fn of(places: Vec<Vec<Domain>>, mut turns: Vec<usize>) -> Self {
        let mut numbers = BTreeMap::new();
        let number_of: Vec<usize> = places
            .into_iter()
            .map(|place| {
                let next = numbers.len();
                *numbers.entry(place).or_insert(next)
            })
            .collect();
        for turn in &mut turns {
            *turn = number_of.get(*turn).copied().unwrap_or(number_of.len());
        }
        Self {
            places: numbers,
            turns,
        }
    }

    /// The place of an item, or one more than the last for an item that is at none of them. An item of several classes
    /// has the domains of all.
    pub fn place(&self, item: &Item) -> usize {
        let within = |place: &Vec<Domain>| place.iter().all(|domain| item.domains.contains(domain));
        let place = self.places.get(&item.domains).or_else(|| {
            let mut places = self.places.iter();
            places.find_map(|(place, number)| within(place).then_some(number))
        });
        place.copied().unwrap_or(self.places.len())
    }

    /// Deals out names: to each place as many as are wanted there, and the others to the place after the last. Turns of
    /// places that want no more are passed over.
    pub fn deal<Name: Copy>(
        &self,
        names: &[Name],
        mut wanted: BTreeMap<usize, usize>,
    ) -> BTreeMap<usize, Vec<Name>> {
        let mut dealt: BTreeMap<usize, Vec<Name>> = BTreeMap::new();
        let mut names = names.iter().copied();
        for place in &self.turns {
            let Some(open) = wanted.get_mut(place).filter(|open| **open > 0) else {
                continue;
            };
            let Some(name) = names.next() else { break };
            *open -= 1;
            dealt.entry(*place).or_default().push(name);
        }
        for (place, open) in wanted {
            dealt
                .entry(place)
                .or_default()
                .extend(names.by_ref().take(open));
        }
        dealt.entry(self.places.len()).or_default().extend(names);
        dealt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Vec<Domain> {
        vec![Domain::exactly("zone".to_owned(), Some(name.to_owned()))]
    }

    fn at(name: &str) -> Item {
        Item {
            domains: zone(name),
            ..Item::default()
        }
    }

    #[test]
    fn names_follow_the_turns_that_are_left() {
        let places = vec![zone("a"), zone("b"), zone("c")];
        let sequence = Sequence::of(places, vec![0, 1, 2, 0]);
        let dealt = sequence.deal(
            &["1", "2", "3", "4"],
            BTreeMap::from([(0, 2), (1, 1), (2, 1)]),
        );
        assert_eq!(dealt.get(&sequence.place(&at("a"))), Some(&vec!["1", "4"]));
        assert_eq!(dealt.get(&sequence.place(&at("b"))), Some(&vec!["2"]));
        assert_eq!(dealt.get(&sequence.place(&at("c"))), Some(&vec!["3"]));
        // Zone b has what it wants; one more is wanted in zone c than it had turns; and one is left.
        let dealt = sequence.deal(
            &["1", "2", "3", "4"],
            BTreeMap::from([(0, 1), (1, 0), (2, 2)]),
        );
        assert_eq!(dealt.get(&sequence.place(&at("a"))), Some(&vec!["1"]));
        assert_eq!(dealt.get(&sequence.place(&at("c"))), Some(&vec!["2", "3"]));
        assert_eq!(dealt.get(&sequence.place(&at("d"))), Some(&vec!["4"]));
    }

    #[test]
    fn without_turns_there_is_one_place() {
        let sequence = Sequence::default();
        let place = sequence.place(&at("a"));
        let dealt = sequence.deal(&["1", "2"], BTreeMap::from([(place, 1)]));
        assert_eq!(dealt.get(&place), Some(&vec!["1", "2"]));
    }
}
