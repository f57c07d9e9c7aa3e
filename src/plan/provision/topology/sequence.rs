//! In which order the pods of a class were given their places.
//!
//! Given each place in turn; given back which pod, counted from the first, has which. Constraints that couple pods hold
//! after every turn, not only at the end of them all, and kube-scheduler asks for each pod by itself: so the first pod
//! that it takes must have the place of the first turn. Which pods it takes first is decided elsewhere.

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
    /// What a node has at each place, by an index, and by turn the index of the place.
    pub(super) fn of(places: BTreeMap<usize, Vec<Domain>>, mut turns: Vec<usize>) -> Self {
        let mut numbers = BTreeMap::new();
        let mut number_of = BTreeMap::new();
        for (index, place) in places {
            let next = numbers.len();
            number_of.insert(index, *numbers.entry(place).or_insert(next));
        }
        turns.retain_mut(|turn| {
            let number = number_of.get(turn);
            number.inspect(|number| *turn = **number).is_some()
        });
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

    /// Deals out names: to each place as many as are wanted there, and the others to the place after the last. Those that
    /// have stayed at a place have had its first turns; turns of places that want no more are passed over.
    pub fn deal<Name: Copy>(
        &self,
        names: &[Name],
        mut wanted: BTreeMap<usize, usize>,
        mut stayed: BTreeMap<usize, usize>,
    ) -> BTreeMap<usize, Vec<Name>> {
        let mut dealt: BTreeMap<usize, Vec<Name>> = BTreeMap::new();
        let mut names = names.iter().copied();
        for place in &self.turns {
            if takes_one(&mut stayed, *place) || !takes_one(&mut wanted, *place) {
                continue;
            }
            dealt.entry(*place).or_default().extend(names.next());
        }
        // What no turn was taken for goes round.
        while wanted.values().any(|open| *open > 0) && names.len() > 0 {
            for (place, open) in wanted.iter_mut().filter(|(_place, open)| **open > 0) {
                *open -= 1;
                dealt.entry(*place).or_default().extend(names.next());
            }
        }
        dealt.entry(self.places.len()).or_default().extend(names);
        dealt
    }
}

/// Takes one off what a place has; false when it has nothing.
fn takes_one(counts: &mut BTreeMap<usize, usize>, place: usize) -> bool {
    let count = counts.get_mut(&place).filter(|count| **count > 0);
    count.map(|count| *count -= 1).is_some()
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

    fn three_zones(turns: &[usize]) -> Sequence {
        let places = [zone("a"), zone("b"), zone("c")];
        Sequence::of(places.into_iter().enumerate().collect(), turns.to_vec())
    }

    /// Who goes to zones a, b and c, and who is left.
    fn dealt(
        sequence: &Sequence,
        names: &[&'static str],
        wanted: [usize; 3],
        stayed: [usize; 3],
    ) -> [Vec<&'static str>; 4] {
        let counts = |counts: [usize; 3]| counts.into_iter().enumerate().collect();
        let mut dealt = sequence.deal(names, counts(wanted), counts(stayed));
        ["a", "b", "c", "d"]
            .map(|zone| dealt.remove(&sequence.place(&at(zone))).unwrap_or_default())
    }

    #[test]
    fn names_follow_the_turns_that_are_left() {
        let sequence = three_zones(&[0, 1, 2, 0]);
        let [a, b, c, rest] = dealt(&sequence, &["1", "2", "3", "4"], [2, 1, 1], [0, 0, 0]);
        assert_eq!(
            [a, b, c, rest],
            [vec!["1", "4"], vec!["2"], vec!["3"], vec![]]
        );
        // Zone b has what it wants; one more is wanted in zone c than it had turns; and one is left.
        let [a, b, c, rest] = dealt(&sequence, &["1", "2", "3", "4"], [1, 0, 2], [0, 0, 0]);
        assert_eq!(
            [a, b, c, rest],
            [vec!["1"], vec![], vec!["2", "3"], vec!["4"]]
        );
    }

    #[test]
    fn who_stayed_has_had_the_first_turn() {
        let sequence = three_zones(&[0, 1, 0]);
        let [a, b, ..] = dealt(&sequence, &["2", "3"], [1, 1, 0], [1, 0, 0]);
        assert_eq!([a, b], [vec!["3"], vec!["2"]]);
    }

    #[test]
    fn what_no_turn_was_taken_for_goes_round() {
        let sequence = three_zones(&[]);
        let [a, b, c, rest] = dealt(&sequence, &["1", "2", "3", "4", "5"], [2, 1, 1], [0, 0, 0]);
        assert_eq!(
            [a, b, c, rest],
            [vec!["1", "4"], vec!["2"], vec!["3"], vec!["5"]]
        );
    }

    #[test]
    fn without_turns_there_is_one_place() {
        let sequence = Sequence::default();
        let place = sequence.place(&at("a"));
        let dealt = sequence.deal(&["1", "2"], BTreeMap::from([(place, 1)]), BTreeMap::new());
        assert_eq!(dealt.get(&place), Some(&vec!["1", "2"]));
    }
}
