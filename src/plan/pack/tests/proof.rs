//! What a machine's content is said to be worth at most, held against every content that there is.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::super::problem::{Loads, take, times_into};
use super::super::proof::no_content_is_worth_more;
use super::super::{Bits, Item, Machine, Problem};
use super::problem;

/// The worth of the best content of a machine, by trying all.
fn best(problem: &Problem, machine: usize, prices: &[i64]) -> i128 {
    let free = problem.machines[machine].capacity.clone();
    best_from(problem, machine, prices, 0, &free, &Loads::default())
}

fn best_from(
    problem: &Problem,
    machine: usize,
    prices: &[i64],
    place: usize,
    free: &[i64],
    loads: &Loads,
) -> i128 {
    let Some(item) = problem.items.get(place) else {
        return 0;
    };
    let most = if item.allowed.contains(machine) {
        times_into(&item.size, free, item.count).min(loads.room(&item.relations))
    } else {
        0
    };
    (0..=most)
        .map(|count| {
            let (mut free, mut loads) = (free.to_vec(), loads.clone());
            take(&mut free, &item.size, count);
            loads.add(&item.relations, count);
            i128::from(prices[place]) * i128::from(count)
                + best_from(problem, machine, prices, place + 1, &free, &loads)
        })
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(31),
        ..ProptestConfig::default()
    })]

    /// A limit below the best content is never proven, and one at the best always is.
    #[test]
    fn what_is_proven_is_so(
        problem in problem(4, 5),
        prices in prop::collection::vec(0..3_000_i64, 4),
        worth in prop::collection::vec(0..4_000_i64, 6),
    ) {
        let prices = &prices[..problem.items.len()];
        let worth = &worth[..problem.dimensions];
        for machine in 0..problem.machines.len() {
            let best = best(&problem, machine, prices);
            let proven = |limit: i128| {
                no_content_is_worth_more(&problem, machine, prices, worth, limit, &mut 1_000_000).is_ok()
            };
            prop_assert!(proven(best), "machine {machine}: nothing is worth more than {best}");
            prop_assert!(best == 0 || !proven(best - 1), "machine {machine}: something is worth {best}");
        }
    }
}

/// What fills the worthless capacity is worth more for its size than what fills the dear one: the rates of
/// what comes after an item say nothing about one more of that item.
#[test]
fn one_more_of_an_item_may_be_worth_more_than_the_rates_of_the_next() {
    let item = |size: [i64; 2]| Item {
        size: size.to_vec(),
        count: 20,
        allowed: Bits::full(1),
        relations: Vec::new(),
    };
    let problem = Problem {
        dimensions: 2,
        items: vec![item([1, 5]), item([1, 0])],
        machines: vec![Machine {
            price: 500,
            capacity: vec![10, 100],
        }],
    };
    let found =
        no_content_is_worth_more(&problem, 0, &[100, 9], &[100, 2_000], 500, &mut 1_000_000);
    assert!(found.is_err(), "ten of the first are worth 1000");
}
