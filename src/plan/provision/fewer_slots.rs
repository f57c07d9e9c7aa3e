//! How many slots of reservations are taken where a limit on nodes binds.
//!
//! Given how many could be taken, and somebody who tries out how many pods wait with a number of them; given
//! back the number that leaves the fewest waiting, and of several the largest. There are few tries, so that each
//! of them has something of the budget. Nothing is bought here.

/// How often [`search`] tries at most: halving, and then between the best number and the next one that was
/// worse.
pub(super) const fn most_tries(slots: u32) -> u32 {
    match slots.checked_ilog2() {
        Some(halvings) => 2 * (halvings + 1),
        None => 0,
    }
}

/// The most slots below `slots` that leave the fewest pods waiting, if those are fewer than `with_all` are, with
/// what came of trying them. `waiting` reads how many wait of what came of a try, the lesser the better;
/// `tried` gives back nothing once there is no time for more.
///
/// Of fewer slots more pods wait again at some point, because machines are what the limit counts. Numbers in
/// between are not tried where that is so: what is found is then good, and not always the best.
pub(super) fn search<T>(
    slots: u32,
    with_all: &[u64],
    waiting: fn(&T) -> &[u64],
    mut tried: impl FnMut(u32) -> Option<T>,
) -> Option<(u32, T)> {
    let mut best: Option<(u32, T)> = None;
    // With so many slots more pods wait than with the best number.
    let mut too_many = slots;
    let mut most = slots;
    let leaves_some = |found: &(u32, T)| waiting(&found.1).iter().any(|pods| *pods > 0);
    while most > 0 && best.as_ref().is_none_or(leaves_some) {
        let Some(found) = tried(most / 2) else {
            return best;
        };
        let known = best
            .as_ref()
            .map_or(with_all, |(_most, best)| waiting(best));
        if waiting(&found) < known {
            too_many = most;
            best = Some((most / 2, found));
        }
        most /= 2;
    }
    let (mut most, mut best) = best?;
    while too_many - most > 1 {
        let between = most + (too_many - most) / 2;
        let Some(found) = tried(between) else {
            break;
        };
        if waiting(&found) <= waiting(&best) {
            (most, best) = (between, found);
        } else {
            too_many = between;
        }
    }
    Some((most, best))
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;

    /// The most slots for which a search is tried out: more than any account has in one NodePool.
    const MANY: u32 = 300;

    fn waiting(found: &Vec<u64>) -> &[u64] {
        found
    }

    /// A world in which every slot beyond `enough` keeps one pod waiting.
    fn beyond(enough: u32) -> impl Fn(u32) -> Vec<u64> {
        move |slots: u32| vec![u64::from(slots.saturating_sub(enough))]
    }

    #[test]
    fn the_most_slots_that_leave_nobody_waiting_are_found_within_the_tries() {
        for slots in 1..=MANY {
            for enough in 0..slots {
                let world = beyond(enough);
                let mut tries = 0;
                let found = search(slots, &world(slots), waiting, |number| {
                    tries += 1;
                    assert!(number < slots, "all slots were tried before");
                    Some(world(number))
                });
                assert_eq!(found, Some((enough, vec![0])), "of {slots}");
                assert!(
                    tries <= most_tries(slots),
                    "{tries} tries for {enough} of {slots}"
                );
            }
        }
    }

    #[test]
    fn where_all_numbers_leave_as_many_waiting_all_slots_are_taken_after_few_tries() {
        for slots in 1..=MANY {
            let mut tries = 0;
            let found = search(slots, &[3, 1], waiting, |_number| {
                tries += 1;
                Some(vec![3, 1])
            });
            assert_eq!(found, None);
            assert!(tries <= most_tries(slots) / 2, "{tries} of {slots}");
        }
    }

    #[test]
    fn pods_of_high_priority_count_before_any_number_of_others() {
        let world = |number: u32| {
            let keeps = u64::from(number >= 4);
            vec![keeps, u64::from(10 - number)]
        };
        let found = search(10, &world(10), waiting, |number| Some(world(number)));
        assert_eq!(found, Some((3, vec![0, 7])));
    }

    #[test]
    fn when_time_is_up_the_best_so_far_counts_and_nothing_more_is_tried() {
        let world = beyond(37);
        let mut known = None;
        for time in 0..=most_tries(100) {
            let (mut left, mut is_over) = (time, false);
            let found = search(100, &world(100), waiting, |number| {
                assert!(!is_over, "{number} is tried after the end");
                is_over = left == 0;
                left = left.checked_sub(1)?;
                Some(world(number))
            });
            let worth = found.map(|(most, waiting)| (waiting, Reverse(most)));
            assert_eq!(worth.is_some(), time > 0);
            if let (Some(before), Some(now)) = (&known, &worth) {
                assert!(now <= before, "{now:?} after {before:?}, with more time");
            }
            known = worth;
        }
        assert_eq!(known, Some((vec![0], Reverse(37))));
    }
}
